"""Forks the program's processes of one worker, one after the other, and cleans up behind each.

The next process is forked while the judge still talks to the host: it waits, isolated, for its program. The
nursery and everything a program's process inherits from it know neither programs nor tests.
"""

import contextlib
import gc
import os
import signal
import socket
import struct

from data.sandbox import kernel, limits, pages, pins, wire
from data.sandbox.core import Core
from data.sandbox.isolation import Isolation
from data.sandbox.namespaces import renew_scratch
from data.sandbox.program import Server, clean_interpreter, run_program, warm_up
from data.sandbox.reap import has_ended, kill_all
from data.sandbox.rehearsal import converse, make_requests
from data.sandbox.scratch import restore_folder

PID = struct.Struct("<i")
CREDENTIALS = struct.Struct("iII")
ENDING = struct.Struct("<iddq?")  # wait status, user and system CPU seconds, largest memory, all cleaned up
REHEARSALS = 8
BEGIN, HAS_EXITED, END = b"b", b"?", b"x"


def run_nursery(judge: socket.socket, output: int, isolation: Isolation) -> None:
    """Prepare the layers, report them, then raise one process at a time until the judge is gone."""
    if kernel.LINUX:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    if judge.recv(1) != BEGIN:  # the judge has looked at what it will not see in the new root
        raise wire.Closed
    isolation.prepare()
    isolation.settle(output)
    isolation.check()
    warm_up(isolation)
    clean_interpreter(isolation.options["seed"])
    server = Server(isolation)  # every program's process has its own copy
    gc.freeze()
    if kernel.LINUX:
        arrange_memory(server)
    limits.forbid_pins()
    kernel.hide_memory()  # only now: the pages of a child could not be looked at any more
    core = Core()
    wire.send_message(judge, isolation.report())
    while True:
        empty_scratch(isolation)
        pid, channel = raise_program(server)
        hand_over(judge, channel, pid, isolation.own_pids)
        os.close(channel)
        core.follow(look_after(judge, pid))
        judge.sendall(end(pid, isolation.own_pids))


def raise_program(server: Server) -> tuple[int, int]:
    """(pid, our end of the channel) of a new program's process."""
    ours, theirs = kernel.socket_pair()
    os.dup2(theirs, server.isolation.channel)
    os.close(theirs)
    pid = kernel.fork()
    if pid == 0:  # closes all descriptors but that one itself
        run_program(server)
    os.close(server.isolation.channel)
    return pid, ours


def arrange_memory(server: Server) -> None:
    """Make it cheap to fork this process again and again."""
    pages.merge_code()
    written = written_pages(server)
    pages.enlarge_memory()
    if written:
        pins.pin(written)


def written_pages(server: Server) -> set[int]:
    """The pages that a program's process writes whatever its program, or this process while there is one.
    Empty where the kernel does not say.

    To see them some processes are raised for no program; after the first the interpreter has adapted its
    code to this, too.
    """
    judge, ours = socket.socketpair()
    requests = make_requests()
    here, there = pins.Snapshot(), pins.Snapshot()
    with judge, ours, contextlib.suppress(OSError):
        for _ in range(REHEARSALS):
            empty_scratch(server.isolation)
            pid, channel = raise_program(server)
            try:
                hand_over(ours, channel, pid, server.isolation.own_pids)
                here.take("self")
                converse(channel, requests)
                there.take(pid)
            finally:
                os.close(channel)
                end(pid, server.isolation.own_pids)
    return here.pages() | there.pages()


def hand_over(judge: socket.socket, channel: int, pid: int, own_pids: bool) -> None:
    """Send the judge the channel to a new process and its number. Across a pid namespace the kernel
    translates the number, when it travels as credentials."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, PID.pack(channel))]
    if own_pids:
        credentials = CREDENTIALS.pack(pid, os.getuid(), os.getgid())
        ancillary.append((socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials))
    judge.sendmsg([PID.pack(pid)], ancillary)


def look_after(judge: socket.socket, pid: int) -> int:
    """Answer whether the process has exited, until the judge wants it ended; the number of its core."""
    while True:
        command = judge.recv(1)
        if command == END:
            return judge.recv(1)[0]
        if command != HAS_EXITED:
            raise wire.Closed
        judge.sendall(b"\1" if has_ended(pid) else b"\0")


def end(pid: int, own_pids: bool) -> bytes:
    """Kill the process, its group, and whatever else it started."""
    for kill, number in ((os.kill, -1),) if own_pids else ((os.killpg, pid), (os.kill, pid)):
        with contextlib.suppress(OSError):
            kill(number, signal.SIGKILL)
    _, status, use = os.wait4(pid, 0)
    clean = kill_all(own_pids)
    rss = use.ru_maxrss * (1024 if kernel.LINUX else 1)
    return ENDING.pack(status, use.ru_utime, use.ru_stime, rss, clean)


def empty_scratch(isolation: Isolation) -> None:
    """The next program finds nothing of the last one."""
    if isolation.own_root:
        if os.listdir(isolation.scratch):
            os.chdir("/")
            renew_scratch(isolation.options["scratch_mb"])
            os.chdir(isolation.scratch)
    else:  # the folder itself stays: Landlock's rule and the working directory hold on to it
        restore_folder(isolation.scratch)
        os.chdir(isolation.scratch)

"""One worker, three processes: a watchdog, a judge and a nursery; below the nursery one program's process
at a time.

    host ── zygote ── watchdog ─┬─ judge       holds the tests, asks, gives verdicts
                                └─ nursery ─── program's process, a new one for each program

The judge is no ancestor of a program's process, so nothing it has read is in a program's memory. The
nursery reads nothing at all. Where pid namespaces exist, the nursery is the first process of one, and the
judge is outside it.
"""

import contextlib
import os
import select
import signal
import socket
import traceback

from data.sandbox import kernel, wire
from data.sandbox.isolation import Isolation
from data.sandbox.judge import run_judge
from data.sandbox.nursery import run_nursery
from data.sandbox.reap import has_ended, kill_all


def run_worker(control: socket.socket, options: dict) -> None:
    """The watchdog. Ends, and takes everything below with it, when the host hangs up or a child dies."""
    kernel.die_with_parent()
    if kernel.LINUX:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    isolation = Isolation(options["folder"], options)
    upper, lower = socket.socketpair()
    output = open_output(options["folder"])
    status = -1
    try:
        isolation.leave_host()
        judge = start(control, (lower,), run_judge, control, upper, output, isolation)
        isolation.leave_processes()
        nursery = start(control, (control, upper), run_nursery, lower, output, isolation)
        upper.close()
        lower.close()
        watch(control, [judge, nursery])
        status = ending(judge)
        for pid in (nursery, judge):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    except BaseException:
        tell(control, {"broken": traceback.format_exc()[-1000:]})
    kill_all(False)
    tell(control, {"lost": status})
    os._exit(0)


def start(control: socket.socket, unneeded: tuple, run: object, *arguments: object) -> int:
    """Fork a process that runs `run(*arguments)` and never returns. Gives its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            kernel.die_with_parent()
            for one in unneeded:
                one.close()
            run(*arguments)
            status = 0
        except wire.Closed:
            status = 0
        except BaseException:
            tell(control, {"broken": traceback.format_exc()[-1000:]})
        os._exit(status)
    return pid


def tell(control: socket.socket, message: dict) -> None:
    with contextlib.suppress(OSError):
        wire.send_message(control, message)


def open_output(folder: str) -> int:
    """Where programs print: a file in memory, capped by RLIMIT_FSIZE, so nobody has to read it as they
    write."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("output")
    path = os.path.join(folder, "output")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(path)
    return descriptor


def watch(control: socket.socket, children: list[int]) -> None:
    """Wait for the host to hang up or a child to end."""
    poll = select.poll()
    poll.register(control, 0)  # hang-up is reported whatever is asked for
    try:
        for pid in children:
            poll.register(os.pidfd_open(pid), select.POLLIN)
        poll.poll()
    except (AttributeError, OSError):
        while not poll.poll(200) and not any(map(has_ended, children)):
            pass


def ending(pid: int) -> int:
    """Wait status of a child that has ended, -1 of one that has not."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else -1

"""One worker: a watchdog and, below it, a single-threaded process that forks a judge for each program.

The worker never reads a job: a program it had read would stay in the memory of every later program's process.
It waits until something arrives, forks a judge which reads it, and cleans up when the judge has gone.
"""

import contextlib
import os
import select
import signal
import socket
import traceback

from data.sandbox import kernel, wire
from data.sandbox.isolation import Isolation
from data.sandbox.judge import judge_one
from data.sandbox.namespaces import renew_scratch
from data.sandbox.reap import kill_all
from data.sandbox.scratch import remove_tree


def run_worker(control: socket.socket, options: dict) -> None:
    """The watchdog. Ends, and takes everything below with it, when the host closes `control` or the worker
    dies."""
    kernel.die_with_parent()
    if kernel.LINUX:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    isolation = Isolation(options["folder"], options)
    try:
        isolation.leave_host()
        pid = os.fork()
    except BaseException:
        wire.send_message(control, {"broken": traceback.format_exc()[-1000:]})
        os._exit(1)
    if pid == 0:
        try:
            serve(control, isolation)
        except BaseException:
            with contextlib.suppress(OSError):
                wire.send_message(control, {"broken": traceback.format_exc()[-1000:]})
        os._exit(0)
    watch(control, pid)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    kill_all(False)
    os._exit(0)


def watch(control: socket.socket, pid: int) -> None:
    """Wait for the host to hang up or the worker to end."""
    poll = select.poll()
    poll.register(control, 0)  # hang-up is reported whatever is asked for
    try:
        poll.register(os.pidfd_open(pid), select.POLLIN)
        poll.poll()
    except (AttributeError, OSError):
        while not poll.poll(200):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return


def serve(control: socket.socket, isolation: Isolation) -> None:
    """Prepare the layers, then one judge after another."""
    kernel.die_with_parent()
    if kernel.LINUX:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    isolation.prepare()
    kernel.hide_memory()
    isolation.check()
    wire.send_message(control, {"ready": {"active": isolation.active, "missing": isolation.missing}})
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        poll.poll()
        if not control.recv(1, socket.MSG_PEEK):
            return
        empty_scratch(isolation)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                judge_one(control, isolation)
                status = 0
            except BaseException:
                with contextlib.suppress(OSError):
                    wire.send_message(control, {"broken": traceback.format_exc()[-1000:]})
            os._exit(status)
        _, status = os.waitpid(pid, 0)
        clean = kill_all(isolation.own_pids)
        if status or not clean:
            wire.send_message(control, {"lost": status, "clean": clean})
            return
        wire.send_message(control, {"done": True})


def empty_scratch(isolation: Isolation) -> None:
    """The next program finds nothing of the last one."""
    if not os.listdir(isolation.scratch):
        return
    if isolation.own_root:
        renew_scratch(isolation.options["scratch_mb"])
    else:
        remove_tree(isolation.scratch)
        os.mkdir(isolation.scratch, 0o700)

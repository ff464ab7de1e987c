"""The warm process all workers are forked from: modules imported once, one thread, nothing of value in
memory.

Started by the host as a fresh interpreter with a clean environment; ends when the host's end of its socket
closes.
"""

import array
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time

from data.sandbox import cgroup, kernel, pages, wire
from data.sandbox.scratch import remove_tree
from data.sandbox.worker import run_worker


def main(number: int, root: str, extra: str) -> None:
    """`extra`: modules to have beside the usual ones, if they are installed, with commas."""
    control = socket.socket(fileno=number)
    for name in filter(None, extra.split(",")):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    remove_tree(os.path.join(os.environ["TMPDIR"], "bytecode"))
    sys.path[:] = [path for path in sys.path if path and os.path.abspath(path) != root]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if kernel.LINUX:
        pages.enlarge_code()
    gc.collect()
    gc.freeze()
    gc.disable()
    wire.send_message(control, {"ready": True, "python": sys.version.split()[0]})
    serve(control, root)


def serve(control: socket.socket, root: str) -> None:
    """Fork a worker for each request: a header, then the worker's own socket as a descriptor."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        ready = poll.poll(1000)
        reap()
        if not ready:
            continue
        try:
            options, _ = wire.read_message(control)
        except (wire.Closed, OSError):
            leave()
            return
        _, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(4))
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        connection = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            control.close()
            run_worker(connection, options | {"root": root})
        connection.close()


def leave() -> None:
    """The host is gone, perhaps killed: wait for the workers to end, then delete what it made."""
    end = time.monotonic() + 5
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            cgroup.leave(pid) if pid else time.sleep(0.005)
    remove_tree(os.environ["TMPDIR"])


def reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            cgroup.leave(pid)

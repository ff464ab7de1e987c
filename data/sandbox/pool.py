"""The host's side: one zygote, as many workers as wanted, jobs in, raw results out as they come.

No thread and no fork in the host process: it may hold a model, a GPU context and threads. One `select` loop
serves all workers. A worker that dies is replaced and its job tried once more; then the result is
`internal_error`.
"""

import array
import collections
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.sandbox import wire
from data.sandbox.clock import HARD_EXTRA, HARD_FACTOR
from data.sandbox.scratch import remove_tree

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0  # a cold import of NumPy on a busy disk
ATTEMPTS = 2
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LD_BIND_NOW": "1",  # else every program's process looks up the same functions of the C library again
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
START = (
    "import sys; sys.path[0] = sys.argv[2]; from data.sandbox.warm import main; main(); "
    "from data.sandbox.zygote import main; main(int(sys.argv[1]), sys.argv[2], sys.argv[3])"
)


@dataclass(frozen=True)
class Task:
    """One program as it travels: `job` is for the judge and the program, `tests` for the judge alone.

    `modules`: what the program's process should have imported (a zygote of its own has).
    """

    key: Hashable
    job: dict
    tests: dict
    attachments: tuple[bytes, ...]
    modules: str = ""


@dataclass
class Worker:
    home: "Zygote"
    control: socket.socket
    folder: str
    task: Task | None = None
    attempt: int = 0
    deadline: float = 0.0
    result: dict | None = None

    def give(self, task: Task, attempt: int) -> None:
        self.task, self.attempt, self.result = task, attempt, None
        job = task.job
        wall = HARD_FACTOR * job["seconds"] + HARD_EXTRA + 6 * job["judge_seconds"]
        self.deadline = time.monotonic() + wall
        wire.send_message(self.control, {"job": job, "tests": task.tests}, *task.attachments)

    def close(self) -> None:
        self.control.close()
        remove_tree(self.folder)


class Zygote:
    """The warm process and its idle workers. Close it, or let `atexit` do so."""

    def __init__(self, options: dict, modules: str = "") -> None:
        """`options` are for the workers; `modules`, with commas, are imported beside the usual ones."""
        self.options, self.modules, self.owner = options, modules, os.getpid()
        self.folder = tempfile.mkdtemp(prefix="sandbox-")
        self.idle: list[Worker] = []
        self.made = 0
        self.report: dict = {}
        self.start()

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-s", "-c", START, str(theirs.fileno()), str(ROOT), self.modules],
                pass_fds=[theirs.fileno()],
                env=ENVIRONMENT | {"HOME": self.folder, "TMPDIR": self.folder},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            theirs.close()
            self.control = ours
            ours.settimeout(START_SECONDS)
            try:
                self.about, _ = wire.read_message(ours)
            except (wire.Closed, OSError) as error:
                self.process.kill()
                self.process.wait()
                errors.seek(0)
                text = errors.read()[-2000:].decode("utf-8", "replace").strip()
                last = text.splitlines()[-1] if text else f"{type(error).__name__}: no answer"
                raise OSError(f"the sandbox's zygote did not start ({sys.executable}): {last}") from None

    def worker(self) -> Worker:
        """An idle worker, or a new one."""
        while self.idle:
            worker = self.idle.pop()
            if is_open(worker.control):
                return worker
            worker.close()
        if self.process.poll() is not None:
            self.control.close()
            self.start()
        self.made += 1
        folder = os.path.join(self.folder, f"worker{self.made}")
        os.mkdir(folder, 0o700)
        ours, theirs = socket.socketpair()
        wire.send_message(self.control, self.options | {"folder": folder})
        self.control.sendmsg(
            [b"w"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]).tobytes())]
        )
        theirs.close()
        ours.settimeout(START_SECONDS)
        try:
            message, _ = wire.read_message(ours)
        except (wire.Closed, OSError):
            message = {"broken": "a sandbox worker ended while it started"}
        if "broken" in message:
            ours.close()
            raise OSError(f"a sandbox worker did not start: {message['broken'].strip().splitlines()[-1]}")
        self.report = message["ready"]
        return Worker(self, ours, folder)

    def close(self) -> None:
        if self.owner != os.getpid():  # a fork of the host: the zygote is not ours to end
            return
        for worker in self.idle:
            worker.close()
        self.idle.clear()
        self.control.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        remove_tree(self.folder)


def is_open(control: socket.socket) -> bool:
    """Nothing has arrived and the other end has not hung up."""
    try:
        control.setblocking(False)
        control.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        control.settimeout(START_SECONDS)
        return True
    except OSError:
        return False
    return False


def run_tasks(
    tasks: Iterable[Task], zygote_with: Callable[[str], Zygote], workers: int
) -> Iterator[tuple[Hashable, dict]]:
    """(key, raw result) of each task, as they finish. Tasks are taken one at a time, when a worker is free.

    `zygote_with(modules)` is the zygote for a task's modules.
    """
    tasks = iter(tasks)
    again: collections.deque[tuple[Task, int]] = collections.deque()
    selector = selectors.DefaultSelector()
    finished: list[tuple[Hashable, dict]] = []
    exhausted = False
    by_socket: dict[socket.socket, Worker] = {}
    try:
        while True:
            while len(by_socket) < workers:
                task, attempt = again.popleft() if again else (None if exhausted else next(tasks, None), 0)
                if task is None:
                    exhausted = True
                    break
                worker = zygote_with(task.modules).worker()
                try:
                    worker.give(task, attempt)
                except OSError:
                    lose(worker, again, finished, "the worker hung up")
                    continue
                by_socket[worker.control] = worker
                selector.register(worker.control, selectors.EVENT_READ)
            if finished:
                yield from finished
                finished.clear()
                continue
            if not by_socket:
                return
            nearest = min(worker.deadline for worker in by_socket.values())
            events = selector.select(max(0.0, nearest - time.monotonic()))
            now = time.monotonic()
            ready = {key.fileobj for key, _ in events}
            for control, worker in list(by_socket.items()):
                state = "late" if worker.deadline < now else "busy"
                if control in ready:
                    state = listen(worker)
                if state == "busy":
                    continue
                selector.unregister(control)
                del by_socket[control]
                if state in ("done", "leaving"):
                    finished.append((worker.task.key, worker.result))
                    worker.home.idle.append(worker) if state == "done" else worker.close()
                else:
                    lose(worker, again, finished, state)
    finally:
        for worker in by_socket.values():
            worker.close()
        selector.close()


def listen(worker: Worker) -> str:
    """Read one message of a worker: done, leaving (done, but its last), or why the worker is lost."""
    try:
        message, _ = wire.read_message(worker.control)
    except (wire.Closed, OSError, ValueError) as error:
        return f"the worker ended ({type(error).__name__})"
    if "result" in message:
        worker.result = message["result"]
        if worker.result["verdict"] == "internal_error":
            return worker.result["detail"]
        return "leaving" if message["leaving"] else "done"
    if "lost" in message:
        if os.WIFSIGNALED(message["lost"]) and os.WTERMSIG(message["lost"]) == signal.SIGXCPU:
            worker.result = {"verdict": "timeout", "detail": "the tests used up sandbox.judge_seconds"}
        return f"the judge ended with status {message['lost']}"
    return str(message.get("broken", "unknown message"))[-300:]


def lose(worker: Worker, again: collections.deque, finished: list, reason: str) -> None:
    """A worker is gone: keep its verdict if it had one, try its task again, or give up on the task."""
    worker.close()
    task = worker.task
    if worker.result is not None and worker.result["verdict"] != "internal_error":
        finished.append((task.key, worker.result))
    elif worker.attempt + 1 < ATTEMPTS:
        again.append((task, worker.attempt + 1))
    else:
        finished.append((task.key, {"verdict": "internal_error", "detail": reason.replace("\n", " ")[-300:]}))

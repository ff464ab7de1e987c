"""The trusted process of a worker: takes a program and its tests from the host, gives back a verdict.

It is no ancestor of the program's process, which the nursery forked, and asks it for answers only. It goes
on to the next program unless the tests have left it unlike it was.
"""

import contextlib
import gc
import os
import resource
import socket
import sys
import threading
import time
import traceback

from data.sandbox import wire
from data.sandbox.clock import RunQueue
from data.sandbox.core import Core
from data.sandbox.handover import operate_on_tests
from data.sandbox.isolation import Isolation
from data.sandbox.nursery import BEGIN
from data.sandbox.session import Outcome, Session
from data.sandbox.trial import Trial

JUDGE_MEMORY_MB = 1024  # beside what a program may have: its answers fit, and little more
JUDGE_RECURSION = 20_000


def run_judge(control: socket.socket, nursery: socket.socket, output: int, isolation: Isolation) -> None:
    """Judge what the host sends until it hangs up, or until the tests have left this process unlike it
    was."""
    if hasattr(socket, "SO_PASSCRED"):
        nursery.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    queue, core = RunQueue(), Core()
    nursery.sendall(BEGIN)
    report, _ = wire.read_message(nursery)
    isolation.enter_judge()
    wire.send_message(control, {"ready": report})
    gc.enable()
    while True:
        message, attachments = wire.read_message(control)
        result = judge_one(
            message["job"], message["tests"], attachments, nursery, output, report, queue, core
        )
        unspoilt = not result.pop("strained") and not message["tests"]["spoils"]
        clean = unspoilt and threading.active_count() == 1
        wire.send_message(control, {"result": result, "leaving": not clean})
        if not clean:
            return


def judge_one(
    job: dict,
    tests: dict,
    attachments: list,
    nursery: socket.socket,
    output: int,
    report: dict,
    queue: RunQueue,
    core: Core,
) -> dict:
    """One program from its arrival to its result."""
    started = time.monotonic()
    limit_judge(job)
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    session = Session(nursery, output, job, report, operate_on_tests, queue, core)
    try:
        outcome = Trial(session, tests, attachments).outcome()
    except Exception as error:
        session.strained = True
        outcome = Outcome("internal_error", type(error).__name__, short_traceback(error))
    finally:
        use = session.close()
    return (
        use
        | session.counts
        | {
            "verdict": outcome.verdict,
            "kind": printable(outcome.kind, 80),
            "detail": printable(outcome.detail, 300),
            "strained": session.strained,
            "wall": round(time.monotonic() - started, 6),
        }
    )


def limit_judge(job: dict) -> None:
    """The tests may not run for ever either, whatever the program's answers make them do."""
    sys.setrecursionlimit(JUDGE_RECURSION)
    use = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(use.ru_utime + use.ru_stime + job["judge_seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    with contextlib.suppress(OSError, ValueError):
        size = (job["memory_mb"] + JUDGE_MEMORY_MB) << 20
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def printable(text: str, length: int) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text)[: 2 * length])[:length]


def short_traceback(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__}: {error} at {where}"

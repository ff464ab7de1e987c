"""The repository's programs, each in a process forked from one that has imported them.

Importing torch costs some CPU seconds, which a comparison of hundreds of short runs would pay each time. A
fork server (Python's own, one quiet thread) pays once; what a program computes is the same as from a shell.
"""

import json
import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from data.execution import close_zygotes

IMPORTED = ["train_dpo", "train_sft", "evaluate", "data.collect"]


def cpu_seconds() -> float:
    """Of this process and of the children it has waited for."""
    return sum(os.times()[:4])


def body(arguments: Sequence[str], log: Path, cost: Path | None) -> None:
    """What the forked process does: become the program, all it says into `log`, its CPU time into `cost`."""
    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    start = cpu_seconds()
    try:
        if arguments[0] == "-m":
            sys.argv = list(arguments[1:])
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        close_zygotes()  # a forked process leaves without the interpreter's exit handlers
    if cost is not None:
        known = json.loads(cost.read_text()) if cost.exists() else {}
        name = arguments[1].split(".")[-1] if arguments[0] == "-m" else Path(arguments[0]).stem
        used = round(cpu_seconds() - start, 2)
        cost.write_text(json.dumps(known | {name: max(used, known.get(name, 0.0))}))


def run(arguments: Sequence[str], log: Path, threads: int = 1, cost: Path | None = None) -> str | None:
    """Run `train_dpo.py ...` or `-m variants.x ...`; None, or the last line of what it said when it failed.

    cost: a JSON file in which the program's name maps to its CPU seconds, start-up not counted; where it ran
    more than once, to the most: finding a finished result again costs next to nothing.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the fork server when it starts
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=body, args=(list(arguments), log, cost))
    process.start()
    process.join()
    if process.exitcode == 0:
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"exit code {process.exitcode}: {lines[-1] if lines else 'no output'} ({log})"

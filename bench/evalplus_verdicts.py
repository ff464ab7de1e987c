"""EvalPlus's command beside ours, on one file of problems and one file of samples: verdict for verdict.

    python -m bench.evalplus_verdicts humaneval          # or mbpp_sanitized; needs the evalplus package

The published + files are not needed: a file of EvalPlus's own form is written, whose base inputs are recorded
while the benchmark's tests run and whose extra inputs are variations of these. `evalplus.evaluate` and
`evaluate.py` then score the same samples (bench/answers.py) from these files, each by its own command.
"""

import argparse
import contextlib
import copy
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.answers import DIFFERENT, answers
from data.evalplus import restored
from data.evalplus_oracle import NOT_NONE
from data.evalplus_reference import run_reference
from data.jsonl import read_jsonl, write_jsonl
from data.problems import load_problems
from data.types import Problem

ROOT = Path(__file__).parent.parent
BASE, PLUS = 12, 25  # inputs of a problem at most
FILES = {"humaneval": "HumanEvalPlus", "mbpp_sanitized": "MbppPlus"}
DATASETS = {"humaneval": "humaneval", "mbpp_sanitized": "mbpp"}
BROKEN = ("HumanEval/32",)  # release 0.3.1 fails whatever answers it


def recorded_inputs(problem: Problem) -> list[list]:
    """Arguments with which the problem's test calls the function. The reference solution runs in here."""
    inputs: list[list] = []
    namespace: dict = {"__name__": "recorded"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(problem.prompt + problem.canonical_solution, namespace)
        function = namespace[problem.entry_point]

        def recorder(*arguments: object) -> object:
            inputs.append(copy.deepcopy(list(arguments)))
            return function(*arguments)

        exec(problem.test, namespace)
        namespace["check"](recorder)
    return inputs


def as_json(value: object) -> object:
    """As EvalPlus writes inputs: tuples and sets are lists, complex numbers are text."""
    if isinstance(value, (list, tuple, set)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return str(value) if isinstance(value, complex) else value


def varied(value: object, rng: random.Random) -> object:
    """A neighbour of a JSON value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, -value, value * 2, 0, value * 10, value])
    if isinstance(value, float):
        return rng.choice([value + 0.5, -value, value / 3, float(round(value)), value * 1e6, value])
    if isinstance(value, dict):
        return {key: varied(item, rng) for key, item in value.items() if rng.random() < 0.9}
    if not isinstance(value, (str, list)) or not value:
        return value
    at = rng.randrange(len(value))
    one = value[at : at + 1]
    if isinstance(value, list) and rng.random() < 0.6:
        one = [varied(value[at], rng)]
    return rng.choice(
        [value[:at] + one + value[at + 1 :], value[:at] + one + value[at:], value[:at], value[::-1]]
    )


def usable(problem: Problem, given: list, seconds: float = 0.05) -> bool:
    """Whether the reference solution answers this input, soon and with a storable value."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        source = problem.prompt + problem.canonical_solution
        arguments = restored(problem.task_id, json.loads(json.dumps(given)))
        only_not_none = problem.entry_point in NOT_NONE
        outputs, _ = run_reference(source, problem.entry_point, [arguments], only_not_none)
        return len(repr(outputs)) < 100_000
    except (Exception, SystemExit):  # one reference solution leaves on negative ages
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def native_row(problem: Problem, rng: random.Random) -> dict | None:
    """The problem as a line of an EvalPlus file; None when none of its inputs survives JSON."""
    base = [given for given in map(as_json, recorded_inputs(problem)) if usable(problem, given)][:BASE]
    if not base:
        return None
    plus = []
    for _ in range(4 * PLUS):
        given = [varied(value, rng) for value in rng.choice(base)]
        if len(plus) < PLUS and usable(problem, given):
            plus.append(given)
    mbpp = problem.task_id.startswith("Mbpp/")
    row = {
        "task_id": problem.task_id,
        "prompt": problem.prompt,
        "entry_point": problem.entry_point,
        "canonical_solution": ("\n" if mbpp else "") + problem.canonical_solution + "\n",
        "contract": "\n",
        "base_input": base,
        "plus_input": plus,
        "atol": 1e-4 if problem.entry_point == "find_zero" else 0,
    }
    return row | ({"assertion": "\n".join(problem.meta["test_list"])} if mbpp else {})


def write_inputs(folder: Path, name: str, kinds: int, every: int, only: int) -> tuple[Path, Path, list[str]]:
    """(problems, samples, kind of each sample) in `folder`."""
    rng = random.Random(0)
    problems = load_problems(name)[:only]
    rows = [row for problem in problems if (row := native_row(problem, rng))]
    samples, names = [], []
    for number, row in enumerate(rows):
        solution = row["prompt"] + row["canonical_solution"]
        for kind, text in answers(solution, row["entry_point"], rng, kinds, number % every == 0):
            names.append(kind)
            samples.append({"task_id": row["task_id"], "solution": text})
        names.append("completion")
        samples.append({"task_id": row["task_id"], "completion": row["canonical_solution"]})
    write_jsonl(folder / f"{FILES[name]}.jsonl", rows)
    write_jsonl(folder / "samples.jsonl", samples)
    return folder / f"{FILES[name]}.jsonl", folder / "samples.jsonl", names


def command(folder: Path, *arguments: str, **environment: str) -> float:
    """Run a command with `folder` as home; seconds. Its output goes to the terminal only if it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")} | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.perf_counter() - start


def their_verdicts(folder: Path, name: str, problems: Path, samples: Path) -> tuple[list[dict], float]:
    """EvalPlus's row of each sample, in the order of the file, under its repository's 4 s a test."""
    seconds = command(
        folder, "-m", "evalplus.evaluate", "--dataset", DATASETS[name], "--samples", str(samples),
        "--min_time_limit", "4.0", "--parallel", "2",
        **{f"{DATASETS[name].upper()}_OVERRIDE_PATH": str(problems)},
    )  # fmt: skip
    found = json.loads(samples.with_name("samples_eval_results.json").read_text())["eval"]
    left = {task_id: iter(rows) for task_id, rows in found.items()}
    return [next(left[row["task_id"]]) for row in read_jsonl(samples)], seconds


def our_verdicts(folder: Path, problems: Path, samples: Path) -> tuple[list[dict], float]:
    seconds = command(
        folder, "evaluate.py", f"samples={samples}", f"benchmark={problems}", f"run.home={folder}/out",
        "sandbox.workers=2",
    )  # fmt: skip
    return read_jsonl(folder / "out" / f"samples-{problems.stem}" / "results.jsonl"), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=FILES)
    parser.add_argument("--kinds", type=int, default=12, help="awkward answers of each problem")
    parser.add_argument("--every", type=int, default=20, help="one problem in so many gets endless loops")
    parser.add_argument("--only", type=int, help="the first so many problems")
    parser.add_argument("--keep", type=Path, help="a folder for the files; else they are thrown away")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.keep or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        problems, samples, kinds = write_inputs(folder, given.name, given.kinds, given.every, given.only)
        ours, our_seconds = our_verdicts(folder, problems, samples)
        theirs, their_seconds = their_verdicts(folder, given.name, problems, samples)
    report(kinds, ours, theirs)
    print(f"seconds: {our_seconds:.0f} here, {their_seconds:.0f} there")


def report(kinds: list[str], ours: list[dict], theirs: list[dict]) -> None:
    """What passes on each side, and every sample on which the two differ."""
    tasks = len({row["task_id"] for row in ours})
    print(f"{len(ours)} samples of {tasks} problems, {len(set(kinds))} kinds of answers")
    for side in ("base", "plus"):
        passed = [sum(verdicts) for verdicts in (
            [row[side] == "passed" for row in ours], [row[f"{side}_status"] == "pass" for row in theirs]
        )]  # fmt: skip
        print(f"{side}: {passed[0]} pass here, {passed[1]} there")
    expected, unexpected = Counter(), []
    for kind, here, there in zip(kinds, ours, theirs, strict=True):
        for side in ("base", "plus"):
            if (here[side] == "passed") == (there[f"{side}_status"] == "pass"):
                continue
            if kind in DIFFERENT or here["task_id"] in BROKEN:
                expected[here["task_id"] if here["task_id"] in BROKEN else kind] += 1
                continue
            unexpected.append(
                f"  {here['task_id']} sample {here['sample']} ({kind}) {side}: "
                f"{there[f'{side}_status']} there, {here[side]} here ({here['kind']} {here['detail'][:80]})"
            )
    print("differ as documented:", dict(expected))
    print(f"differ otherwise: {len(unexpected)} of {2 * len(ours)}", *unexpected, sep="\n")


if __name__ == "__main__":
    main()

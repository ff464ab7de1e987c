"""HumanEval+ v0.1.10 and MBPP+ v0.2.0 from EvalPlus's own files: inputs, and the reference's answers.

The files hold no expected answers. `with_tests` computes them once, with the reference solution in a process
of its own (data/evalplus_reference.py), keeps them in the cache folder, and writes the tests: one for the
original inputs ("base"), one for the extra ones; a program passes "plus" when it passes both. Inputs and
answers travel to the judge inside the test text; the program under test sees one input at a time.

JSON has no tuples, sets or complex numbers, so MBPP+ inputs are restored per task (`restored`).
"""

import base64
import io
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from data.evalplus_oracle import NOT_NONE
from data.jsonl import digest
from data.types import Problem

HERE = Path(__file__).parent
KEYS = (
    "task_id",
    "prompt",
    "entry_point",
    "canonical_solution",
    "contract",
    "base_input",
    "plus_input",
    "atol",
)
PER_INPUT_SECONDS, REFERENCE_FACTOR, PER_TASK_SECONDS = 4.0, 4.0, 60.0  # EvalPlus's repository defaults
SAFE_GLOBALS = {
    ("builtins", name) for name in ("set", "frozenset", "complex", "bytearray", "range", "slice")
} | {
    ("collections", "deque"),
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}


def evalplus_problem(row: dict, where: str) -> Problem:
    """A row of a native file. Its `test` stays empty until `with_tests` has the reference answers."""
    missing = [key for key in KEYS if key not in row]
    if missing:
        raise ValueError(f"{where}: no {', '.join(missing)}; EvalPlus's files have {', '.join(KEYS)}")
    benchmark = "mbpp" if row["task_id"].startswith("Mbpp/") else "humaneval"
    inputs = {
        name: [restored(row["task_id"], arguments) for arguments in row[f"{name}_input"]]
        for name in ("base", "plus")
    }
    return Problem(
        task_id=row["task_id"],
        prompt=row["prompt"],
        test="",
        entry_point=row["entry_point"],
        canonical_solution=row["canonical_solution"],
        split="test",
        meta={"benchmark": benchmark, "inputs": inputs, "atol": row["atol"], "contract": row["contract"]},
    )


# ---------------------------------------------------------------------------------- inputs of MBPP+


def same(value: object) -> object:
    return value


def each(restore: Callable) -> Callable:
    """Apply to every item of a list."""
    return lambda items: [restore(item) for item in items]


def tuple_of_tuples(items: list) -> tuple:
    return tuple(tuple(item) for item in items)


def deep_tuple(value: object) -> object:
    return tuple(deep_tuple(item) for item in value) if isinstance(value, list) else value


def tuple_items(items: list) -> tuple:
    return tuple(tuple(item) if isinstance(item, list) else item for item in items)


def set_or_empty_dict(item: object) -> object:
    return set(item) if isinstance(item, list) and item else {}


def tuple_values(mapping: dict) -> dict:
    return {key: tuple(value) for key, value in mapping.items()}


def restorers() -> dict[int, tuple[Callable, Callable]]:
    """MBPP task number -> how to restore its first argument, and its other arguments."""
    table = [
        (
            (tuple, tuple),
            "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
        ),
        ((each(tuple), each(tuple)), "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780"),
        ((each(tuple), same), "75 413 444 753"),
        ((same, tuple), "106 750"),
        ((each(set_or_empty_dict), same), "115"),
        ((float, complex), "124"),
        ((tuple, same), "250 307 405 446 617 720 763 808"),
        ((complex, same), "252"),
        ((tuple_of_tuples, tuple_of_tuples), "259 401 445"),
        ((tuple_items, tuple_items), "278"),
        ((deep_tuple, deep_tuple), "580 615 791"),
        ((tuple_values, same), "722"),
    ]
    return {int(number): pair for pair, numbers in table for number in numbers.split()}


RESTORERS = restorers()


def restored(task_id: str, arguments: list) -> list:
    """Arguments of one call with the types the task's reference solution takes."""
    benchmark, _, number = task_id.partition("/")
    if benchmark != "Mbpp" or int(number) not in RESTORERS:
        return arguments
    first, others = RESTORERS[int(number)]
    return [first(arguments[0]), *map(others, arguments[1:])]


# ----------------------------------------------------------------------------- expected answers and tests


class PlainUnpickler(pickle.Unpickler):
    """Reads containers and numbers only: what a reference solution answers is data, never code."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"a reference answer holds a {module}.{name}; plain data expected")
        return super().find_class(module, name)


def with_tests(problems: Iterable[Problem], cache: Path, workers: int = 2) -> list[Problem]:
    """The same problems with `meta["tests"]` and `meta["seconds"]` (limits), for "base" and "plus" inputs.

    Problems that have a test already come back unchanged. Slow on first use: reference solutions are run.
    """
    problems = list(problems)
    todo = [problem for problem in problems if not problem.test]
    if not todo:
        return problems
    with ThreadPoolExecutor(workers) as pool:
        done = list(
            tqdm(
                pool.map(lambda problem: with_test(problem, cache), todo),
                total=len(todo),
                desc="reference answers",
                disable=None,
            )
        )
    ready = {problem.task_id: problem for problem in done}
    return [ready.get(problem.task_id, problem) for problem in problems]


def with_test(problem: Problem, cache: Path) -> Problem:
    tests, limits = {}, {}
    for name, inputs in problem.meta["inputs"].items():
        expected, seconds = expected_answers(problem, inputs, cache / "expected")
        tests[name] = test_text(problem, list(zip(inputs, expected, strict=True)))
        limits[name] = time_limit(seconds)
    return replace(problem, test=tests["plus"], meta=problem.meta | {"tests": tests, "seconds": limits})


def time_limit(reference_seconds: list[float]) -> float:
    """Seconds for all inputs of a task: max(4, 4 x reference) each, 60 together, and one of slack."""
    each_input = (max(PER_INPUT_SECONDS, REFERENCE_FACTOR * seconds) for seconds in reference_seconds)
    return min(PER_TASK_SECONDS, sum(each_input)) + 1


def expected_answers(problem: Problem, inputs: list, folder: Path) -> tuple[list, list[float]]:
    """(answers, seconds) of the reference solution, from the cache folder or computed and kept there."""
    only_not_none = problem.meta["benchmark"] == "mbpp" and problem.entry_point in NOT_NONE
    source = problem.prompt + problem.canonical_solution
    # repr, not JSON: a tuple and a list are different inputs.
    path = folder / f"{digest(source, problem.entry_point, repr(inputs), only_not_none)}.pickle"
    if path.exists():
        content = path.read_bytes()
    else:
        job = pickle.dumps((source, problem.entry_point, inputs, only_not_none))
        content = reference_process(problem.task_id, job)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
    return PlainUnpickler(io.BytesIO(content)).load()


def reference_process(task_id: str, job: bytes) -> bytes:
    """Run data/evalplus_reference.py on a job; an error of the reference solution is an error of the file."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(HERE / "evalplus_reference.py")],
            input=job,
            capture_output=True,
            timeout=600,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{task_id}: the reference solution ran for ten minutes; is the problem file right?"
        ) from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"{task_id}: the reference solution fails on the file's inputs: {' '.join(last)}")
    return done.stdout


def test_text(problem: Problem, cases: list) -> str:
    """A test in HumanEval's form: the oracle's source, the packed cases, `check`."""
    packed = base64.b64encode(zlib.compress(pickle.dumps(cases))).decode()
    return (
        (HERE / "evalplus_oracle.py").read_text(encoding="utf-8")
        + "\n\nimport base64, pickle, zlib\n\n"
        + f"CASES = pickle.loads(zlib.decompress(base64.b64decode({packed!r})))\n\n\n"
        + "def check(candidate):\n"
        + f"    check_cases(candidate, {problem.meta['benchmark']!r}, {problem.entry_point!r}, CASES, "
        + f"{problem.meta['atol']!r})\n"
    )

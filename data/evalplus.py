"""HumanEval+ v0.1.10 and MBPP+ v0.2.0 from EvalPlus's own files: inputs, and the reference's answers.

The files hold no expected answers. `with_tests` computes them once, with the reference solution in a process
of its own (data/evalplus_reference.py), keeps them in the cache folder, and writes the tests: one for the
original inputs ("base"), one for the extra ones; a program passes "plus" when it passes both. The judge gets
inputs and answers as data beside the test; the program under test sees one input at a time.

JSON has no tuples, sets or complex numbers, so MBPP+ inputs are restored per task (`restored`).
"""

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from data.evalplus_oracle import NOT_NONE
from data.execution import encode_data
from data.jsonl import digest, write_json
from data.sandbox.pool import ENVIRONMENT
from data.sandbox.prepare import check_tests
from data.types import Problem

HERE = Path(__file__).parent
REFERENCE = (HERE / "evalplus_reference.py").read_text(encoding="utf-8")
KEYS = {
    "task_id": str,
    "prompt": str,
    "entry_point": str,
    "canonical_solution": str,
    "contract": str,
    "base_input": list,
    "plus_input": list,
    "atol": (int, float),
}
PER_INPUT_SECONDS, REFERENCE_FACTOR, PER_TASK_SECONDS = 4.0, 4.0, 60.0  # EvalPlus's repository defaults
REFERENCE_SECONDS = 600
PLAIN_TYPES = "bool bytearray bytes complex dict float frozenset int list range set slice str tuple"
SAFE_GLOBALS = {("builtins", name) for name in PLAIN_TYPES.split()} | {
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
    for name, expected in KEYS.items():
        if not isinstance(row[name], expected):
            raise ValueError(
                f"{where}: {name} is a {type(row[name]).__name__}, as no file of EvalPlus has it"
            )
    benchmark = "mbpp" if row["task_id"].startswith("Mbpp/") else "humaneval"
    inputs = {name: restored_inputs(row["task_id"], row[f"{name}_input"], where) for name in ("base", "plus")}
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


def restored_inputs(task_id: str, inputs: list, where: str) -> list:
    """Every call's arguments of a row, restored; what cannot be is an error of the file."""
    found = []
    for number, arguments in enumerate(inputs):
        try:
            if not isinstance(arguments, list):
                raise TypeError(f"a list of arguments expected, {type(arguments).__name__} found")
            found.append(restored(task_id, arguments))
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(f"{where}: input {number} of {task_id}: {error}") from None
    return found


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
            raise ValueError(f"the reference solution answers a {module}.{name}; plain data expected")
        return super().find_class(module, name)


def with_tests(problems: Iterable[Problem], cache: Path, workers: int = 2) -> list[Problem]:
    """The same problems with `meta["tests"]`: base and plus, {test, data, timeout} each; `test` is plus.

    Problems that have a test already come back unchanged; neither test nor inputs is an error. Slow on first
    use: reference solutions are run.
    """
    problems = list(problems)
    todo = [problem for problem in problems if not problem.test]
    for problem in todo:
        if "inputs" not in problem.meta:
            raise ValueError(
                f"{problem.task_id}: test is empty; text that defines check(candidate) or asserts expected"
            )
    check_tests({problem.task_id: problem.test for problem in problems if problem.test})
    if not todo:
        return problems
    with ThreadPoolExecutor(workers) as pool:
        jobs = pool.map(lambda problem: with_test(problem, cache / "expected"), todo)
        ready = {
            problem.task_id: problem
            for problem in tqdm(jobs, total=len(todo), desc="reference answers", disable=None)
        }
    return [ready.get(problem.task_id, problem) for problem in problems]


def with_test(problem: Problem, folder: Path) -> Problem:
    """The inputs move from `meta` to files of `folder`, to be read when the judge asks for them."""
    meta = dict(problem.meta)
    tests = {name: prepared_test(problem, inputs, folder) for name, inputs in meta.pop("inputs").items()}
    return replace(problem, test=tests["plus"]["test"], meta=meta | {"tests": tests})


def prepared_test(problem: Problem, inputs: list, folder: Path) -> dict:
    """{test: text, data: file with what the judge gets, timeout: seconds for all of it}, made once."""
    only_not_none = problem.meta["benchmark"] == "mbpp" and problem.entry_point in NOT_NONE
    source = problem.prompt + problem.canonical_solution
    # repr, not JSON: a tuple and a list are different inputs.
    made_by = [REFERENCE, ENVIRONMENT, sys.version]
    name = digest(source, problem.entry_point, repr(inputs), only_not_none, made_by)
    data, limits = folder / f"{name}.cases", folder / f"{name}.json"
    if not (limits.exists() and data.exists()):
        job = pickle.dumps((source, problem.entry_point, inputs, only_not_none))
        answers, seconds = run_reference(problem.task_id, job)
        seconds = [max(PER_INPUT_SECONDS, REFERENCE_FACTOR * each) for each in seconds]
        write_bytes(data, encode_data((inputs, answers, seconds)))
        write_json(limits, {"task_id": problem.task_id, "seconds": sum(seconds)})
    timeout = min(PER_TASK_SECONDS, json.loads(limits.read_text())["seconds"]) + 1
    text = (
        f"# cases {name}\n{(HERE / 'evalplus_oracle.py').read_text(encoding='utf-8')}\n\n"
        "def check(candidate):\n"
        f"    check_cases(candidate, __judge__, {problem.meta['benchmark']!r}, {problem.entry_point!r}, "
        f"{problem.meta['atol']!r})\n"
    )
    return {"test": text, "data": data, "timeout": timeout}


def run_reference(task_id: str, job: bytes) -> tuple[list, list[float]]:
    """(answers, seconds) of data/evalplus_reference.py; an error of the reference is an error of the file.

    It hashes text as programs under test do, so a set's order is the same there and here.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-s", "-c", REFERENCE],
            input=job,
            capture_output=True,
            timeout=REFERENCE_SECONDS,
            env=ENVIRONMENT,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{task_id}: the reference solution ran for {REFERENCE_SECONDS} s and had no end"
        ) from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"{task_id}: the reference solution fails on the file's inputs: {' '.join(last)}")
    try:
        return PlainUnpickler(io.BytesIO(done.stdout)).load()
    except ValueError as error:
        raise ValueError(f"{task_id}: {error}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """A whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)

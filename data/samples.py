"""A file of anyone's samples: JSON lines with `task_id` and `completion`, `solution`, or our own `text`.

`solution` is a self-contained program, the other two go on from the problem's prompt. `sample` and
`temperature` are read when present; rows of one task are numbered in their order otherwise. The same format
goes out again (`write_samples`), so that other tools can score what we sampled.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data.jsonl import iterate_jsonl, write_jsonl
from data.types import Problem

TEXT_KEYS = ("solution", "completion", "text")


@dataclass(frozen=True)
class Sample:
    """One answer to one problem. `temperature` None: the file does not say."""

    task_id: str
    sample: int
    text: str
    whole: bool = False  # a program without the prompt
    temperature: float | None = None


def read_samples(
    path: Path | str, problems: Iterable[Problem], *, allow_missing: bool = False
) -> tuple[list[Sample], list[str]]:
    """(samples, ids of problems that have none); these are an error unless allowed. Errors name the line."""
    known = {problem.task_id for problem in problems}
    benchmark = next(iter(known)).partition("/")[0]
    numbered: Counter[str] = Counter()
    samples: dict[tuple[str, int], Sample] = {}
    for number, row in iterate_jsonl(path):
        where = f"{path}, line {number}"
        task_id = known_task(row, known, benchmark, where)
        text, key = answer_text(row, where)
        sample = Sample(
            task_id,
            row.get("sample", numbered[task_id]),
            text,
            whole=key == "solution",
            temperature=row.get("temperature"),
        )
        numbered[task_id] += 1
        if (task_id, sample.sample) in samples:
            raise ValueError(f"{where}: sample {sample.sample} of {task_id} appears twice; number them apart")
        samples[task_id, sample.sample] = sample
    if not samples:
        raise ValueError(
            f"{path} holds no samples; one JSON object with task_id and completion per line expected"
        )
    missing = [task_id for task_id in known if task_id not in numbered]
    missing.sort(key=natural_order)
    if missing and not allow_missing:
        raise ValueError(
            f"{path} has no sample for {len(missing)} of {len(known)} problems ({', '.join(missing[:3])}"
            f"{', ...' * (len(missing) > 3)}); add them, or set allow_missing=true to score the others"
        )
    return list(samples.values()), missing


def known_task(row: dict, known: set[str], benchmark: str, where: str) -> str:
    """The row's task id, checked; MBPP's bare numbers are accepted."""
    if "task_id" not in row:
        raise ValueError(f"{where}: no task_id; found the keys {', '.join(sorted(row)) or '(none)'}")
    task_id = row["task_id"]
    if isinstance(task_id, int):
        task_id = f"{benchmark}/{task_id}"
    if task_id in known:
        return task_id
    other = str(task_id).partition("/")[0]
    if other != benchmark:
        raise ValueError(
            f"{where}: {task_id} belongs to another benchmark than {benchmark}/...; "
            "a file holds samples of one benchmark, named by benchmark=NAME"
        )
    raise ValueError(f"{where}: {task_id} is not among the {len(known)} problems of {benchmark}")


def answer_text(row: dict, where: str) -> tuple[str, str]:
    """(text, the key it stood under)."""
    key = next((key for key in TEXT_KEYS if key in row), None)
    if key is None:
        raise ValueError(f"{where}: neither completion nor solution; found the keys {', '.join(sorted(row))}")
    if not isinstance(row[key], str):
        raise ValueError(
            f"{where}: {key} is a {type(row[key]).__name__}, a string expected; one row per sample"
        )
    return row[key], key


def natural_order(task_id: str) -> tuple[str, int]:
    """Sort key that puts X/9 before X/10."""
    name, _, number = task_id.rpartition("/")
    return (name, int(number)) if number.isdigit() else (task_id, 0)


def write_samples(path: Path, programs: Iterable[tuple[str, str]]) -> None:
    """(task_id, whole program) pairs as EvalPlus reads them."""
    write_jsonl(path, ({"task_id": task_id, "solution": source} for task_id, source in programs))

"""A file of anyone's samples: JSON lines with `task_id` and `completion`, `solution`, or our own `text`.

`solution` is a self-contained program, the other two go on from the problem's prompt; of several in one row
`solution` counts, as in EvalPlus. `sample` and `temperature` are read when present; rows of one task are
numbered in their order otherwise. A folder as EvalPlus knows it, `HumanEval_0/0.py` with whole programs, is
read as well. The same format goes out again (`write_samples`), so that other tools can score what we sampled.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.json_files import noted
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
    path: Path | str, problems: Iterable[Problem], *, allow_missing: bool = False, source: str = ""
) -> tuple[list[Sample], list[str]]:
    """(samples, ids of problems that have none); these are an error unless allowed. Errors name the line.

    `source` is how messages call the problems.
    """
    known = {problem.task_id: None for problem in problems}
    samples: list[Sample] = []
    ambiguous = 0
    for where, task_id, number, row in numbered_rows(path, known, source):
        text, key = answer_text(row, where)
        sample = Sample(
            task_id,
            number,
            text,
            whole=key == "solution",
            temperature=number_of(row, "temperature", (int, float), where, None),
        )
        samples.append(sample)
        ambiguous += sum(name in row for name in TEXT_KEYS) > 1
    if ambiguous:
        print(
            f"note       {ambiguous} rows of {path} have a completion beside their solution; solutions count"
        )
    if not samples:
        wanted = "one JSON object with task_id and completion per line"
        if Path(path).is_dir():
            wanted = "a file of samples, or a folder of folders of programs such as HumanEval_0/0.py,"
        raise ValueError(f"{path} holds no samples; {wanted} expected")
    answered = {sample.task_id for sample in samples}
    missing = sorted((task_id for task_id in known if task_id not in answered), key=natural_order)
    if missing and not allow_missing:
        raise ValueError(
            f"{path} has no sample for {len(missing)} of {len(known)} problems ({', '.join(missing[:3])}"
            f"{', ...' * (len(missing) > 3)}); add them, or set allow_missing=true to score the others"
        )
    return samples, missing


def numbered_rows(
    path: Path | str, known: dict[str, None] | None, source: str = ""
) -> Iterator[tuple[str, str, int, dict]]:
    """(where, task id as in `known` (None: any), sample's number, unique in its task, row) of a file."""
    numbered: Counter[str] = Counter()
    seen: set[tuple[str, int]] = set()
    for where, row in rows_of(Path(path)):
        task_id = known_task(row, known, source, where)
        sample = number_of(row, "sample", int, where, numbered[task_id])
        numbered[task_id] += 1
        if (task_id, sample) in seen:
            raise ValueError(f"{where}: sample {sample} of {task_id} appears twice; number them apart")
        seen.add((task_id, sample))
        yield where, task_id, sample, row


def rows_of(path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of a file's lines, or of the programs in a folder, where `_` stands for `/` in ids."""
    if not path.is_dir():
        yield from ((f"{path}, line {number}", row) for number, row in iterate_jsonl(path))
        return
    programs = sorted(path.glob("*/*.py"), key=lambda file: (file.parent.name, natural_order(file.stem)))
    for file in programs:
        try:
            solution = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: not UTF-8 text ({error})") from None
        yield str(file), {"task_id": file.parent.name.replace("_", "/"), "solution": solution}


def known_task(row: dict, known: dict[str, None] | None, source: str, where: str) -> str:
    """The row's task id, checked against `known`; bare numbers, as MBPP has them, are no ids of HumanEval."""
    if "task_id" not in row:
        raise ValueError(f"{where}: no task_id; found the keys {', '.join(sorted(row)) or '(none)'}")
    given = row["task_id"]
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        raise ValueError(f"{where}: task_id is a {type(given).__name__}, a string or a number expected")
    task_id = str(given)
    if known is None or task_id in known:
        return task_id
    families = sorted({task_id.rpartition("/")[0] for task_id in known} - {""})
    if families and task_id.isdecimal() and "HumanEval" not in families:
        task_id = f"{families[0]}/{task_id}"
        if task_id in known:
            return task_id
    family, slash, _ = task_id.rpartition("/")
    if slash and families and family not in families:
        raise ValueError(
            f"{where}: {task_id} belongs to another benchmark than {families[0]}/...; "
            "a file holds samples of one benchmark, named by benchmark=NAME"
        )
    bare = f"; a number alone may be MBPP's, here ids are such as {next(iter(known))}"
    raise ValueError(
        f"{where}: {task_id} is not among the {len(known)} problems"
        + f" of {source}" * bool(source)
        + bare * (bool(families) and task_id.isdecimal())
    )


def number_of(row: dict, key: str, kind: type | tuple, where: str, default: float | None) -> float | None:
    """The row's number under `key`; null counts as absent."""
    value = row.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{where}: {key} is {str(value)[:40]!r}, a number expected")
    return value


def answer_text(row: dict, where: str) -> tuple[str, str]:
    """(text, the key it stood under)."""
    key = next((key for key in TEXT_KEYS if key in row), None)
    if key is None:
        raise ValueError(
            f"{where}: no completion, solution or text; found the keys {', '.join(sorted(row)) or '(none)'}"
        )
    if not isinstance(row[key], str):
        raise ValueError(
            f"{where}: {key} is a {type(row[key]).__name__}, a string expected; one row per sample"
        )
    return row[key], key


def natural_order(task_id: str) -> tuple[str, int]:
    """Sort key that puts X/9 before X/10."""
    name, _, number = task_id.rpartition("/")
    return (name, int(number)) if number.isdigit() else (task_id, 0)


def sampler_of(completions: Path) -> dict:
    """What sample.py noted beside the completions: weights, tokenizer, decode, ...; empty without that."""
    return noted(completions).get("identity", {})


def write_samples(path: Path, programs: Iterable[tuple[str, str]]) -> None:
    """(task_id, whole program) pairs as EvalPlus reads them."""
    write_jsonl(path, ({"task_id": task_id, "solution": source} for task_id, source in programs))

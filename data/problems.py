"""Problems from anywhere, in one form: HumanEval, MBPP, their + versions, our own JSONL, generated ones.

`load_problems` takes a benchmark's name (looked up in the cache folder and checked against the published
file's sha256), "toy" (generated), or a path; the format of a file is recognised by its keys.

    python -m data.problems download=humaneval               fetch the published file into the cache folder
    python -m data.problems download=humaneval file=PATH     take a local copy instead; the sha256 must match

Sources: HumanEval, Chen et al. 2021 (2107.03374); MBPP, Austin et al. 2021 (2108.07732); the + versions,
Liu et al. 2023 (2305.01210). Licences: MIT, CC-BY-4.0, Apache-2.0.
"""

import ast
import functools
import hashlib
import http.client
import json
import sys
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from data.evalplus import evalplus_problem
from data.jsonl import as_record, iterate_jsonl
from data.sandbox.prepare import test_text
from data.syntax import parse
from data.toy import SPLITS, toy_problems
from data.types import Problem

CACHE = Path("~/.cache/code-dpo").expanduser()
MBPP_SECONDS = (
    10.0  # CPU seconds of a program: the reference of task 123 takes 2 to 3, by how busy the machine is
)


@dataclass(frozen=True)
class Benchmark:
    """A published file: where it comes from, what it hashes to, how many problems it holds."""

    file: str
    url: str
    sha256: str
    problems: int


BENCHMARKS = {
    "humaneval": Benchmark(
        "HumanEval.jsonl.gz",
        "https://raw.githubusercontent.com/openai/human-eval/6d43fb980f9f/data/HumanEval.jsonl.gz",
        "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        164,
    ),
    "mbpp": Benchmark(
        "mbpp.jsonl",
        "https://raw.githubusercontent.com/google-research/google-research/master/mbpp/mbpp.jsonl",
        "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
        974,
    ),
    "mbpp_sanitized": Benchmark(
        "sanitized-mbpp.json",
        "https://raw.githubusercontent.com/google-research/google-research/master/mbpp/sanitized-mbpp.json",
        "ca95deaa9a01ef0a6f439f88bcf0dd3db3563d22f22aad6cae04ebb9a8d8c8e9",
        427,
    ),
    "humaneval_plus": Benchmark(
        "HumanEvalPlus-v0.1.10.jsonl.gz",
        "https://github.com/evalplus/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz",
        "e62f4130146963d969da64553f407a66e52d095adbfed4ee6733b4d59e14a3ed",
        164,
    ),
    "mbpp_plus": Benchmark(
        "MbppPlus-v0.2.0.jsonl.gz",
        "https://github.com/evalplus/mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz",
        "af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63",
        378,
    ),
}


def load_problems(
    source: str | Path,
    split: str | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    cache: Path = CACHE,
) -> list[Problem]:
    """The problems of `source`: a benchmark's name, "toy", or a file. `split` None or "all": all of them.

    `count` and `seed` are for the toy generator; files are never cut. A file whose problems name no split
    serves as any split, and a note says so.
    """
    if str(source) == "toy":
        if split in SPLITS and (count is None or count < 1):
            raise ValueError(f"data.{split} is {count}, the number of toy problems; at least 1 expected")
        return toy_problems(split, count, seed)
    if str(source) in BENCHMARKS:
        problems = read_problems(benchmark_file(str(source), cache))
    elif Path(source).is_file():
        problems = read_problems(Path(source))
    else:
        raise FileNotFoundError(
            f"no benchmark and no file {str(source)!r}{' (a folder)' * Path(source).is_dir()}; benchmarks "
            f"are toy, {', '.join(BENCHMARKS)}"
        )
    if split in (None, "all"):
        return problems
    if not any(problem.split for problem in problems):
        note_no_split(str(source), len(problems), split)
        return problems
    chosen = [problem for problem in problems if problem.split == split]
    if not chosen:
        found = ", ".join(sorted({problem.split or "(none)" for problem in problems}))
        raise ValueError(
            f"{source} has no problems of split {split!r}; it has {found}: set run.split (all: every one)"
        )
    return chosen


@functools.cache  # once, however often a program loads its problems
def note_no_split(source: str, count: int, split: str) -> None:
    print(
        f"note       {source}: no row has a split, so all {count} problems serve as {split}; training and "
        "scoring on the same problems is not held out: give each row a split (train, test)"
    )


def benchmark_file(name: str, cache: Path = CACHE) -> Path:
    """The cached file of a benchmark, its sha256 checked."""
    path = cache / BENCHMARKS[name].file
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; run: python -m data.problems download={name} (file=COPY for a local one)"
        )
    check_sha256(path.read_bytes(), name, path)
    return path


def check_sha256(content: bytes, name: str, where: str | Path) -> None:
    """Scores are comparable only on the same bytes, so anything else is an error."""
    found, expected = hashlib.sha256(content).hexdigest(), BENCHMARKS[name].sha256
    if found != expected:
        raise ValueError(
            f"{where} is not the published {BENCHMARKS[name].file}: sha256 {found[:16]}..., expected "
            f"{expected[:16]}...; get the right file, or pass its path as a problem file of your own"
        )


def download(
    name: str, file: str | None = None, cache: Path = CACHE, opener: Callable = urllib.request.urlopen
) -> Path:
    """Put a benchmark's published file (from its address, or the local copy `file`) into the cache folder."""
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    if file is not None:
        content, where = Path(file).read_bytes(), file
    else:
        where = BENCHMARKS[name].url
        content = fetched(where, opener)
    check_sha256(content, name, where)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / BENCHMARKS[name].file
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def fetched(url: str, opener: Callable) -> bytes:
    """What is at an address; whatever goes wrong on the way is an OSError that names it."""
    try:
        with opener(url, timeout=60) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} cannot be fetched ({error}); fetch it elsewhere and pass file=COPY") from None


def read_problems(path: Path) -> list[Problem]:
    """A problem file in any of the known formats; errors name file and line."""
    rows = enumerate(json_array(path), start=1) if path.suffix == ".json" else iterate_jsonl(path)
    problems = [problem_from_row(row, f"{path}, line {number}") for number, row in rows]
    if not problems:
        raise ValueError(f"{path} holds no problems; one JSON object per line expected")
    seen: set[str] = set()
    for problem in problems:
        if problem.task_id in seen:
            raise ValueError(
                f"{path}: task id {problem.task_id} appears twice; ids name problems, so make them unique"
            )
        seen.add(problem.task_id)
    return problems


def json_array(path: Path) -> list[dict]:
    """The objects of a .json file, as sanitized MBPP has them."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{path}: an array of objects expected; objects line by line belong into a .jsonl file"
        )
    return rows


def problem_from_row(row: dict, where: str) -> Problem:
    """One row of HumanEval or our own format (`test`), MBPP (`test_list`), or EvalPlus (`base_input`)."""
    for name in ("prompt", "text", "code", "entry_point", "canonical_solution"):
        if not isinstance(row.get(name, ""), str):
            raise ValueError(f"{where}: {name} is a {type(row[name]).__name__}, a string expected")
    if "base_input" in row:
        return evalplus_problem(row, where)
    if "test_list" in row:
        return mbpp_problem(row, where)
    problem = as_record(Problem, row, where)
    if not isinstance(problem.task_id, str):
        raise ValueError(f"{where}: task_id is a {type(problem.task_id).__name__}, a string expected")
    tests = problem.test if isinstance(problem.test, list) else [problem.test]
    if not all(isinstance(test, str) for test in tests):
        raise ValueError(
            f"{where}: test is a {type(problem.test).__name__}, a string or a list of strings expected"
        )
    if not isinstance(problem.meta, dict):
        raise ValueError(f"{where}: meta is a {type(problem.meta).__name__}, an object expected")
    problem = replace(problem, test=test_text(tests))
    if not problem.split and problem.task_id.startswith("HumanEval/"):
        return replace(problem, split="test")
    return problem


def mbpp_split(number: int) -> str:
    """The paper's splits: 1-10 prompt, 11-510 test, 511-600 validation, 601-974 train."""
    return (
        "prompt" if number <= 10 else "test" if number <= 510 else "validation" if number <= 600 else "train"
    )


def mbpp_problem(row: dict, where: str) -> Problem:
    """One task of MBPP or sanitized MBPP; the prompt is EvalPlus's: a docstring with task and one assertion.

    Set-up code goes with the tests, after the solution, because two tasks (367, 927) build their inputs with
    the solution's own class.
    """
    text = row.get("text", row.get("prompt"))
    missing = [key for key in ("task_id", "code", "test_list") if key not in row] + ["text"] * (text is None)
    if missing:
        raise ValueError(f"{where}: no {', '.join(missing)}; an MBPP task needs them")
    if not str(row["task_id"]).isdecimal() or not all(isinstance(test, str) for test in row["test_list"]):
        raise ValueError(f"{where}: an MBPP task has a number as task_id and assertions in test_list")
    code, tests = unix(row["code"]), [unix(test).strip() for test in row["test_list"]]
    setup = [*row.get("test_imports", []), *unix(row.get("test_setup_code", "")).splitlines()]
    entry_point = tested_function(code, tests, where)
    return Problem(
        task_id=f"Mbpp/{row['task_id']}",
        prompt=f'"""\n{text.strip()}\n{tests[0]}\n"""\n',
        test=check_function(setup, tests, entry_point),
        entry_point=entry_point,
        canonical_solution=code,
        split=mbpp_split(int(row["task_id"])),
        meta={"text": text, "test_list": tests, "seconds": MBPP_SECONDS},
    )


def unix(text: str) -> str:
    """MBPP's code has Windows line ends; Python reads both, prompts should hold one kind."""
    return text.replace("\r\n", "\n")


def check_function(setup: Iterable[str], assertions: Iterable[str], entry_point: str) -> str:
    """HumanEval's form of a test from assertions that call the function by its name.

    The name becomes `candidate`: four tasks ask for a function called `check`, like the test itself.
    """
    body = "".join(f"    {renamed(line, entry_point, 'candidate')}\n" for line in assertions)
    return "".join(f"{line.rstrip()}\n" for line in setup) + f"\ndef check(candidate):\n{body}"


def renamed(line: str, name: str, new: str) -> str:
    """One line of source with the variable `name` called `new`."""
    uses = [node for node in ast.walk(parse(line)) if isinstance(node, ast.Name) and node.id == name]
    source = line.encode()
    for node in sorted(uses, key=lambda node: -node.col_offset):
        source = source[: node.col_offset] + new.encode() + source[node.end_col_offset :]
    return source.decode()


def tested_function(code: str, tests: list[str], where: str) -> str:
    """The function of the reference code that the first assertion calls."""
    reference, parsed = parse(code), [parse(test) for test in tests]
    if reference is None or not tests or None in parsed:
        raise ValueError(f"{where}: the reference code or a test does not parse")
    defined = {node.name for node in reference.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    calls = [node.func for node in ast.walk(parsed[0]) if isinstance(node, ast.Call)]
    for name in (call.id for call in calls if isinstance(call, ast.Name)):
        if name in defined:
            return name
    raise ValueError(f"{where}: the first test calls none of {', '.join(sorted(defined)) or 'no function'}")


def program(problem: Problem, text: str, *, whole: bool = False) -> dict:
    """What the judge runs: `prompt + completion` is the program, the test calls `check(entry_point)`.

    With `whole`, `text` is a self-contained program (EvalPlus's `solution`, a chat answer). Tests may use
    helpers that the prompt defines (HumanEval/32, 38, 50): the judge takes them from `context`.
    """
    if not problem.test:
        raise ValueError(
            f"{problem.task_id} has no test yet; data.evalplus.with_tests adds those of the + versions"
        )
    return {
        "prompt": "" if whole else problem.prompt,
        "completion": text,
        "test": problem.test,
        "entry_point": problem.entry_point,
        "context": problem.prompt,
    }


def main(arguments: list[str]) -> int:
    """`download=NAME [file=PATH]`; without arguments, say what there is."""
    values = dict(argument.partition("=")[::2] for argument in arguments)
    unknown = values.keys() - {"download", "file"}
    try:
        if unknown or "download" not in values:
            raise ValueError(
                f"usage: python -m data.problems download=({'|'.join(BENCHMARKS)}) [file=LOCAL_COPY]"
            )
        path = download(values["download"], values.get("file"))
        problems = load_problems(values["download"])
        print(f"{path}: {len(problems)} problems, sha256 as published")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

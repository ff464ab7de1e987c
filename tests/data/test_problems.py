"""Problem files of every kind become the same records; only the published bytes count as a benchmark."""

import gzip
import hashlib
import http.client
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

import data.problems
from data.execution import Job, SandboxConfig, judge
from data.problems import (
    BENCHMARKS,
    Benchmark,
    download,
    load_problems,
    main,
    mbpp_split,
    program,
    read_problems,
)
from data.types import Problem, Verdict

HUMANEVAL_ROW = {
    "task_id": "HumanEval/0",
    "prompt": "def shift(s):\n    return s[1:] + s[:1]\n\n\ndef unshift(s):\n",
    "entry_point": "unshift",
    "canonical_solution": "    return s[-1:] + s[:-1]\n",
    "test": "def check(candidate):\n    for s in ('abc', ''):\n        assert candidate(shift(s)) == s\n",
}
MBPP_ROW = {
    "text": "Write a function to measure a tree.",
    "code": "class Node:\r\n  def __init__(self, left=None):\r\n    self.left = left\r\ndef height(node):\r\n"
    "  return 0 if node is None else 1 + height(node.left)",
    "task_id": 367,
    "test_setup_code": "root = Node()\r\nroot.left = Node()",
    "test_list": ["assert (height(root)) == 2", "assert height(None) == 0 "],
    "challenge_test_list": [],
}
SANITIZED_ROW = {
    "source_file": "x.ipynb",
    "task_id": 56,
    "prompt": "Write a python function to check a number.",
    "code": "def check(n):\n    return n == 1",
    "test_imports": ["import math"],
    "test_list": ["assert check(1.0) == True", "assert math.isclose(check(2), 0)"],
}


def write(path: Path, rows: list[dict]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def verdicts(jobs: list[dict]) -> list[Verdict]:
    results = dict(judge([Job(i, job) for i, job in enumerate(jobs)], SandboxConfig(workers=1)))
    return [results[i].verdict for i in range(len(jobs))]


def test_humaneval_is_read_plain_and_gzipped(tmp_path):
    for name in ("a.jsonl", "a.jsonl.gz"):
        (problem,) = read_problems(write(tmp_path / name, [HUMANEVAL_ROW]))
        assert (problem.task_id, problem.entry_point, problem.split) == ("HumanEval/0", "unshift", "test")
        assert problem.prompt == HUMANEVAL_ROW["prompt"]


def test_mbpp_becomes_prompt_and_check(tmp_path):
    (problem,) = read_problems(write(tmp_path / "m.jsonl", [MBPP_ROW]))
    assert problem.task_id == "Mbpp/367"
    assert problem.entry_point == "height"
    assert problem.split == "test"
    assert problem.prompt == '"""\nWrite a function to measure a tree.\nassert (height(root)) == 2\n"""\n'
    assert "\r" not in problem.canonical_solution + problem.test
    assert problem.test == (
        "root = Node()\nroot.left = Node()\n\n"
        "def check(candidate):\n    assert (candidate(root)) == 2\n    assert candidate(None) == 0\n"
    )


def test_sanitized_mbpp_is_an_array_with_imports(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps([SANITIZED_ROW]))
    (problem,) = read_problems(path)
    assert problem.entry_point == "check"
    assert problem.test.startswith("import math\n")
    assert "assert candidate(1.0) == True" in problem.test


def test_reference_solutions_pass_and_wrong_ones_fail(tmp_path):
    write(tmp_path / "a.jsonl", [HUMANEVAL_ROW, MBPP_ROW, SANITIZED_ROW])
    problems = read_problems(tmp_path / "a.jsonl")
    right = [program(p, p.canonical_solution) for p in problems]
    whole = [program(p, p.prompt + p.canonical_solution, whole=True) for p in problems]
    wrong = [program(p, "    return None\n") for p in problems[:1]]
    assert verdicts(right) == verdicts(whole) == [Verdict.PASSED] * 3
    assert verdicts(wrong) == [Verdict.WRONG_ANSWER]


def test_a_whole_program_need_not_repeat_the_helpers_of_the_prompt(tmp_path):
    (problem,) = read_problems(write(tmp_path / "a.jsonl", [HUMANEVAL_ROW]))
    job = program(problem, "def unshift(s):\n    return s[-1:] + s[:-1]\n", whole=True)
    assert job["prompt"] == ""
    assert verdicts([job]) == [Verdict.PASSED]


def test_a_problem_without_tests_is_never_judged():
    with pytest.raises(ValueError, match="T/1 has no test yet"):
        program(Problem("T/1", "", "", "f"), "def f(): pass")


@pytest.mark.parametrize(
    ("number", "split"),
    [(1, "prompt"), (10, "prompt"), (11, "test"), (510, "test"), (511, "validation"), (600, "validation"),
     (601, "train"), (974, "train")],
)  # fmt: skip
def test_mbpp_splits_are_the_papers(number, split):
    assert mbpp_split(number) == split


def test_a_split_is_chosen_and_an_absent_one_is_named(tmp_path):
    rows = [dict(HUMANEVAL_ROW, task_id=f"own/{i}", split="train" if i else "validation") for i in range(3)]
    path = write(tmp_path / "own.jsonl", rows)
    assert [p.task_id for p in load_problems(path, "train")] == ["own/1", "own/2"]
    assert len(load_problems(path)) == len(load_problems(path, "all")) == 3
    assert len(load_problems(path, "train", count=1)) == 2  # only generated problems are counted out
    with pytest.raises(ValueError, match="no problems of split 'test'; it has train, validation"):
        load_problems(path, "test")


def test_problems_without_splits_serve_as_any_and_a_note_says_so_once(tmp_path, capsys):
    path = write(tmp_path / "own.jsonl", [dict(HUMANEVAL_ROW, task_id="own/1")])
    assert len(load_problems(path)) == len(load_problems(path, "all")) == 1
    assert capsys.readouterr().out == ""
    for split in ("train", "test", "train"):
        assert len(load_problems(path, split)) == 1
    notes = capsys.readouterr().out.splitlines()
    assert [f"{path}: no row has a split, so all 1 problems serve as {s};" in note
            for s, note in zip(("train", "test"), notes, strict=True)] == [True, True]  # fmt: skip
    assert "is not held out" in notes[0]


def test_problems_with_splits_need_no_note(tmp_path, capsys):
    for row, split in ((HUMANEVAL_ROW, "test"), (MBPP_ROW, "test"), (dict(HUMANEVAL_ROW, split="a"), "a")):
        assert len(load_problems(write(tmp_path / "own.jsonl", [row]), split)) == 1
    assert capsys.readouterr().out == ""


def test_a_test_may_be_a_list_of_assertions(tmp_path):
    tests = ["assert f(1) == 2", "assert f(0) == 1"]
    row = {"task_id": "0", "prompt": "def f(x):\n", "entry_point": "f", "test": tests, "meta": None}
    (problem,) = read_problems(write(tmp_path / "own.jsonl", [row]))
    assert problem.test == "assert f(1) == 2\nassert f(0) == 1"
    assert problem.meta == {}
    jobs = [program(problem, f"    return {body}\n") for body in ("x + 1", "2")]
    assert verdicts(jobs) == [Verdict.PASSED, Verdict.WRONG_ANSWER]


@pytest.mark.parametrize("count", [0, -3, None])
def test_no_toy_problems_are_no_problems(count):
    with pytest.raises(
        ValueError, match=rf"data.test is {count}, the number of toy problems; at least 1 exp"
    ):
        load_problems("toy", "test", count=count)
    with pytest.raises(ValueError, match="unknown split 'all'"):
        load_problems("toy", "all", count=count)


def test_a_folder_is_no_problem_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no benchmark and no file .* \(a folder\); benchmarks are"):
        load_problems(tmp_path)


def test_toy_is_generated():
    problems = load_problems("toy", "test", count=3, seed=1)
    assert len(problems) == 3
    assert problems == load_problems("toy", "test", count=3, seed=1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"task_id": "a"}, "line 2: no entry_point, prompt, test; found the keys task_id"),
        (dict(HUMANEVAL_ROW), "HumanEval/0 appears twice"),
        ({k: v for k, v in MBPP_ROW.items() if k != "code"}, "line 2: no code"),
        (dict(MBPP_ROW, test_list=["assert other(1)"]), "line 2: the first test calls none of Node, height"),
        (dict(MBPP_ROW, code="def f(:"), "line 2: the reference code or a test does not parse"),
        (dict(MBPP_ROW, base_input=[]), "line 2: no prompt, entry_point, canonical_solution"),
        (dict(MBPP_ROW, task_id="x"), "line 2: an MBPP task has a number as task_id"),
        (dict(MBPP_ROW, test_list=[1]), "line 2: an MBPP task has a number as task_id and assertions"),
        (dict(MBPP_ROW, code=None), "line 2: code is a NoneType, a string expected"),
        (dict(HUMANEVAL_ROW, prompt=["x"]), "line 2: prompt is a list, a string expected"),
        (dict(HUMANEVAL_ROW, task_id=7), "line 2: task_id is a int, a string expected"),
        (
            dict(HUMANEVAL_ROW, test=None),
            "line 2: test is a NoneType, a string or a list of strings expected",
        ),
        (
            dict(HUMANEVAL_ROW, test=["x", 1]),
            "line 2: test is a list, a string or a list of strings expected",
        ),
        (dict(HUMANEVAL_ROW, meta="x"), "line 2: meta is a str, an object expected"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, row, message):
    path = write(tmp_path / "bad.jsonl", [HUMANEVAL_ROW, row])
    with pytest.raises(ValueError, match=message) as error:
        read_problems(path)
    assert str(path) in str(error.value)


def test_an_empty_or_broken_file_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(ValueError, match="holds no problems"):
        read_problems(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="not JSON"):
        read_problems(tmp_path / "broken.json")
    with pytest.raises(
        FileNotFoundError, match="no benchmark and no file 'humanevil'; benchmarks are toy, hum"
    ):
        load_problems("humanevil")
    for text in ('{"a": 1}', "[1]"):
        (tmp_path / "broken.json").write_text(text)
        with pytest.raises(ValueError, match="an array of objects expected"):
            read_problems(tmp_path / "broken.json")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A benchmark "tiny" whose published bytes we know."""
    content = gzip.compress((json.dumps(HUMANEVAL_ROW) + "\n").encode())
    entry = Benchmark("tiny.jsonl.gz", "https://host/tiny.jsonl.gz", hashlib.sha256(content).hexdigest(), 1)
    monkeypatch.setitem(BENCHMARKS, "tiny", entry)
    return content


def test_download_keeps_the_published_bytes_only(tiny, tmp_path):
    asked = []

    def opener(url, timeout):
        asked.append(url)
        return io.BytesIO(tiny)

    path = download("tiny", cache=tmp_path / "cache", opener=opener)
    assert asked == ["https://host/tiny.jsonl.gz"]
    assert path.read_bytes() == tiny
    assert len(load_problems("tiny", cache=tmp_path / "cache")) == 1
    with pytest.raises(ValueError, match=r"is not the published tiny.jsonl.gz: sha256 .*, expected"):
        download("tiny", cache=tmp_path / "other", opener=lambda url, timeout: io.BytesIO(b"something else"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "trouble", [TimeoutError("slow"), http.client.IncompleteRead(b"half"), OSError("no")]
)
def test_trouble_on_the_way_says_what_to_do(tiny, tmp_path, trouble):
    def opener(url, timeout):
        raise trouble

    with pytest.raises(OSError, match=r"https://host/tiny.jsonl.gz cannot be fetched .*pass file=COPY"):
        download("tiny", cache=tmp_path, opener=opener)


def test_download_takes_a_local_copy(tiny, tmp_path):
    copy = tmp_path / "copy.gz"
    copy.write_bytes(tiny)
    download("tiny", file=str(copy), cache=tmp_path / "cache")
    copy.write_bytes(tiny[:-1])
    with pytest.raises(ValueError, match="copy.gz is not the published"):
        download("tiny", file=str(copy), cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="no benchmark 'tinny'; there are humaneval, mbpp"):
        download("tinny")


def test_a_changed_or_absent_cached_file_is_an_error(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m data.problems download=tiny"):
        load_problems("tiny", cache=tmp_path)
    (tmp_path / "tiny.jsonl.gz").write_bytes(tiny + b"\0")
    with pytest.raises(ValueError, match="is not the published"):
        load_problems("tiny", cache=tmp_path)


def test_the_command_says_what_it_did_or_why_not(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data.problems, "CACHE", tmp_path)
    monkeypatch.setattr(download, "__defaults__", (None, tmp_path, None))
    monkeypatch.setattr(load_problems, "__kwdefaults__", {"count": None, "seed": 0, "cache": tmp_path})
    (tmp_path / "copy").write_bytes(tiny)
    assert main(["download=tiny", f"file={tmp_path / 'copy'}"]) == 0
    assert "1 problems, sha256 as published" in capsys.readouterr().out
    assert main(["download=nothing"]) == 1
    assert capsys.readouterr().err.startswith("error: no benchmark 'nothing'")
    assert main(["fetch=humaneval"]) == 1
    assert "usage: python -m data.problems download=" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("humaneval", 164), ("mbpp_sanitized", 427), ("mbpp", 974)])
def test_every_reference_solution_of_a_benchmark_passes(benchmarks, name, count):
    if not (benchmarks / BENCHMARKS[name].file).exists():
        pytest.skip(f"{benchmarks / BENCHMARKS[name].file} is not there; see --benchmarks")
    problems = load_problems(name, cache=benchmarks)
    assert len(problems) == count == BENCHMARKS[name].problems
    jobs = [Job(p.task_id, program(p, p.canonical_solution), p.meta.get("seconds", 0.0)) for p in problems]
    failed = {key: result for key, result in judge(jobs, SandboxConfig()) if result.verdict != Verdict.PASSED}
    assert not failed


@pytest.mark.slow
def test_without_its_body_no_humaneval_problem_passes(benchmarks):
    if not (benchmarks / BENCHMARKS["humaneval"].file).exists():
        pytest.skip("HumanEval is not there; see --benchmarks")
    problems = [
        replace(p, canonical_solution="    pass\n") for p in load_problems("humaneval", cache=benchmarks)
    ]
    jobs = [Job(problem.task_id, program(problem, problem.canonical_solution)) for problem in problems]
    assert not [key for key, result in judge(jobs, SandboxConfig()) if result.verdict == Verdict.PASSED]

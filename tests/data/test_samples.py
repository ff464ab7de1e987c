"""A file of samples is read whole or refused with the line that is wrong."""

import json

import pytest

from data.samples import Sample, read_samples, write_samples
from data.types import Problem

PROBLEMS = [Problem(f"Mbpp/{number}", "", "test", "f") for number in (11, 12, 100)]


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(number, **more):
    return {"task_id": f"Mbpp/{number}", "completion": "pass"} | more


def test_completions_solutions_and_our_own_text(tmp_path):
    rows = [
        row(11),
        row(11, completion="x"),
        {"task_id": 12, "solution": "whole"},
        {"task_id": "Mbpp/100", "text": "ours", "sample": 7, "temperature": 0.8, "ids": [1]},
    ]
    samples, missing = read_samples(write(tmp_path / "s.jsonl", rows), PROBLEMS)
    assert samples == [
        Sample("Mbpp/11", 0, "pass"),
        Sample("Mbpp/11", 1, "x"),
        Sample("Mbpp/12", 0, "whole", whole=True),
        Sample("Mbpp/100", 7, "ours", temperature=0.8),
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"completion": "x"}, "line 2: no task_id; found the keys completion"),
        ({"task_id": "Mbpp/11"}, "line 2: neither completion nor solution; found the keys task_id"),
        (row(11, completion=["x"]), "line 2: completion is a list, a string expected"),
        (row(13), "line 2: Mbpp/13 is not among the 3 problems of Mbpp"),
        (
            {"task_id": "HumanEval/1", "completion": "x"},
            "line 2: HumanEval/1 belongs to another benchmark than Mbpp",
        ),
        ('{"task_id": "Mbpp/11", "compl', "line 2: not JSON"),
        ("[1]", "line 2: list found"),
        (row(11, sample=0), "line 2: sample 0 of Mbpp/11 appears twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path, bad, message):
    path = write(tmp_path / "s.jsonl", [row(11), bad, row(12), row(100)])
    with pytest.raises(ValueError, match=message) as error:
        read_samples(path, PROBLEMS)
    assert str(path) in str(error.value)


def test_missing_problems_are_an_error_unless_allowed(tmp_path):
    path = write(tmp_path / "s.jsonl", [row(12)])
    with pytest.raises(
        ValueError, match=r"no sample for 2 of 3 problems \(Mbpp/11, Mbpp/100\).*allow_missing=true"
    ):
        read_samples(path, PROBLEMS)
    samples, missing = read_samples(path, PROBLEMS, allow_missing=True)
    assert len(samples) == 1
    assert missing == ["Mbpp/11", "Mbpp/100"]


def test_an_empty_or_absent_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no samples"):
        read_samples(write(tmp_path / "s.jsonl", []), PROBLEMS, allow_missing=True)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_samples(tmp_path / "absent.jsonl", PROBLEMS)


def test_what_is_written_can_be_read_again(tmp_path):
    write_samples(
        tmp_path / "s.jsonl", [("Mbpp/11", "a"), ("Mbpp/11", "b"), ("Mbpp/12", "c"), ("Mbpp/100", "d")]
    )
    samples, _ = read_samples(tmp_path / "s.jsonl", PROBLEMS)
    assert [(s.task_id, s.sample, s.text, s.whole) for s in samples][1] == ("Mbpp/11", 1, "b", True)

"""A file of samples is read whole or refused with the line that is wrong."""

import gzip
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


def test_completions_solutions_and_our_own_text(tmp_path, capsys):
    rows = [
        row(11),
        row(11, completion="x"),
        {"task_id": 12, "solution": "whole"},
        {"task_id": "12", "solution": "both", "completion": "x", "sample": None},
        {"task_id": "Mbpp/100", "text": "ours", "sample": 7, "temperature": 0.8, "ids": [1]},
    ]
    samples, missing = read_samples(write(tmp_path / "s.jsonl", rows), PROBLEMS)
    assert samples == [
        Sample("Mbpp/11", 0, "pass"),
        Sample("Mbpp/11", 1, "x"),
        Sample("Mbpp/12", 0, "whole", whole=True),
        Sample("Mbpp/12", 1, "both", whole=True),
        Sample("Mbpp/100", 7, "ours", temperature=0.8),
    ]
    assert missing == []
    assert "1 rows of" in capsys.readouterr().out  # one holds both a solution and a completion


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"completion": "x"}, "line 2: no task_id; found the keys completion"),
        ({"task_id": "Mbpp/11"}, "line 2: no completion, solution or text; found the keys task_id"),
        (row(11, completion=["x"]), "line 2: completion is a list, a string expected"),
        (row(13), "line 2: Mbpp/13 is not among the 3 problems of mbpp, split test"),
        ({"task_id": "13", "completion": "x"}, "line 2: Mbpp/13 is not among the 3 problems"),
        ({"task_id": -1, "completion": "x"}, "line 2: -1 is not among the 3 problems"),
        ({"task_id": ["Mbpp/11"], "completion": "x"}, "line 2: task_id is a list, a string or a number"),
        ({"task_id": True, "completion": "x"}, "line 2: task_id is a bool"),
        ({"task_id": "eleven", "completion": "x"}, "line 2: eleven is not among the 3 problems"),
        (row(11, sample="a"), "line 2: sample is 'a', a number expected"),
        (row(11, sample=0.5), "line 2: sample is '0.5', a number expected"),
        (row(11, temperature="hot"), "line 2: temperature is 'hot', a number expected"),
        ("[" * 100_000, "line 2: not JSON .*recursion"),
        ('{"task_id": ' + "9" * 5000 + "}", "line 2: not JSON .*4300 digits"),
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
        read_samples(path, PROBLEMS, source="mbpp, split test")
    assert str(path) in str(error.value)


def test_ids_that_are_numbers_alone_are_ids(tmp_path):
    """MBPP's bare numbers get the family's name; a problem that is called by a number has none."""
    own = [Problem(task_id, "", "test", "f") for task_id in ("0", "1", "two")]
    rows = [{"task_id": task_id, "completion": "x"} for task_id in ("0", 1, "two")]
    samples, _ = read_samples(write(tmp_path / "s.jsonl", rows), own)
    assert [sample.task_id for sample in samples] == ["0", "1", "two"]
    samples, _ = read_samples(
        write(tmp_path / "s.jsonl", [*rows, {"task_id": 11, "completion": "x"}]), [*own, PROBLEMS[0]]
    )
    assert samples[-1].task_id == "Mbpp/11"
    for unknown in ("2", "Mbpp/11"):
        path = write(tmp_path / "s.jsonl", [*rows, {"task_id": unknown, "completion": "x"}])
        with pytest.raises(ValueError, match=f"line 4: {unknown} is not among the 3 problems"):
            read_samples(path, own)


def test_a_number_alone_is_no_id_of_humaneval(tmp_path):
    path = write(tmp_path / "s.jsonl", [{"task_id": 11, "completion": "x"}])
    with pytest.raises(
        ValueError, match=r"line 1: 11 is not among the 1 problems of humaneval.*HumanEval/11"
    ):
        read_samples(path, [Problem("HumanEval/11", "", "test", "f")], source="humaneval")


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
    with pytest.raises(
        ValueError, match="holds no samples; a file of samples, or a folder of folders of prog"
    ):
        read_samples(tmp_path, PROBLEMS, allow_missing=True)


def test_what_is_written_can_be_read_again(tmp_path):
    write_samples(
        tmp_path / "s.jsonl", [("Mbpp/11", "a"), ("Mbpp/11", "b"), ("Mbpp/12", "c"), ("Mbpp/100", "d")]
    )
    samples, _ = read_samples(tmp_path / "s.jsonl", PROBLEMS)
    assert [(s.task_id, s.sample, s.text, s.whole) for s in samples][1] == ("Mbpp/11", 1, "b", True)


def test_what_utf8_cannot_hold_is_written_all_the_same(tmp_path):
    text = "x = '\ud800 ü'"
    write_samples(tmp_path / "s.jsonl", [(problem.task_id, text) for problem in PROBLEMS])
    (tmp_path / "s.jsonl").read_bytes().decode()  # any tool can read it
    samples, _ = read_samples(tmp_path / "s.jsonl", PROBLEMS)
    assert {sample.text for sample in samples} == {text}


def test_gzip_and_a_byte_order_mark_are_read_and_damage_is_named(tmp_path):
    plain = write(tmp_path / "s.jsonl", [row(11, completion=f"x = {i}") for i in range(500)]).read_bytes()
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + plain)
    packed = gzip.compress(plain)
    (tmp_path / "s.jsonl.gz").write_bytes(packed)
    for name in ("s.jsonl", "bom.jsonl", "s.jsonl.gz"):
        assert len(read_samples(tmp_path / name, PROBLEMS[:1])[0]) == 500
    for damaged in (packed[:-50], b"no gzip", packed[:60] + b"\xff" * 60 + packed[120:]):
        (tmp_path / "s.jsonl.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match="s.jsonl.gz: cannot be read as gzipped UTF-8 text"):
            read_samples(tmp_path / "s.jsonl.gz", PROBLEMS[:1])


def test_a_folder_of_programs_is_read_as_evalplus_writes_it(tmp_path):
    for number, sample in ((11, 0), (11, 10), (11, 2), (12, 0), (100, 0)):
        (tmp_path / f"Mbpp_{number}").mkdir(exist_ok=True)
        (tmp_path / f"Mbpp_{number}" / f"{sample}.py").write_text(f"{number} {sample}")
    (tmp_path / "notes.txt").write_text("left alone")
    samples, missing = read_samples(tmp_path, PROBLEMS)
    assert [(s.task_id, s.sample, s.text) for s in samples if s.task_id == "Mbpp/11"] == [
        ("Mbpp/11", 0, "11 0"), ("Mbpp/11", 1, "11 2"), ("Mbpp/11", 2, "11 10"),
    ]  # fmt: skip
    assert all(sample.whole for sample in samples)
    assert missing == []
    (tmp_path / "Mbpp_9").mkdir()
    (tmp_path / "Mbpp_9" / "0.py").write_text("")
    with pytest.raises(ValueError, match=r"Mbpp_9/0.py: Mbpp/9 is not among the 3 problems"):
        read_samples(tmp_path, PROBLEMS)

"""Labels that are wrong on purpose say what they claim to say."""

import json
from pathlib import Path

import pytest

from data.jsonl import read_jsonl, write_jsonl
from variants import relabel
from variants.relabel import LABELS


def rows() -> tuple[list[dict], dict[tuple[str, int], int]]:
    """A problem with five samples, and another whose judge failed; their lengths."""
    verdicts = ["passed", "wrong_answer", "runtime_error", "wrong_answer", "timeout"]
    results = [
        {
            "task_id": "t/0",
            "sample": i,
            "verdict": v,
            "tests_passed": 6 if v == "passed" else i,
            "tests_total": 0,
        }
        for i, v in enumerate(verdicts)
    ]
    results[0]["tests_total"] = 6
    results.append({"task_id": "t/1", "sample": 0, "verdict": "internal_error"})
    return results, {("t/0", i): length for i, length in enumerate([10, 30, 5, 40, 20])} | {("t/1", 0): 9}


def verdicts(label: str) -> list[str]:
    return [row["verdict"] for row in relabel.relabel(*rows(), LABELS[label])]


def test_runs_passes_wrong_answers_and_nothing_else():
    assert verdicts("runs") == ["passed", "passed", "runtime_error", "passed", "timeout", "internal_error"]


def test_longer_looks_at_the_length_alone():
    """Lengths 10 30 5 40 20, median 20."""
    wrong = "wrong_answer"
    assert verdicts("longer") == [wrong, "passed", wrong, "passed", wrong, "internal_error"]


def test_partial_keeps_verdicts_and_adds_how_many_tests_there_were():
    found = relabel.relabel(*rows(), LABELS["partial"])
    assert [row["verdict"] for row in found] == [row["verdict"] for row in rows()[0]]
    assert [row["tests_total"] for row in found[:5]] == [6] * 5


@pytest.fixture
def samples(tmp_path, monkeypatch) -> Path:
    results, lengths = rows()
    folder = tmp_path / "out" / "s"
    write_jsonl(folder / "results.jsonl", results)
    texts = [{"task_id": task, "sample": i, "text": "x" * n} for (task, i), n in lengths.items()]
    write_jsonl(folder / "completions.jsonl", texts)
    (folder / "summary.json").write_text(json.dumps({"protocol": {"name": "plain"}, "greedy": {}}))
    return folder


def test_the_program_writes_results_that_data_collect_reads(run_program, samples, capsys):
    chosen = ("+exp=quickstart", "+variant=relabel", "variant.samples=s")
    assert run_program(relabel.main, *chosen) == 0
    assert "2 of 6 samples have another verdict under 'runs'" in capsys.readouterr().out
    assert len(read_jsonl("out/labels/runs/results.jsonl")) == 6
    assert json.loads(Path("out/labels/runs/summary.json").read_text()) == {"protocol": {"name": "plain"}}
    assert run_program(relabel.main, *chosen, "variant.labels=best") == 1
    assert "expected one of runs, longer, partial" in capsys.readouterr().err
    assert run_program(relabel.main, *chosen, "variant.output=out/s/results.jsonl") == 1
    assert "lies beside the true results" in capsys.readouterr().err

"""The table at the end of a line says which of its numbers may not belong together."""

import json

import pytest

from data.jsonl import digest, file_digest, write_json, write_jsonl
from data.summary import join_line, table

IDS = {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}
PAIR = IDS | {"meta": {"tokenizer": "t"}}
TIMES = {"completions.jsonl": "2026-01-02", "results.jsonl": "2026-01-03"}


def note(path, **facts):
    write_json(path.with_name(path.name + ".meta.json"), facts)


def evaluated(folder, weights, passed):
    """What evaluate.py leaves: two problems, one answer each."""
    names, sampler = ("a", "b"), {"weights": weights, "tokenizer": "t", "decode": {"n": 8}, "seed": 1}
    verdicts = ["passed"] * passed + ["timeout"] * (2 - passed)
    rows = [
        {"task_id": n, "sample": -1, "temperature": 0, "verdict": v}
        for n, v in zip(names, verdicts, strict=True)
    ]
    write_jsonl(folder / "results.jsonl", rows)
    write_jsonl(folder / "completions.jsonl", [{"task_id": name} for name in names])
    for name, day in TIMES.items():
        note(folder / name, created=day, identity=sampler)
    summary = {
        "protocol": {"name": "plain", "digest": "p"},
        "problems": {"source": "toy", "digest": "q"},
        "sandbox": {"seconds": 3.0, "workers": 1},
        "sampler": sampler,
        "seconds": {"judging": 1.0},
    }
    write_json(folder / "summary.json", summary)


@pytest.fixture
def line(tmp_path):
    """A whole line: pairs from a folder of samples, a policy trained on them, scores of base and policy."""
    evaluated(tmp_path / "train", "w0", 1)
    evaluated(tmp_path / "base", "w0", 1)
    evaluated(tmp_path / "dpo-test", "w1", 2)
    pairs, completions = tmp_path / "pairs.jsonl", tmp_path / "train" / "completions.jsonl"
    write_jsonl(pairs, [PAIR])
    source = {"path": str(completions), "digest": file_digest(completions)}
    results = {"path": str(completions.with_name("results.jsonl"))}
    note(pairs, kept=1, problems=1, dropped={}, completions=source, results=results)
    objective = {"init": "w0", "pairs": digest([list(IDS.values())])}
    made = {"created": "2026-01-02", "seconds": 5.0, "dropped": {}}
    note(tmp_path / "dpo", objective=objective, pairs=str(pairs), **made)
    return tmp_path


def joined(line):
    return join_line(line / "base", line / "dpo-test", line / "dpo")


def changed(path, **values):
    write_json(path, json.loads(path.read_text()) | values)


def test_a_line_that_belongs_together_has_no_notes(line):
    summary = joined(line)
    assert summary["notes"] == []
    assert summary["pairs"] == {"file": f"{line}/pairs.jsonl", "kept": 1, "problems": 1, "dropped": {}}
    assert summary["difference"]["greedy"]["mean"] == 0.5
    assert summary["seconds"] == {
        "collect: judging": 1.0, "base: judging": 1.0, "dpo: judging": 1.0, "training": 5.0, "total": 8.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("base/summary.json", {"protocol": {"name": "chat", "digest": "c"}}, "before: judged under protocol"),
        ("base/summary.json", {"problems": {"source": "mine", "digest": "m"}}, "before: other problems"),
        ("base/summary.json", {"sandbox": {"seconds": 0.5}}, "judged with seconds 0.5, this with"),
        (
            "base/summary.json",
            {"sampler": {"weights": "w0", "decode": {"n": 4}, "seed": 1}},
            "before: sampled with n 4, this with n 8",
        ),
        ("base/summary.json", {"sampler": {"weights": "x"}}, "before: other weights than"),
        ("base/completions.jsonl.meta.json", {"created": "2026-01-04"}, "base/results.jsonl is older than"),
        ("train/completions.jsonl.meta.json", {"created": "2026-01-04"}, "train/results.jsonl is older than"),
        ("dpo.meta.json", {"created": "2026-01-04"}, "dpo-test/results.jsonl is older than"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_belong_together_are_noted(line, path, change, says):
    changed(line / path, **change)
    (found,) = joined(line)["notes"]
    assert says in found
    assert f"note: {found}" in table(joined(line))


def test_pairs_that_are_no_longer_those_of_the_policy_are_noted(line):
    write_jsonl(line / "train" / "completions.jsonl", [{"task_id": "a"}])
    assert "was collected before" in joined(line)["notes"][0]
    other = PAIR | {"chosen_ids": [4]}
    write_jsonl(line / "pairs.jsonl", [other])
    assert "has other pairs than" in joined(line)["notes"][1]
    write_jsonl(line / "pairs.jsonl", [other | {"meta": {"tokenizer": "of another model"}}])
    assert len(joined(line)["notes"]) == 1  # their ids are not those that were trained on


def test_pairs_without_a_report_are_named_and_nothing_is_said_of_their_making(line):
    """The shipped ones: they were not collected in this run, whatever its folder holds."""
    (line / "pairs.jsonl.meta.json").unlink()
    summary = joined(line)
    assert [*summary["seconds"]] == ["base: judging", "dpo: judging", "training", "total"]
    assert summary["notes"] == []
    assert f"{line}/pairs.jsonl, with no report of data.collect" in table(summary)


def test_a_stage_that_is_missing_is_named(line):
    (line / "dpo-test" / "summary.json").unlink()
    with pytest.raises(FileNotFoundError, match="dpo-test/summary.json does not exist; run the stage"):
        joined(line)

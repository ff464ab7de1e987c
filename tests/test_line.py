"""The whole line in miniature: samples, verdicts, pairs, DPO, scores, summary; then again, reusing all."""

import json
from pathlib import Path

import pytest

import evaluate
import train_dpo
from data import collect, summary
from data.jsonl import read_jsonl
from tests.conftest import CONF

COMMON = (
    "+exp=quickstart",
    "device=cpu",
    "run.name=line",
    f"model.path={CONF.parent / 'assets' / 'toy_base'}",
    "data.pairs=out/line/pairs.jsonl",
    "data.train=24",
    "data.test=12",
    "decode.n=6",
    "optim.batch=8",
    "optim.epochs=1",
)
STAGES = (
    (evaluate.main, "run.checkpoint=base", "run.split=train", "decode=sample"),
    (collect.main, "run.split=train", "decode=sample"),
    (train_dpo.main,),
    (evaluate.main, "run.checkpoint=base"),
    (evaluate.main, "run.checkpoint=dpo"),
)


@pytest.mark.slow
def test_the_line_in_miniature(run_program, capsys):
    for main, *overrides in STAGES:
        assert run_program(main, *COMMON, *overrides) == 0, capsys.readouterr().err
    assert run_program(summary.main, *COMMON) == 0
    printed = capsys.readouterr().out
    assert "reference" in printed
    assert "pass@1 on held-out problems" in printed

    found = json.loads(Path("out/line/summary.json").read_text())
    for side in ("base", "dpo"):
        for decoding, samples in (("greedy", 1), ("sampled", 6)):
            score = found[side][decoding]
            assert score["ci_low"] <= score["pass_at_1"] <= score["ci_high"]
            assert (score["n_problems"], score["n_samples"]) == (12, samples)
        assert sum(found[side]["verdicts"]["greedy"].values()) == 12
    assert set(found["difference"]) == {"greedy", "sampled"}
    assert found["pairs"]["kept"] == len(read_jsonl("out/line/pairs.jsonl"))
    verdicts = {row["verdict"] for row in read_jsonl("out/line/base-train-sample/results.jsonl")}
    assert {"passed", "wrong_answer", "runtime_error"} <= verdicts

    written = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.jsonl")}
    for main, *overrides in STAGES:
        assert run_program(main, *COMMON, *overrides) == 0
    again = capsys.readouterr().out
    assert "found      out/line/dpo: finished" in again
    reused = {"completions.jsonl", "pairs.jsonl", "dpo.metrics.jsonl"}
    assert all(path.stat().st_mtime_ns == time for path, time in written.items() if path.name in reused)

    assert run_program(summary.main, *COMMON, "data.pairs=elsewhere.jsonl") == 0
    again = json.loads(Path("out/line/summary.json").read_text())
    assert (found["notes"], again["notes"], again["pairs"]) == ([], [], found["pairs"])


def test_pairs_train_exactly_what_was_sampled(run_program):
    small = ("data.train=6", "decode.n=8")
    for main, *overrides in STAGES[:2]:
        assert run_program(main, *COMMON, *small, *overrides) == 0
    sampled = {
        (row["task_id"], tuple(row["prompt_ids"]), tuple(row["ids"]))
        for row in read_jsonl("out/line/base-train-sample/completions.jsonl")
    }
    for pair in read_jsonl("out/line/pairs.jsonl"):
        for side in ("chosen", "rejected"):
            assert (pair["task_id"], tuple(pair["prompt_ids"]), tuple(pair[f"{side}_ids"])) in sampled

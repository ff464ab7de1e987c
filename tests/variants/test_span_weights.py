"""LD-DPO's, Focused-DPO's and Target-DPO's weights as files."""

import json
from pathlib import Path

import numpy as np
import pytest

import train_dpo
from data.columns import read_columns
from data.pairs import read_pairs
from data.tokenizer import load_tokenizer
from variants import span_weights


@pytest.fixture
def run(run_program, tiny_policy, tiny_pairs):
    """run(program, experiment, *overrides) on the tiny policy and its pairs."""

    def start(main, experiment: str, *overrides: str) -> int:
        small = ("device=cpu", "optim.lr=1e-3", "optim.batch=8", "optim.max_steps=1")
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}")
        return run_program(main, f"+exp={experiment}", *small, *paths, *overrides)

    return start


@pytest.fixture
def pairs(tiny_policy, tiny_pairs):
    return read_pairs(tiny_pairs, load_tokenizer(tiny_policy), max_prompt=256, max_completion=256)[0]


def test_ld_dpo_discounts_the_longer_tail(run, pairs):
    assert run(span_weights.main, "ld_dpo") == 0
    for pair, (chosen, rejected) in zip(
        pairs, read_columns("out/ld_dpo/weights.safetensors", pairs), strict=True
    ):
        shared = min(len(pair.chosen_ids), len(pair.rejected_ids))
        for side in (chosen, rejected):
            assert (side[:shared] == 1).all()
            assert (side[shared:] == 0.5).all()
    assert any(len(pair.chosen_ids) != len(pair.rejected_ids) for pair in pairs)


def test_focal_weights_rise_where_the_programs_differ(run, pairs):
    assert run(span_weights.main, "focal") == 0
    for pair, sides in zip(pairs, read_columns("out/focal/weights.safetensors", pairs), strict=True):
        for ids, other, side in zip(
            (pair.chosen_ids, pair.rejected_ids), (pair.rejected_ids, pair.chosen_ids), sides, strict=True
        ):
            assert set(side.tolist()) <= {1.0, 2.0}
            equal = [a == b for a, b in zip(ids, other, strict=False)]
            assert all(w == 1 for w, same in zip(side, np.cumprod(equal), strict=False) if same)


def test_target_dpo_trains_with_its_likelihood_term(run, pairs, capsys):
    assert run(span_weights.main, "target_dpo") == 0
    assert "other than 1 on 0% of" in capsys.readouterr().out
    columns = read_columns("out/target_dpo/weights.safetensors", pairs)
    assert all((chosen == 1).all() for chosen, _ in columns)
    assert 0 < np.mean([rejected.mean() for _, rejected in columns]) < 1
    assert run(train_dpo.main, "target_dpo") == 0
    first = json.loads(Path("out/target_dpo/dpo.metrics.jsonl").read_text().splitlines()[0])
    nll = -first["logps/chosen"] / first["lengths/chosen"]
    assert first["loss"] == pytest.approx(np.log(2) + nll, rel=0.1)  # mean of ratios, not ratio of means


def test_value_1_is_dpo(run, pairs):
    for method in ("ld_dpo", "focal"):
        assert run(span_weights.main, method, "variant.value=1") == 0
        assert all((side == 1).all() for sides in columns_of(method, pairs) for side in sides)


def columns_of(method: str, pairs):
    return read_columns(f"out/{method}/weights.safetensors", pairs)


def test_mistakes_are_one_line(run, capsys):
    for override, message in (
        ("variant.method=spans", "expected one of ld, focal, target"),
        ("data.weights=null", "data.weights is not set"),
        ("+variant.alpha=1", "this program takes method, value"),
    ):
        assert run(span_weights.main, "focal", override) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_settings_must_be_chosen(run_program, tiny_policy, capsys):
    assert run_program(span_weights.main, "+exp=quickstart", f"model.path={tiny_policy}") == 1
    assert "choose +variant=NAME" in capsys.readouterr().err

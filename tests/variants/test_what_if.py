"""Losses evaluated without training: values and derivatives as their formulas say."""

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch

import train_dpo
from losses.dpo import dpo_loss
from losses.sft import sft_loss
from losses.types import PairLogps
from variants import what_if
from variants.what_if import evaluate_loss, summary

LENGTHS = torch.tensor([4.0, 5.0, 6.0])
POLICY = PairLogps(torch.tensor([-5.0, -9, -20]), torch.tensor([-7.0, -8, -90]), LENGTHS, LENGTHS)
REFERENCE = PairLogps(torch.tensor([-6.0, -9, -20]), torch.tensor([-6.0, -9, -20]))


def test_derivatives_are_the_closed_form():
    """DPO: -beta * sigmoid(-beta * D) by the chosen sum, the opposite by the rejected one; D = 2, -1, 70."""
    found = evaluate_loss(partial(dpo_loss, beta=0.1), POLICY, REFERENCE)
    expected = 0.1 * torch.sigmoid(torch.tensor([-0.2, 0.1, -7.0]))
    torch.testing.assert_close(found.chosen_gradient, -expected)
    torch.testing.assert_close(found.rejected_gradient, expected)
    assert found.accuracy == pytest.approx(2 / 3)


def test_a_loss_that_ignores_a_side_has_gradient_0_there():
    found = evaluate_loss(sft_loss, POLICY, REFERENCE)
    torch.testing.assert_close(found.chosen_gradient, -1 / LENGTHS)
    assert (found.rejected_gradient == 0).all()


def test_a_saturated_pair_is_idle_and_the_others_share_the_weight():
    found = summary(evaluate_loss(partial(dpo_loss, beta=0.1), POLICY, REFERENCE), ["a", "b", "c"], top=2)
    assert found["idle"] == pytest.approx(1 / 3)
    assert [pair["task_id"] for pair in found["dominant"]] == ["b", "a"]
    assert sum(pair["share"] for pair in found["dominant"]) == pytest.approx(1, abs=1e-2)
    assert found["pairs"] == pytest.approx(2, abs=0.02)


@pytest.fixture
def run(run_program, tiny_policy, tiny_pairs):
    def start(main, *overrides: str) -> int:
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", "device=cpu")
        return run_program(main, "+exp=quickstart", *paths, *overrides)

    return start


def test_every_loss_at_the_first_step(run, capsys):
    """The policy is the reference: methods.md's values at initialisation, and every pair counts the same."""
    assert run(what_if.main, "+variant=what_if") == 0
    found = json.loads(Path("out/quickstart/what_if.json").read_text())["losses"]
    for name in ("dpo", "cdpo", "js", "minor_dpo", "dpop", "aot", "sigmoid_norm"):
        assert found[name]["value"] == pytest.approx(math.log(2), abs=1e-5), name
    assert found["hinge"]["value"] == pytest.approx(1)
    assert found["nca"]["value"] == pytest.approx(2 * math.log(2), abs=1e-5)
    assert found["dpo"]["gradient_chosen"] == pytest.approx(-0.05)
    assert found["dpo"]["pairs"] == pytest.approx(20)
    assert found["dpo"]["idle"] == 0
    assert "log_weight" in found["wpo"]["not_from_log_probs"]
    assert len(found["dpo"]["dominant"]) == 5
    assert "toy/train/" in capsys.readouterr().out


def test_a_trained_policy_is_scored_once_and_saturates(run, capsys):
    assert run(train_dpo.main, "optim.lr=1e-2", "optim.epochs=4") == 0
    chosen = ("+variant=what_if", "variant.losses=[ipo]", "variant.checkpoint=dpo", "variant.top=1")
    assert run(what_if.main, *chosen) == 0
    found = json.loads(Path("out/quickstart/what_if.json").read_text())["losses"]
    assert set(found) == {"(this run's)", "ipo"}
    assert found["(this run's)"]["value"] < math.log(2)
    assert found["(this run's)"]["accuracy"] > 0.7
    capsys.readouterr()
    assert run(what_if.main, *chosen) == 0
    assert "batch" not in capsys.readouterr().err  # no progress bar: nothing was scored again


def test_the_reference_may_be_left_out(run):
    assert run(what_if.main, "+variant=what_if", "variant.losses=[simpo]", "run.reference=none") == 0
    found = json.loads(Path("out/quickstart/what_if.json").read_text())["losses"]
    assert found["(this run's)"]["value"] != pytest.approx(math.log(2), abs=1e-3)  # the policy is not 0


def test_an_unknown_loss_is_one_line(run, capsys):
    assert run(what_if.main, "+variant=what_if", "variant.losses=[ppo]") == 1
    assert "no loss ppo in conf/loss; there are alpha_divergence" in capsys.readouterr().err

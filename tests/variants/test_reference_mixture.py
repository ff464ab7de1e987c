"""MRPO's virtual reference: its identities, a worked example, and the program with two tokenizers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import train_dpo
from data.columns import read_columns
from data.jsonl import iterate_jsonl
from data.pairs import read_pairs
from data.tokenizer import load_tokenizer, train_tokenizer
from data.toy import toy_problems
from losses.dpo import dpo_loss
from losses.types import PairLogps
from model.checkpoint import save_model
from model.families import parse_config
from model.transformer import Transformer
from tests.conftest import ARCHITECTURE
from variants import reference_mixture
from variants.reference_mixture import (
    MixtureSettings,
    adaptive_radii,
    adaptive_weights,
    clip_to_anchor,
    mix,
    shifted,
    virtual_reference,
)


def random_sums(references: int, pairs: int = 50) -> np.ndarray:
    """[K, B] log-probs of completions, nats."""
    return -np.random.default_rng(references).uniform(5, 80, size=(references, pairs))


def test_worked_example():
    """Two references of probability 1/2 and 1/8, equal weights: harmonic mean 2 / (2 + 8) = 1/5."""
    logps = np.log([[1 / 2], [1 / 8]])
    assert virtual_reference(logps, np.full((2, 1), 0.5)) == pytest.approx(math.log(1 / 5))


def test_one_hot_weights_choose_a_reference():
    logps = random_sums(3)
    for k in range(3):
        np.testing.assert_allclose(virtual_reference(logps, np.eye(3)[k][:, None]), logps[k])


def test_identical_references_are_that_reference():
    logps = np.repeat(random_sums(1), 4, axis=0)
    weights = np.random.default_rng(0).dirichlet(np.ones(4), size=50).T
    np.testing.assert_allclose(virtual_reference(logps, weights), logps[0])


def test_it_lies_between_its_references_and_below_their_mean():
    logps = random_sums(5)
    weights = np.random.default_rng(1).dirichlet(np.ones(5), size=50).T
    mixed = virtual_reference(logps, weights)
    assert (logps.min(0) - 1e-9 <= mixed).all()
    assert (mixed <= (weights * logps).sum(0) + 1e-9).all()  # Jensen, the paper's bound


def test_long_completions_do_not_overflow():
    assert np.isfinite(virtual_reference(np.full((2, 1), -1e5), np.full((2, 1), 0.5))).all()


def test_adaptive_weights_are_shares_of_the_margins():
    """Margins 1 and 3: weights 1/4 and 3/4. Without any margin they are equal."""
    chosen, rejected = np.array([[-2.0, -5], [-4, -6]]), np.array([[-3.0, -5], [-1, -6]])
    np.testing.assert_allclose(adaptive_weights(chosen, rejected), [[0.25, 0.5], [0.75, 0.5]])


def test_radii_share_the_largest_one_by_the_size_of_the_sides():
    """Mean log-probs -10 and -30: a quarter and three quarters of 0.1."""
    chosen, rejected = np.array([[-5.0], [-15]]), np.array([[-20.0], [-40]])
    np.testing.assert_allclose(adaptive_radii(chosen, rejected, 0.1), [[0.025], [0.075]])


def test_clipping_moves_all_but_the_anchor_into_its_region():
    clipped = clip_to_anchor(np.array([[-10.0], [-20], [-9.5], [-1]]), 0.1)
    np.testing.assert_allclose(clipped, [[-10], [-11], [-9.5], [-9]])


@pytest.mark.parametrize("adaptive", [False, True])
def test_radius_0_is_dpo_with_the_anchor(adaptive):
    chosen, rejected = random_sums(3), random_sums(3)[:, ::-1]
    chosen_mix, rejected_mix, _ = mix(chosen, rejected, MixtureSettings([], None, 0.0, adaptive))
    np.testing.assert_allclose(chosen_mix, chosen[0])
    np.testing.assert_allclose(rejected_mix, rejected[0])


def test_weights_come_before_clipping():
    chosen, rejected = random_sums(3), random_sums(3)[:, ::-1]
    *_, weights = mix(chosen, rejected, MixtureSettings([], None, 0.01, True))
    np.testing.assert_allclose(weights, adaptive_weights(chosen, rejected))


def test_fixed_weights_are_normalised():
    chosen, rejected = random_sums(2), random_sums(2)[:, ::-1]
    *_, weights = mix(chosen, rejected, MixtureSettings([], [1.0, 3.0], None, False))
    np.testing.assert_allclose(weights[:, 7], [0.25, 0.75])


def test_a_shift_keeps_the_order_of_tokens_and_gives_the_sum():
    column = shifted(np.array([-1.0, -4, -0.5], np.float32), -7.0)
    np.testing.assert_allclose(column, [-1.5, -4.5, -1.0])


def test_a_constant_factor_of_the_reference_cancels_in_the_loss():
    """So weights need not sum to 1, and a prompt's own log-prob may be left out."""
    policy = PairLogps(torch.tensor([-5.0]), torch.tensor([-7.0]))
    losses = [
        dpo_loss(policy, PairLogps(torch.tensor([-6.0 + c]), torch.tensor([-6.5 + c])), beta=0.1)
        for c in (0, 9)
    ]
    torch.testing.assert_close(losses[0].losses, losses[1].losses)


@pytest.fixture(scope="module")
def foreign_policy(tmp_path_factory) -> Path:
    """A random checkpoint with another vocabulary."""
    home = tmp_path_factory.mktemp("foreign")
    train_tokenizer([p.prompt + p.canonical_solution for p in toy_problems("train", 100)], home / "t", 500)
    tokenizer = load_tokenizer(home / "t")
    ids = {"vocab_size": tokenizer.size, "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    torch.manual_seed(1)
    save_model(Transformer(parse_config(ARCHITECTURE | ids)), home / "policy", tokenizer_from=home / "t")
    return home / "policy"


@pytest.fixture
def run(run_program, tiny_policy, tiny_pairs):
    """run(program, *overrides) on the tiny policy and its pairs."""

    def start(main, *overrides: str) -> int:
        small = ("device=cpu", "optim.lr=1e-3", "optim.batch=8", "optim.max_steps=2", "optim.epochs=1")
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}")
        return run_program(main, "+exp=mrpo", *small, *paths, *overrides)

    return start


def losses_of(name: str) -> list[float]:
    rows = map(json.loads, Path("out", name, "dpo.metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def test_one_reference_is_dpo(run):
    assert run(reference_mixture.main, "variant.references=[base]") == 0
    assert run(train_dpo.main) == 0
    assert run(train_dpo.main, "run.name=plain", "run.reference=null") == 0
    np.testing.assert_allclose(losses_of("mrpo"), losses_of("plain"), atol=2e-6)  # the column is float32


def test_a_reference_with_another_tokenizer_scores_the_same_text(
    run, tiny_policy, tiny_pairs, foreign_policy, capsys
):
    """A one-hot weight gives sums that scoring the foreign text by hand gives."""
    one_hot = ("variant.weights=[0,1]", "variant.radius=null")
    assert run(reference_mixture.main, f"variant.references=[base,{foreign_policy}]", *one_hot) == 0
    assert "virtual" in capsys.readouterr().out
    pairs, _ = read_pairs(tiny_pairs, load_tokenizer(tiny_policy), max_prompt=256, max_completion=256)
    columns = read_columns("out/mrpo/virtual_reference.safetensors", pairs)
    (_, row), *_ = iterate_jsonl(tiny_pairs)
    tokenizer, model = load_tokenizer(foreign_policy), train_dpo.load_policy(foreign_policy, None, compute())
    prompt, answer = tokenizer.prompt_ids(row["prompt"]), tokenizer.completion_ids(row["rejected"])
    ids = torch.tensor(prompt + answer)
    spans = torch.tensor([[0, len(prompt), len(answer), 0]])
    with torch.no_grad():
        logits = model(ids, torch.arange(len(ids)), spans) @ model.lm_head.weight.T
    expected = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, ids[len(prompt) :, None]).sum()
    assert columns[0][1].sum() == pytest.approx(expected.item(), abs=1e-3)
    assert run(train_dpo.main) == 0
    assert losses_of("mrpo")[0] != pytest.approx(math.log(2), abs=1e-4)  # another reference than the policy


def compute():
    from model.training import Compute

    return Compute.choose("cpu", "fp32")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("variant.references=[]",), "variant.references is empty"),
        (("variant.references=[base]", "variant.weights=[1,2]"), "2 numbers for 1 references"),
        (("variant.references=[base]", "variant.weights=[-1]"), "one must be positive"),
        (("variant.references=[base]", "variant.radius=-0.1"), "variant.radius is -0.1"),
        (("run.reference=base",), "names the .safetensors file to write"),
        (("variant.references=[base,nowhere]",), "no checkpoint 'nowhere'"),
    ],
)
def test_mistakes_are_one_line(run, capsys, overrides, message):
    assert run(reference_mixture.main, *overrides) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_anchor_has_the_policys_tokenizer(run, foreign_policy, capsys):
    assert run(reference_mixture.main, f"variant.references=[{foreign_policy},base]") == 1
    assert "must have the policy's tokenizer" in capsys.readouterr().err

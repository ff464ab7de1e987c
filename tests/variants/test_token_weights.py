"""TIS-DPO's weights: the identities of its definition, and the program from pairs to a trained policy."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import train_dpo
from data.columns import read_columns
from data.jsonl import read_jsonl, write_jsonl
from data.pairs import collate, read_pairs
from data.tokenizer import load_tokenizer
from data.types import PreferencePair
from losses.dpo import dpo_loss
from losses.types import PairLogps
from variants import contrast_sets, token_weights, train_measured
from variants.contrast_sets import side_demonstrations, swapped
from variants.token_weights import (
    TokenWeightSettings,
    clamp_weights,
    completion_weights,
    pair_weights,
    rank_weights,
    with_prefix,
)

PAPER = TokenWeightSettings("a", "b", "", "", "clamp", 1.0, -0.5, 1.5, (0.7, 1.3), 1.0)
PLUS = np.array([-1.0, -2.0, -0.1, -3.0], np.float32)
MINUS = np.array([-1.3, -0.5, -4.0, -3.0], np.float32)


def test_worked_example():
    """rho = 0.3, -1.5, 3.9, 0 is clamped to 0.3, -0.5, 1.5, 0; the end token counts 1."""
    chosen = completion_weights(PLUS, MINUS, 1, True, PAPER)
    np.testing.assert_allclose(chosen, np.exp([0.3, -0.5, 1.5, 0]), rtol=1e-6)
    rejected = completion_weights(PLUS, MINUS, -1, False, PAPER)
    np.testing.assert_allclose(rejected, np.exp([-0.3, 0.5, -1.5, 0]), rtol=1e-6)


def test_identical_models_give_the_scale():
    assert (clamp_weights(np.zeros(5), 1, 2.5, -0.5, 1.5) == 2.5).all()
    assert (rank_weights(np.zeros(5), -1, 0.7, 1.3) == 1.0).all()


def test_swapped_models_invert_the_weights_when_the_bounds_are_symmetric():
    rho = np.linspace(-3, 3, 13)
    weights, inverse = (clamp_weights(sign_rho, 1, 1.0, -0.8, 0.8) for sign_rho in (rho, -rho))
    np.testing.assert_allclose(weights * inverse, 1, rtol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_stay_within_their_bounds(sign):
    rho = np.random.default_rng(0).normal(scale=5, size=1000)
    weights = clamp_weights(rho, sign, 1.0, -0.5, 1.5)
    low, high = sorted((math.exp(sign * -0.5), math.exp(sign * 1.5)))
    assert weights.min() == pytest.approx(low)
    assert weights.max() == pytest.approx(high)


def test_a_chosen_token_that_plus_likes_counts_more_and_a_rejected_one_less():
    liked = np.array([-0.5, 0.5])
    assert np.diff(clamp_weights(liked, 1, 1.0, -0.5, 1.5)) > 0
    assert np.diff(clamp_weights(liked, -1, 1.0, -0.5, 1.5)) < 0
    assert np.diff(rank_weights(liked, 1, 0.7, 1.3)) > 0


def test_ranks_are_spread_evenly_and_ties_share_theirs():
    np.testing.assert_allclose(rank_weights(np.array([5.0, -1, 2]), 1, 0.7, 1.3), [1.3, 0.7, 1.0])
    np.testing.assert_allclose(rank_weights(np.array([5.0, -1, 2]), -1, 0.7, 1.3), [0.7, 1.3, 1.0])
    np.testing.assert_allclose(rank_weights(np.array([0.0, 0, 2]), 1, 0.7, 1.3), [0.85, 0.85, 1.3])
    assert rank_weights(np.array([4.0]), 1, 0.7, 1.3).tolist() == [1.0]


def sums(weights: list[np.ndarray], logps: torch.Tensor, pair: PreferencePair) -> PairLogps:
    batch = collate([pair], [0], weights=[tuple(map(np.float32, weights))])
    return train_dpo.pair_sums(logps, batch)


def test_equal_weights_are_dpo_with_another_beta():
    pair = PreferencePair("t", "", "", "", [1], [2, 3, 4], [5, 6])
    policy, reference = torch.randn(5), torch.randn(5)
    ones, threes = ([np.full(3, c), np.full(2, c)] for c in (1.0, 3.0))
    weighted = dpo_loss(sums(threes, policy, pair), sums(threes, reference, pair), beta=0.1)
    plain = dpo_loss(sums(ones, policy, pair), sums(ones, reference, pair), beta=0.3)
    torch.testing.assert_close(weighted.losses, plain.losses)


def test_the_end_token_is_only_set_where_there_is_one():
    pair = PreferencePair("t", "", "", "", [1], [5, 6, 9], [5, 6, 7])
    plus, minus = ([(np.zeros(3), np.full(3, c))] for c in (0.0, 1.0))
    minus = [(np.full(3, 1.0), np.full(3, 1.0))]
    ((chosen, rejected),) = pair_weights([pair], plus, minus, frozenset({9}), PAPER)
    assert chosen[-1] == 1
    assert rejected[-1] == pytest.approx(math.exp(0.5))


def test_a_prefix_moves_the_prompt_alone(tiny_policy):
    tokenizer = load_tokenizer(tiny_policy)
    ids = tokenizer.prompt_ids("def f(x):\n")
    pair = PreferencePair("t", "def f(x):\n", "", "", ids, [7, 8], [9])
    moved = with_prefix(pair, "# Right.\n", tokenizer)
    assert tokenizer.decode(moved.prompt_ids) == "# Right.\ndef f(x):\n"
    assert moved.prompt_ids.count(tokenizer.bos_id) == ids.count(tokenizer.bos_id)
    assert (moved.chosen_ids, moved.rejected_ids) == ([7, 8], [9])
    assert with_prefix(pair, "", tokenizer) == pair


@pytest.fixture
def run(run_program, tiny_policy, tiny_pairs):
    """run(program, *overrides) on the tiny policy and its pairs."""

    def start(main, *overrides: str, experiment: str = "tis_dpo") -> int:
        small = ("device=cpu", "optim.lr=1e-3", "optim.batch=8", "optim.max_steps=2", "optim.epochs=1")
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}")
        return run_program(main, f"+exp={experiment}", *small, *paths, *overrides)

    return start


def losses_of(name: str) -> list[float]:
    rows = map(json.loads, Path("out", name, "dpo.metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def test_weights_of_1_change_nothing(run, tiny_policy):
    shutil.copytree(tiny_policy, "same")
    assert run(token_weights.main, "variant.plus=base", "variant.minus=same") == 0
    assert run(train_dpo.main) == 0
    assert run(train_dpo.main, "run.name=plain", "data.weights=null") == 0
    assert losses_of("tis_dpo") == losses_of("plain")


def test_the_line_from_pairs_to_policy(run, tiny_policy, tiny_pairs, capsys):
    assert run(contrast_sets.main) == 0
    tossed = [row["meta"].get("swapped", False) for row in read_jsonl("out/tis_dpo/shuffled.jsonl")]
    assert 4 <= sum(tossed) <= 16  # of 20
    fast = ("data.weights=null", "optim.lr=1e-2")
    assert run(train_dpo.main, "run.name=tis_dpo/plus", *fast) == 0
    swapped_pairs = ("run.name=tis_dpo/minus", "data.pairs=out/tis_dpo/swapped.jsonl")
    assert run(train_dpo.main, *swapped_pairs, *fast) == 0
    assert run(token_weights.main) == 0
    printed = capsys.readouterr().out
    assert "mean weight" in printed
    tokenizer = load_tokenizer(tiny_policy)
    pairs, _ = read_pairs(tiny_pairs, tokenizer, max_prompt=256, max_completion=256)
    columns = read_columns("out/tis_dpo/token_weights.safetensors", pairs)
    chosen, rejected = (np.concatenate([sides[side] for sides in columns]) for side in (0, 1))
    assert chosen.mean() > 1 > rejected.min()  # plus has been taught the chosen tokens
    assert all(side[-1] == 1 for sides in columns for side in sides)
    assert run(train_dpo.main, "optim.max_steps=1") == 0
    assert losses_of("tis_dpo")[0] == pytest.approx(math.log(2), abs=1e-5)


def test_prefixes_estimate_without_training(run):
    assert run(token_weights.main, "variant=tis_prompt", "variant.transform=rank") == 0
    meta = json.loads(Path("out/tis_dpo/token_weights.safetensors.meta.json").read_text())
    assert meta["settings"]["transform"] == "rank"


def test_the_divergence_joins_the_weights(run):
    assert run(token_weights.main, "variant=tis_prompt") == 0
    assert run(train_measured.main, experiment="tis_divergence") == 0
    rows = [json.loads(row) for row in Path("out/tis_divergence/dpo.metrics.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[1]["measured/reverse_kl"] > rows[0]["measured/reverse_kl"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("variant.plus=base", "variant.minus=base"), "same model behind the same prefix"),
        (("variant.plus=base", "variant.minus=x", "variant.transform=exp"), "expected clamp or rank"),
        (("data.weights=null",), "data.weights is not set"),
        (("+variant.estimater=dpo",), "estimater"),
        (("variant.lower=low",), "lower"),
    ],
)
def test_mistakes_are_one_line(run, capsys, overrides, message):
    assert run(token_weights.main, *overrides) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_swapping_twice_is_the_pair_and_demonstrations_are_distinct(tiny_policy):
    tokenizer = load_tokenizer(tiny_policy)
    pair = PreferencePair("t", "a", "b", "c", tokenizer.prompt_ids("a"), [2], [3], {"tokenizer": "d", "x": 1})
    assert swapped(swapped(pair)) == PreferencePair(
        "t", "a", "b", "c", pair.prompt_ids, [2], [3], {"tokenizer": "d", "swapped": True}
    )
    rows = side_demonstrations([pair, pair], "rejected")
    assert rows == [{"task_id": "t", "prompt": "a", "completion": "c"}]


def test_pairs_from_conversations_are_swapped_and_give_no_demonstrations(
    run, tiny_policy, tiny_pairs, tmp_path, capsys
):
    tokenizer = load_tokenizer(tiny_policy)
    limits = {"max_prompt": 256, "max_completion": 256}
    pairs, _ = read_pairs(tiny_pairs, tokenizer, **limits)
    asked = [replace(pair, prompt_ids=tokenizer.prompt_ids("User: " + pair.prompt)) for pair in pairs]
    write_jsonl(tmp_path / "chat.jsonl", [*asked[:3], *pairs[3:]])
    assert run(contrast_sets.main, f"data.pairs={tmp_path / 'chat.jsonl'}") == 0
    assert "chosen.jsonl, rejected.jsonl: 3 of 20 prompts are conversations" in capsys.readouterr().out
    assert {path.name for path in Path("out/tis_dpo").glob("*.jsonl")} == {"shuffled.jsonl", "swapped.jsonl"}
    turned, _ = read_pairs("out/tis_dpo/swapped.jsonl", tokenizer, **limits)
    found = [(pair.prompt_ids, pair.chosen_ids, pair.rejected_ids) for pair in turned[:3]]
    assert found == [(pair.prompt_ids, pair.rejected_ids, pair.chosen_ids) for pair in asked[:3]]


def test_the_sides_of_text_pairs_are_demonstrations(run, tiny_pairs):
    assert run(contrast_sets.main) == 0
    pairs = read_jsonl(tiny_pairs)
    for side in ("chosen", "rejected"):
        written = read_jsonl(f"out/tis_dpo/{side}.jsonl")
        expected = [(row["prompt"], row[side]) for row in pairs]
        assert [(row["prompt"], row["completion"]) for row in written] == expected

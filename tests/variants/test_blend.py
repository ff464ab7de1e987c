"""Averaged checkpoints, and TR-DPO's refresh as a run between two runs."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_dpo
from model.checkpoint import load_model, save_model
from model.families import parse_config
from model.transformer import Transformer
from variants import blend

SMALL = ("optim.lr=3e-3", "optim.batch=4", "optim.warmup=0")


@pytest.fixture
def run(run_program, tiny_policy, tiny_pairs):
    def start(main, *overrides: str) -> int:
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", "device=cpu")
        return run_program(main, "+exp=tr_dpo", *SMALL, *paths, *overrides)

    return start


def tensors(folder) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "model.safetensors"))


def first_loss(name: str) -> float:
    return json.loads(Path("out", name, "dpo.metrics.jsonl").read_text().splitlines()[0])["loss"]


def test_a_refreshed_reference_lies_between_and_the_next_run_is_held_to_it(run, tiny_policy, capsys):
    assert run(train_dpo.main) == 0
    assert run(blend.main) == 0
    policy, base, mixed = (tensors(f) for f in ("out/tr_dpo/dpo", tiny_policy, "out/tr_dpo/reference"))
    assert any(not torch.equal(policy[name], base[name]) for name in base)
    for name, tensor in mixed.items():
        torch.testing.assert_close(tensor, 0.6 * policy[name] + 0.4 * base[name])
    going_on = ("run.init=tr_dpo/dpo", "run.name=tr_dpo/2")
    assert run(train_dpo.main, *going_on, "run.reference=tr_dpo/reference") == 0
    assert "tr_dpo/2" in capsys.readouterr().out
    assert 0.3 < first_loss("tr_dpo/2") < math.log(2) - 0.01  # the policy is already ahead of its reference
    assert run(train_dpo.main, *going_on, "run.name=tr_dpo/hard") == 0
    assert first_loss("tr_dpo/hard") == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize(("share", "same_as"), [(0, "base"), (1, "other")])
def test_the_ends_are_the_two_models(run, tiny_policy, share, same_as):
    other = load_model(tiny_policy)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    save_model(other, "other", tokenizer_from=tiny_policy)
    assert run(blend.main, "variant.policy=other", f"variant.share={share}", "variant.output=mixed") == 0
    expected = tensors(tiny_policy if same_as == "base" else "other")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors("mixed").items())


def test_another_architecture_is_named(run, tiny_policy, capsys):
    config = json.loads(Path(tiny_policy, "config.json").read_text())
    narrow = Transformer(parse_config(config | {"intermediate_size": 32}))
    save_model(narrow, "narrow", tokenizer_from=tiny_policy)
    assert run(blend.main, "variant.policy=narrow") == 1
    assert re.search(r"mlp.* is \[.*\] in the reference, \[.*\] in the policy", capsys.readouterr().err)


def test_mistakes_are_one_line(run, tiny_policy, capsys):
    for overrides, message in (
        (("variant.policy=base", "variant.share=1.5"), "variant.share is 1.5"),
        (("variant.policy=base", f"variant.output={tiny_policy}"), "is one of the two models"),
        ((), "no checkpoint 'dpo'"),
    ):
        assert run(blend.main, *overrides) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

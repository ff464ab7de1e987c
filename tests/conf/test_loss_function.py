"""A loss is tried before anything is read: what it gives, and what hinders that it is found."""

import importlib
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from conf.loss_function import loss_function
from data.jsonl import digest
from tests.conftest import compose_config

LOSS = """from losses.types import PreferenceLoss, log_ratios

def f(policy, reference, *, beta=1.0, state=None, forward_kl=None, log_weight=None, kl=None):
    chosen, rejected = log_ratios(policy, reference)
    margin = chosen - rejected
    loss = -margin.sigmoid()
    return """
GOOD = "PreferenceLoss(loss, chosen.detach(), rejected.detach())"


@pytest.fixture
def target(tmp_path, monkeypatch):
    """target(source) -> the name of `f` in a new file with that source."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        name = f"mine_{digest(source)}"
        Path(tmp_path, f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        return f"{name}.f"

    return write


@pytest.fixture
def mine(target):
    """mine(source) -> the loss `f` of a file with that source."""
    return lambda source: loss_function(OmegaConf.create({"_target_": target(source), "_partial_": True}))


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ("PreferenceLoss(loss.mean(), chosen, rejected)", r"torch.float64 \[\] for losses of 2 pairs"),
        ("PreferenceLoss(loss, chosen.mean(), rejected)", r"torch.float64 \[\] for chosen_rewards"),
        ("PreferenceLoss(loss, chosen, chosen > rejected)", r"torch.bool \[2\] for rejected_rewards"),
        ("loss", "Tensor for losses"),
        ("(loss, chosen, rejected)", "tuple for losses"),
        ("None", "NoneType for losses"),
        ("PreferenceLoss(loss.detach(), chosen, rejected)", "do not depend on the policy"),
    ],
)
def test_a_loss_that_gives_something_else_than_numbers_per_pair_is_refused(mine, result, found):
    with pytest.raises(ValueError, match=rf"loss mine_\w+\.f gives .*{found}"):
        mine(LOSS + result)
    assert mine(LOSS + GOOD)


def test_a_loss_inside_another_is_tried_too(target):
    scalar = target(LOSS + "PreferenceLoss(loss.mean(), chosen, rejected)")
    with pytest.raises(ValueError, match=r"loss\.parts\.0 mine_\w+\.f gives torch.float64 \[\]"):
        loss_function(compose_config("loss=mpo", f"loss.parts.0._target_={scalar}").loss)


@pytest.mark.parametrize("name", ["beta_dpo", "wpo", "tdpo1", "tis_dpo", "kto", "bco", "mpo"])
def test_trying_a_loss_takes_no_random_numbers(name):
    before = torch.random.get_rng_state()
    loss_function(compose_config(f"loss={name}").loss)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef f(:", r"SyntaxError: invalid syntax \(.*mine_\w+\.py, line 2\)"),
        ("\nimport nothing_like_it", r"No module named 'nothing_like_it' \(.*mine_\w+\.py, line 2\)"),
        ("x = 1\n\ny = z", r"NameError: name 'z' is not defined \(.*mine_\w+\.py, line 3\)"),
        ("def g(): pass", r"there is no mine_\w+\.f"),
    ],
)
def test_what_is_wrong_with_the_file_of_a_loss_is_one_line(mine, source, message):
    with pytest.raises(ValueError, match=rf"loss: .*'mine_\w+\.f': .*{message}$") as error:
        mine(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("~loss._target_",), "loss lacks _target_ or _partial_"),
        (("~loss._partial_",), "losses.dpo.dpo_loss.*is _partial_: true missing"),
        (("loss=mpo", "~loss.parts.1._target_"), r"loss\.parts\.1 lacks _target_"),
        (("loss=mpo", "~loss.parts.1._partial_"), "losses.bco.bco_loss.*is _partial_: true missing"),
    ],
)
def test_a_loss_without_target_or_partial_is_refused(overrides, message):
    cfg = compose_config(*(o for o in overrides if not o.startswith("~"))).loss
    for key in (o.removeprefix("~loss.") for o in overrides if o.startswith("~")):
        *parents, name = key.split(".")
        node = cfg
        for parent in parents:
            node = node[int(parent) if parent.isdigit() else parent]
        OmegaConf.set_struct(node, False)
        del node[name]
    with pytest.raises(ValueError, match=message) as error:
        loss_function(cfg)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["~loss.beta"],
        ["loss=kto", "~loss.beta"],
        ["loss._target_=losses.simpo.simpo_loss", "loss.beta=2"],
    ],
)
def test_a_loss_that_lacks_a_setting_is_refused(overrides):
    with pytest.raises(
        ValueError, match=r"loss losses.*_loss lacks settings; give \+\+loss\.(beta|gamma_beta_ratio)=\.\.\."
    ):
        loss_function(compose_config(*overrides).loss)

"""model/optim.py: schedules by hand, which parameters decay, masters that keep what bfloat16 loses."""

import copy
import math

import pytest
import torch
from torch import nn

from model.optim import MasterAdamW, adamw, clip_grad_norm, learning_rate, parameter_groups

SETTINGS = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


class Tiny(nn.Module):
    """Embedding, norm, matrix with bias, and a head that may share the embedding's weight."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.up = nn.Linear(4, 4)
        self.lm_head = nn.Linear(4, 7, bias=False)
        if tied:
            self.lm_head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.up(self.norm(self.embedding(ids))))


def tiny(dtype: torch.dtype = torch.float32, tied: bool = True) -> Tiny:
    torch.manual_seed(0)
    return Tiny(tied).to(dtype)


def train(model: nn.Module, optimizer: object, steps: range, lr: float = 1e-3) -> None:
    """A few steps on data that depends on the step only."""
    for step in steps:
        ids = torch.randint(0, 7, (5,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(ids).float(), ids.roll(1)).backward()
        for group in optimizer.param_groups:
            group["lr"] = lr / (1 + step)
        optimizer.step()


def rate(step: int, schedule: str) -> float:
    return learning_rate(step, peak=1.0, warmup_steps=4, total_steps=12, schedule=schedule)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_rises_in_equal_parts_and_step_w_is_the_first_at_the_peak(schedule):
    assert [rate(s, schedule) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_decays_worked_out_by_hand():
    """W = 4, T = 12: step 8 is half way, step 10 three quarters; cosine there (1 + cos(3 pi / 4)) / 2."""
    assert rate(8, "linear") == pytest.approx(0.5)
    assert rate(10, "linear") == pytest.approx(0.25)
    assert rate(11, "linear") == pytest.approx(1 / 8)
    assert rate(8, "cosine") == pytest.approx(0.5)
    assert rate(10, "cosine") == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert [rate(s, "constant") for s in (4, 8, 11, 12, 100)] == [1.0] * 5


def test_decays_end_at_zero_one_step_after_the_last():
    assert rate(11, "linear") > 0
    assert rate(11, "cosine") > 0
    assert [rate(s, k) for s in (12, 13) for k in ("linear", "cosine")] == [0.0] * 4


def test_without_warm_up_the_first_step_has_the_peak():
    for schedule in ("constant", "linear", "cosine"):
        assert learning_rate(0, peak=3e-4, warmup_steps=0, total_steps=1, schedule=schedule) == 3e-4


def test_warm_up_over_the_whole_run_is_allowed_and_longer_is_not():
    assert learning_rate(9, peak=1.1, warmup_steps=10, total_steps=10, schedule="cosine") == pytest.approx(
        1.0
    )
    with pytest.raises(ValueError, match="warmup_steps 11, total_steps 10"):
        learning_rate(0, peak=1.0, warmup_steps=11, total_steps=10, schedule="cosine")
    with pytest.raises(ValueError, match="'exponential', expected one of constant, linear, cosine"):
        learning_rate(0, peak=1.0, warmup_steps=0, total_steps=1, schedule="exponential")


@pytest.mark.parametrize("tied", [True, False])
def test_matrices_decay_and_vectors_and_embeddings_do_not(tied):
    model = tiny(tied=tied)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, others = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    matrices = {"up.weight"} | (set() if tied else {"lm_head.weight"})
    assert {names[id(p)] for p in decayed["params"]} == matrices
    assert {names[id(p)] for p in others["params"]} == {
        "embedding.weight", "norm.weight", "norm.bias", "up.bias",
    }  # fmt: skip


def test_frozen_parameters_are_in_no_group_and_empty_groups_are_left_out():
    model = tiny()
    model.requires_grad_(False)
    model.up.weight.requires_grad_(True)
    (group,) = parameter_groups(model, 0.1)
    assert group["params"] == [model.up.weight]
    model.up.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        adamw(model, 1e-3, **SETTINGS)


def test_first_step_of_adamw_moves_by_the_learning_rate_against_the_gradient():
    """Adam's first step is lr * g / (|g| + eps) whatever |g|; decay first takes off lr * 0.1 of a matrix."""
    model = tiny()
    before = copy.deepcopy(model)
    optimizer = adamw(model, 0.01, **SETTINGS)
    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    optimizer.step()
    torch.testing.assert_close(model.up.weight, before.up.weight * (1 - 0.001) - 0.01)
    torch.testing.assert_close(model.norm.weight, before.norm.weight - 0.01)
    torch.testing.assert_close(model.embedding.weight, before.embedding.weight - 0.01)


def test_masters_keep_updates_that_bfloat16_alone_loses():
    """0.5 - 5e-7 is 0.5 in bfloat16, 4,000 times over; the master arrives at 0.5 - 4000 * 5e-7 = 0.498.

    Float32 itself rounds each update to a multiple of 2^-25 (1.3 %), hence the tolerance.
    """
    weight = nn.Parameter(torch.full((8,), 0.5, dtype=torch.bfloat16))
    alone = nn.Parameter(weight.detach().clone())
    settings = {"lr": 5e-7, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}
    with_masters = MasterAdamW([{"params": [weight]}], **settings)
    without = torch.optim.AdamW([alone], **settings)
    for _ in range(4000):
        weight.grad, alone.grad = torch.ones_like(weight), torch.ones_like(alone)
        with_masters.step()
        without.step()
    assert torch.equal(alone.detach(), torch.full_like(alone, 0.5))
    torch.testing.assert_close(with_masters.masters[0], torch.full((8,), 0.498), rtol=0, atol=4e-5)
    assert torch.equal(weight.detach(), torch.full_like(weight, 0.498))


def test_masters_follow_float32_adamw_given_the_same_gradients():
    model = tiny(torch.bfloat16)
    twin = copy.deepcopy(model).float()
    optimizer, plain = adamw(model, 1e-2, **SETTINGS), adamw(twin, 1e-2, **SETTINGS)
    assert isinstance(optimizer, MasterAdamW)
    assert isinstance(plain, torch.optim.AdamW)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator).bfloat16()
            q.grad = p.grad.float()
        optimizer.step()
        plain.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q.bfloat16())


def test_bucket_size_changes_nothing_and_gradients_survive_the_step(monkeypatch):
    once, split = tiny(torch.bfloat16), tiny(torch.bfloat16)
    train(once, adamw(once, 1e-2, **SETTINGS), range(3))
    monkeypatch.setattr("model.optim.BUCKET_ELEMENTS", 1)
    train(split, adamw(split, 1e-2, **SETTINGS), range(3))
    for p, q in zip(once.parameters(), split.parameters(), strict=True):
        assert torch.equal(p, q)
        assert q.grad is not None
        assert q.grad.dtype == torch.bfloat16


def test_float32_parameters_beside_bfloat16_ones_are_stepped_directly():
    model = tiny(torch.bfloat16)
    model.norm.float()
    optimizer = adamw(model, 1e-2, **SETTINGS)
    before = model.norm.weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    torch.testing.assert_close(model.norm.weight.detach(), before - 1e-2)
    assert len(optimizer.state_dict()["masters"]) == 3


def test_a_parameter_without_gradient_is_left_alone():
    model = tiny(torch.bfloat16)
    optimizer = adamw(model, 1e-2, **SETTINGS)
    before = model.up.weight.detach().clone()
    model.norm.weight.grad = torch.ones_like(model.norm.weight)
    optimizer.step()
    assert torch.equal(model.up.weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stop_and_resume_is_bit_exact(dtype, tmp_path):
    straight = tiny(dtype)
    train(straight, adamw(straight, 1e-2, **SETTINGS), range(6))

    first = tiny(dtype)
    optimizer = adamw(first, 1e-2, **SETTINGS)
    train(first, optimizer, range(3))
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")

    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    second = tiny(dtype)
    second.load_state_dict(saved["model"])
    resumed = adamw(second, 1e-2, **SETTINGS)
    resumed.load_state_dict(saved["optimizer"])
    train(second, resumed, range(3, 6))
    for p, q in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_state_of_other_weights_or_shapes_is_refused():
    model = tiny(torch.bfloat16)
    state = adamw(model, 1e-2, **SETTINGS).state_dict()
    with torch.no_grad():
        model.up.weight += 1
    with pytest.raises(ValueError, match="do not round to the model's parameter 0"):
        adamw(model, 1e-2, **SETTINGS).load_state_dict(state)
    state["masters"].pop(0)
    with pytest.raises(ValueError, match="has no master for parameter 0"):
        adamw(model, 1e-2, **SETTINGS).load_state_dict(state)


def with_grads(*grads: list[float], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(g), dtype=dtype)) for g in grads]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = torch.tensor(g, dtype=dtype)
    return parameters


def test_clipping_scales_all_gradients_by_one_number():
    """Norm of (3, 0) and (4,) together is 5; clipped to 1 every entry is divided by 5."""
    a, b = with_grads([3.0, 0.0], [4.0])
    assert clip_grad_norm([a, b, nn.Parameter(torch.zeros(2))], 1.0).item() == 5.0
    torch.testing.assert_close(a.grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(b.grad, torch.tensor([0.8]))


@pytest.mark.parametrize("max_norm", [6.0, math.inf])
def test_gradients_within_the_limit_stay_bit_for_bit(max_norm):
    a, b = with_grads([3.0, 0.1], [4.0])
    before = [a.grad.clone(), b.grad.clone()]
    clip_grad_norm([a, b], max_norm)
    assert torch.equal(a.grad, before[0])
    assert torch.equal(b.grad, before[1])


def test_the_norm_of_bfloat16_gradients_is_float32():
    """10,001 ones: the norm is 100.005; bfloat16 can only say 100 or 100.5."""
    (p,) = with_grads([1.0] * 10_001, dtype=torch.bfloat16)
    norm = clip_grad_norm([p], math.inf)
    assert norm.dtype == torch.float32
    assert norm.item() == pytest.approx(math.sqrt(10_001), rel=1e-6)


def test_zero_gradients_stay_zero_and_none_at_all_has_norm_zero():
    (p,) = with_grads([0.0, 0.0])
    assert clip_grad_norm([p], 1.0).item() == 0.0
    assert torch.equal(p.grad, torch.zeros(2))
    assert clip_grad_norm([nn.Parameter(torch.zeros(2))], 1.0).item() == 0.0


def test_a_norm_that_is_not_a_number_is_reported():
    (p,) = with_grads([math.nan, 1.0])
    assert math.isnan(clip_grad_norm([p], 1.0).item())


def test_a_limit_of_zero_is_refused():
    with pytest.raises(ValueError, match="max_norm is 0"):
        clip_grad_norm([], 0)

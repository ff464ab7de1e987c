"""What every conf/loss file must satisfy: values and gradients at the reference, derivatives, extremes."""

import math
from functools import partial
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from losses.contract import needs_whole_batch, takes
from losses.dpo import dpo_loss
from losses.types import PairLogps

FILES = {path.stem: path for path in (Path(__file__).parents[2] / "conf/loss").glob("*.yaml")}
NAMES = sorted(FILES)
LOG2 = math.log(2)
B = 6
MEASURED = {"log_weight": (B,), "forward_kl": (2, B), "reverse_kl": (2, B)}  # beyond log-prob sums


def load(name, **measured):
    """The loss of conf/loss/<name>.yaml; other measurements it needs are those of a policy at rest."""
    loss = hydra.utils.instantiate(OmegaConf.load(FILES[name]))
    for key, shape in MEASURED.items():
        if takes(loss, key):
            measured.setdefault(key, torch.zeros(shape, dtype=torch.float64))
    return partial(loss, **measured)


def logps(seed, dtype=torch.float64, count=B, scale=1.0):
    """PairLogps of `count` completions of 5 to 30 tokens, about -2 nats per token."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [torch.tensor([12, 5, 30, 9, 17, 8][:count]), torch.tensor([7, 6, 25, 14, 17, 20][:count])]
    noise = torch.randn(2, count, generator=generator, dtype=torch.float64)
    sums = [-2 * n - 1 + 3 * scale * e for n, e in zip(lengths, noise, strict=True)]
    return PairLogps(*(s.to(dtype) for s in sums), *(n.to(dtype) for n in lengths))


def gradients(loss, policy, reference):
    """d(sum of losses) / d(chosen, rejected), [B] each."""
    chosen, rejected = policy.chosen.clone().requires_grad_(), policy.rejected.clone().requires_grad_()
    losses = loss(policy._replace(chosen=chosen, rejected=rejected), reference).losses
    return torch.autograd.grad(losses.sum(), (chosen, rejected), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_names_a_loss_that_runs(name):
    policy, reference = logps(0), logps(1)
    policy.chosen.requires_grad_()
    policy.rejected.requires_grad_()
    result = load(name)(policy, reference)
    assert result.losses.shape == result.chosen_rewards.shape == result.rejected_rewards.shape == (B,)
    assert result.losses.isfinite().all()
    assert result.losses.requires_grad
    assert not result.chosen_rewards.requires_grad
    assert not result.rejected_rewards.requires_grad
    assert result.state is None or not result.state.requires_grad


def shaped(mean):
    """AlphaPO's reward at alpha 0.25."""
    return (1 - (-0.25 * mean).exp()) / 0.25


# Logged rewards that are not beta * log-ratio: (log-prob, reference's, length, beta) -> reward.
REWARDS = {
    "sigmoid_norm": lambda p, r, n, beta: beta * (p - r) / n,
    "simpo": lambda p, r, n, beta: beta * p / n,
    "cpo_simpo": lambda p, r, n, beta: 2.0 * p / n,
    "alpha_dpo": lambda p, r, n, beta: beta * p / n,
    "alpha_po": lambda p, r, n, beta: beta * shaped(p / n),
    "orpo": lambda p, r, n, beta: beta * p / n,
    "ipo": lambda p, r, n, beta: beta * (p - r) / n,
    "cpo": lambda p, r, n, beta: beta * p,
    "sft": lambda p, r, n, beta: p / n,
    "sft_token": lambda p, r, n, beta: p / n,
    "forward_kl": lambda p, r, n, beta: -beta * (r - p).exp(),
    "js": lambda p, r, n, beta: -beta * (1 + (r - p).exp()).log(),
    "alpha_divergence": lambda p, r, n, beta: beta * (1 - (0.5 * (r - p)).exp()) / 0.5,
    "wpo": lambda p, r, n, beta: 0.01 * (p - r),
    "mpo": lambda p, r, n, beta: 0.1 * (p - r),
    "rpo_token": lambda p, r, n, beta: 0.1 * (p - r),
}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"beta_dpo"}))  # beta_dpo's beta depends on the batch
def test_logged_rewards(name):
    policy, reference = logps(0), logps(1)
    loss = load(name)
    reward = REWARDS.get(name, lambda p, r, n, beta: beta * (p - r))
    beta = OmegaConf.load(FILES[name]).get("beta")
    result = loss(policy, reference)
    chosen = reward(policy.chosen, reference.chosen, policy.chosen_length, beta)
    rejected = reward(policy.rejected, reference.rejected, policy.rejected_length, beta)
    torch.testing.assert_close(result.chosen_rewards, chosen)
    torch.testing.assert_close(result.rejected_rewards, rejected)


def nll(policy):
    return -policy.chosen / policy.chosen_length


def mean_nll(policy):
    return -policy.chosen / policy.chosen_length.mean()


def per_length(policy):
    return 1 / policy.chosen_length, 1 / policy.rejected_length


# Value and gradient (d/d chosen, d/d rejected) where policy = reference: methods' own closed forms.
AT_REFERENCE = {
    "dpo": (LOG2, (-0.05, 0.05)),
    "cdpo": (LOG2, (-0.04, 0.04)),
    "robust": (LOG2, (-0.05 - 0.1 * 0.125, 0.05 + 0.1 * 0.125)),
    "ipo": (25.0, lambda p: (-10 / p.chosen_length, 10 / p.rejected_length)),
    "ipo_sum": (25.0, (-10.0, 10.0)),
    "hinge": (1.0, (-0.05, 0.05)),
    "sigmoid_norm": (LOG2, lambda p: (-2.5 / p.chosen_length, 2.5 / p.rejected_length)),
    "rpo": (lambda p: LOG2 + nll(p), lambda p: (-0.05 - 1 / p.chosen_length, 0.05)),
    "rpo_token": (lambda p: LOG2 + mean_nll(p), lambda p: (-0.05 - 1 / p.chosen_length.mean(), 0.05)),
    "dpop": (LOG2, (-0.15, 0.15)),
    "exo": (-LOG2 - 0.5 * math.log(0.001 * 0.999), lambda p: _exo_slope(p)),
    "nca": (2 * LOG2, (-0.0025, 0.0025)),
    "sppo": (5e5, (-1000.0, 1000.0)),
    "aot": (LOG2, (-0.005, 0.005)),
    "aot_unpaired": (LOG2, (-0.005, 0.005)),
    "bco": (2 * LOG2, (-0.005, 0.005)),
    "apo_zero": (1.0, (-0.025, 0.025)),
    "apo_down": (1.0, (0.0, 0.025)),
    "discopop": (0.5 * LOG2 + 0.5, lambda p: _discopop_slope(p)),
    "kto": (0.5, (-0.0125, 0.0125)),
    "cal_dpo": (LOG2 + 0.5 / (2 * 1e-6), (-0.5 - 500.0, 0.5 + 500.0)),
    "forward_kl": (LOG2, (-0.05, 0.05)),
    "js": (LOG2, (-0.025, 0.025)),
    "alpha_divergence": (LOG2, (-0.05, 0.05)),
    "minor_dpo": (LOG2, (-0.05, 0.05)),
    "tdpo1": (LOG2, (-0.05, 0.05)),
    "tdpo2": (LOG2, (-0.05, 0.05)),
    "tis_dpo": (LOG2, (-0.05, 0.05)),
    "wpo": (LOG2, (-0.005, 0.005)),
    "sft": (nll, lambda p: (-1 / p.chosen_length, 0 * p.chosen)),
    "sft_token": (mean_nll, lambda p: (-1 / p.chosen_length.mean(), 0.0)),
    "mpo": (
        lambda p: 0.8 * LOG2 + 0.2 * 2 * LOG2 + mean_nll(p),
        lambda p: (-0.04 - 0.01 - 1 / p.chosen_length.mean(), 0.04 + 0.01),
    ),
}
# Without a reference nothing special happens there; beta_dpo drops pairs; r_dpo counts tokens.
NO_FIXED_POINT = {"simpo", "cpo", "cpo_simpo", "orpo", "alpha_dpo", "alpha_po", "beta_dpo", "r_dpo"}


def _exo_slope(p, beta=0.1, eps=1e-3):
    """q' = q (1 - q) a'; d/da = q(1-q) [a - log((1-eps)/eps)] at a = 0."""
    slope = -0.25 * beta * math.log((1 - eps) / eps)
    return slope, -slope


def _discopop_slope(p, beta=0.05, tau=0.05):
    """g' = 1/(4 tau); d/da = g' (1 - log 2) - (1 - g)/2 - g at a = 0."""
    slope = beta * ((1 - LOG2) / (4 * tau) - 0.75)
    return slope, -slope


def test_every_file_is_in_the_table():
    assert set(NAMES) == set(AT_REFERENCE) | NO_FIXED_POINT


@pytest.mark.parametrize("name", sorted(AT_REFERENCE))
def test_value_and_gradient_at_the_reference(name):
    value, slopes = AT_REFERENCE[name]
    point = logps(0)
    value = value(point) if callable(value) else value
    slopes = slopes(point) if callable(slopes) else slopes
    losses = load(name)(point, point).losses
    torch.testing.assert_close(losses, torch.as_tensor(value, dtype=torch.float64).expand(B))
    for got, want in zip(gradients(load(name), point, point), slopes, strict=True):
        torch.testing.assert_close(got, torch.as_tensor(want, dtype=torch.float64).expand(B))


# Terms without gradient (a running mean, a standardised gap) are fixed: the difference would see them.
DERIVATIVES = {name: {} for name in NAMES} | {"kto": {"kl": torch.tensor(0.3)}, "bco": {"shift": False}}
for coupled_by_a_stopped_term in ("beta_dpo", "alpha_dpo", "mpo"):
    del DERIVATIVES[coupled_by_a_stopped_term]


@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_gradient_is_the_finite_difference(name):
    reference = logps(1)
    loss = load(name, **DERIVATIVES[name])

    def losses(chosen, rejected):
        return loss(point._replace(chosen=chosen, rejected=rejected), reference).losses

    point = logps(0, scale=0.3)
    if "sppo" in name or "cal" in name:  # targets of 500 nats: rescale so that differences do not cancel
        loss = load(name, beta=0.1)
    inputs = (point.chosen.requires_grad_(), point.rejected.requires_grad_())
    assert torch.autograd.gradcheck(losses, inputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_finite_far_out(name, sign):
    """Log-ratios of +-1e4 / beta nats, in float32: both the loss and its gradients stay finite."""
    reference = logps(1, torch.float32)
    far = sign * 1e4 / OmegaConf.load(FILES[name]).get("beta", 0.1)
    policy = reference._replace(
        chosen=reference.chosen - max(0, -far), rejected=reference.rejected - max(0, far)
    )
    assert load(name)(policy, reference).losses.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(load(name), policy, reference))


@pytest.mark.parametrize(
    "name",
    ["dpo", "cdpo", "robust", "ipo", "ipo_sum", "hinge", "sigmoid_norm", "exo", "discopop", "tdpo1", "tdpo2"]
    + ["tis_dpo", "wpo"],
)
def test_swapping_the_sides_negates_the_margin(name):
    """A loss of the margin alone cannot tell swapped sides from exchanged policy and reference."""
    policy, reference = logps(0), logps(1)
    swapped = [
        PairLogps(p.rejected, p.chosen, p.rejected_length, p.chosen_length) for p in (policy, reference)
    ]
    torch.testing.assert_close(load(name)(*swapped).losses, load(name)(reference, policy).losses)


@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - {"beta_dpo"})
)  # which pairs it drops is drawn by position
def test_the_order_of_pairs_does_not_matter(name):
    policy, reference = logps(0), logps(1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = [PairLogps(*(field[order] for field in p)) for p in (policy, reference)]
    straight, permuted = load(name)(policy, reference).losses, load(name)(*shuffled).losses
    torch.testing.assert_close(straight.mean(), permuted.mean())
    if not name.startswith("aot"):  # its values belong to ranks
        torch.testing.assert_close(straight[order], permuted)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_needs_the_whole_batch_says_so(name):
    policy, reference = logps(0), logps(1)
    together = load(name)(policy, reference).losses
    measured = {key: torch.zeros(*shape[:-1], 1) for key, shape in MEASURED.items() if takes(load(name), key)}
    alone = torch.cat(
        [
            load(name, **measured)(
                *(PairLogps(*(f[i : i + 1] for f in p)) for p in (policy, reference))
            ).losses
            for i in range(B)
        ]
    )
    independent = torch.allclose(alone, together, rtol=1e-9)
    assert independent == (not needs_whole_batch(load(name)))


@pytest.mark.parametrize("name", ["alpha_dpo", "bco", "beta_dpo", "mpo"])
def test_state_comes_back_the_shape_it_went_in(name):
    first = load(name)(logps(0), logps(1))
    second = load(name, state=first.state)(logps(2), logps(3))
    assert first.state.shape == second.state.shape
    assert not torch.equal(first.state, second.state)


def test_coupling_is_seen_through_wrappers():
    assert not needs_whole_batch(partial(dpo_loss, beta=0.1))
    assert needs_whole_batch(load("mpo"))
    assert not needs_whole_batch(load("cpo_simpo"))


def test_files_that_mix_are_the_sums_they_name():
    policy, reference = logps(0), logps(1)
    simpo, cpo_simpo = (load(name)(policy, reference).losses for name in ("simpo", "cpo_simpo"))
    torch.testing.assert_close(cpo_simpo, simpo + nll(policy))
    rpo_token = load("rpo_token")(policy, reference).losses
    torch.testing.assert_close(rpo_token, load("dpo")(policy, reference).losses + mean_nll(policy))
    torch.testing.assert_close(
        load("rpo")(policy, reference).losses, load("dpo")(policy, reference).losses + nll(policy)
    )


@pytest.mark.parametrize("name", ["ipo", "sigmoid_norm", "r_dpo", "simpo", "orpo", "sft"])
def test_missing_lengths_are_named(name):
    bare = PairLogps(*logps(0)[:2])
    with pytest.raises(ValueError, match="chosen_length"):
        load(name)(bare, bare)

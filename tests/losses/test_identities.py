"""Worked values and identities of each loss: which one it becomes when a setting is taken to its limit."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from losses.alpha_dpo import alpha_dpo_loss
from losses.alpha_po import alpha_po_loss
from losses.aot import aot_loss
from losses.apo import apo_down_loss, apo_zero_loss
from losses.bco import bco_loss
from losses.beta_dpo import beta_dpo_loss, update_moments
from losses.cal_dpo import cal_dpo_loss
from losses.contract import takes
from losses.cpo import cpo_loss
from losses.discopop import discopop_loss
from losses.dpo import dpo_loss
from losses.dpop import dpop_loss
from losses.exo import exo_loss
from losses.f_divergence import f_divergence_loss
from losses.hinge import hinge_loss
from losses.ipo import ipo_loss
from losses.kto import kto_loss
from losses.minor_dpo import minor_dpo_loss
from losses.mixture import mixture_loss
from losses.nca import nca_loss
from losses.orpo import log_odds, orpo_loss
from losses.r_dpo import r_dpo_loss
from losses.robust import robust_loss
from losses.rpo import rpo_loss
from losses.sft import sft_loss
from losses.sigmoid_norm import sigmoid_norm_loss
from losses.simpo import simpo_loss
from losses.sppo import sppo_loss
from losses.tdpo import tdpo1_loss, tdpo2_loss, tis_dpo_loss
from losses.types import PairLogps
from losses.wpo import wpo_loss


def pairs(chosen, rejected, chosen_length=None, rejected_length=None):
    """PairLogps in float64 from lists."""
    fields = (chosen, rejected, chosen_length, rejected_length)
    return PairLogps(*(None if f is None else torch.tensor(f, dtype=torch.float64) for f in fields))


POLICY = pairs(
    [-9.0, -22.0, -4.0, -30.0], [-12.0, -20.0, -9.0, -18.0], [5.0, 9.0, 2.0, 12.0], [6.0, 9.0, 4.0, 7.0]
)
REFERENCE = pairs([-11.0, -20.0, -5.0, -26.0], [-10.0, -21.0, -3.0, -19.0])
CHOSEN, REJECTED = POLICY.chosen - REFERENCE.chosen, POLICY.rejected - REFERENCE.rejected  # log-ratios
MARGIN = CHOSEN - REJECTED
ZERO = pairs([0.0], [0.0])
KL = torch.tensor([[0.5, 1.0, 0.1, 2.0], [0.7, 0.2, 3.0, 1.0]]).double()  # of chosen, rejected completions


def close(result, expected):
    """Compare the values of two results, or of a result and a tensor."""
    expected = expected.losses if hasattr(expected, "losses") else expected
    torch.testing.assert_close(result.losses, expected, rtol=1e-9, atol=1e-12)


def slopes(loss, policy=POLICY, reference=REFERENCE, **settings):
    """d(sum) / d(chosen, rejected)."""
    chosen, rejected = policy.chosen.clone().requires_grad_(), policy.rejected.clone().requires_grad_()
    losses = loss(policy._replace(chosen=chosen, rejected=rejected), reference, **settings).losses
    return torch.autograd.grad(losses.sum(), (chosen, rejected), allow_unused=True, materialize_grads=True)


def at(*ratios):
    """A policy with these log-ratios (chosen, rejected) to ZERO."""
    return pairs(*([float(r)] for r in ratios), [1.0], [1.0])


# dpo


def test_dpo_of_a_vanishing_beta_is_log_2_with_a_gradient_proportional_to_it():
    close(dpo_loss(POLICY, REFERENCE, beta=0.0), torch.full((4,), math.log(2), dtype=torch.float64))
    small, smaller = (slopes(dpo_loss, beta=beta) for beta in (1e-6, 1e-7))
    for a, b in zip(small, smaller, strict=True):
        torch.testing.assert_close(a, 10 * b, rtol=1e-4, atol=0)
    torch.testing.assert_close(small[0], torch.full((4,), -0.5e-6).double(), rtol=1e-4, atol=0)


def test_label_smoothing_adds_a_multiple_of_the_margin():
    plain = dpo_loss(POLICY, REFERENCE, beta=0.3)
    close(dpo_loss(POLICY, REFERENCE, beta=0.3, label_smoothing=0.0), plain)
    smoothed = dpo_loss(POLICY, REFERENCE, beta=0.3, label_smoothing=0.2)
    close(smoothed, plain.losses + 0.2 * 0.3 * MARGIN)
    robust = robust_loss(POLICY, REFERENCE, beta=0.3, label_smoothing=0.2)  # the opposite sign
    close(robust, plain.losses - 0.2 / (1 - 2 * 0.2) * 0.3 * MARGIN)


@pytest.mark.parametrize(
    "loss",
    [
        partial(dpo_loss, label_smoothing=0.1),
        partial(robust_loss, label_smoothing=0.1),
        partial(ipo_loss, reduction="sum"),
        hinge_loss,
        partial(exo_loss, label_smoothing=0.01),
        partial(discopop_loss, tau=0.5),
        partial(tdpo1_loss, forward_kl=torch.ones(2, 4).double()),
        partial(aot_loss, paired=True),
    ],
)
def test_a_loss_of_the_margin_pushes_both_sides_equally(loss):
    """dL/dL_w = beta f'(a) = -dL/dL_l."""
    chosen, rejected = slopes(loss, beta=0.1)
    torch.testing.assert_close(chosen, -rejected)
    assert (chosen != 0).any()


# robust


def test_robust_is_unbiased_under_label_flips():
    flipped = [PairLogps(p.rejected, p.chosen) for p in (POLICY, REFERENCE)]
    straight = robust_loss(POLICY, REFERENCE, beta=0.3, label_smoothing=0.2).losses
    expectation = 0.8 * straight + 0.2 * robust_loss(*flipped, beta=0.3, label_smoothing=0.2).losses
    close(dpo_loss(POLICY, REFERENCE, beta=0.3), expectation)


def test_robust_without_flips_is_dpo():
    close(
        robust_loss(POLICY, REFERENCE, beta=0.3, label_smoothing=0.0), dpo_loss(POLICY, REFERENCE, beta=0.3)
    )


@pytest.mark.parametrize("loss", [robust_loss, exo_loss])
def test_half_of_the_labels_flipped_is_refused(loss):
    with pytest.raises(ValueError, match="label_smoothing"):
        loss(POLICY, REFERENCE, beta=0.1, label_smoothing=0.5)


# ipo, hinge, sigmoid_norm


def test_ipo_is_zero_at_its_target_and_turns_back_beyond():
    assert ipo_loss(at(2.0, -3.0), ZERO, beta=0.1).losses.item() == pytest.approx(0)
    assert (
        slopes(ipo_loss, at(1.0, -3.0), ZERO, beta=0.1)[0]
        < 0
        < slopes(ipo_loss, at(3.0, -3.0), ZERO, beta=0.1)[0]
    )


def test_ipo_divides_each_side_by_its_own_length():
    means = POLICY.chosen - REFERENCE.chosen, POLICY.rejected - REFERENCE.rejected
    gap = means[0] / POLICY.chosen_length - means[1] / POLICY.rejected_length
    close(ipo_loss(POLICY, REFERENCE, beta=0.5), (gap - 1).square())
    close(ipo_loss(POLICY, REFERENCE, beta=0.5, reduction="sum"), (MARGIN - 1).square())


def test_ipo_names_an_unknown_reduction():
    with pytest.raises(ValueError, match="median"):
        ipo_loss(POLICY, REFERENCE, beta=0.1, reduction="median")


def test_hinge_lets_separated_pairs_go():
    assert hinge_loss(at(7.0, -4.0), ZERO, beta=0.1).losses.item() == 0
    assert [g.item() for g in slopes(hinge_loss, at(7.0, -4.0), ZERO, beta=0.1)] == [0, 0]
    assert hinge_loss(at(3.0, -2.0), ZERO, beta=0.1).losses.item() == pytest.approx(0.5)


def test_sigmoid_norm_of_equal_lengths_is_dpo_with_a_smaller_beta():
    length = torch.full_like(POLICY.chosen, 8.0)
    policy = POLICY._replace(chosen_length=length, rejected_length=length)
    close(sigmoid_norm_loss(policy, REFERENCE, beta=4.0), dpo_loss(POLICY, REFERENCE, beta=0.5))


def test_sigmoid_norm_against_a_uniform_reference_is_simpo_without_margin():
    uniform = PairLogps(-math.log(50) * POLICY.chosen_length, -math.log(50) * POLICY.rejected_length)
    close(
        sigmoid_norm_loss(POLICY, uniform, beta=2.0),
        simpo_loss(POLICY, uniform, beta=2.0, gamma_beta_ratio=0.0),
    )


def test_hinge_has_its_kink_at_one_over_beta():
    for margin, slope in ((9.99, -0.1), (10.01, 0.0)):
        assert slopes(hinge_loss, at(margin, 0.0), ZERO, beta=0.1)[0].item() == pytest.approx(slope)


# r_dpo, rpo, dpop


def test_r_dpo_adds_the_length_difference_with_a_plus():
    """10 tokens longer at 0.05 per token: the margin grows by half a logit, and the gradient shrinks."""
    longer = at(0.0, 0.0)._replace(chosen_length=torch.tensor([11.0]).double())
    expected = -F.logsigmoid(torch.tensor([0.5]).double())
    close(r_dpo_loss(longer, ZERO, beta=0.1, alpha=0.05), expected)
    assert abs(slopes(r_dpo_loss, longer, ZERO, beta=0.1, alpha=0.05)[0]) < 0.05


def test_r_dpo_of_equal_lengths_or_without_alpha_is_dpo():
    equal = POLICY._replace(rejected_length=POLICY.chosen_length)
    close(r_dpo_loss(equal, REFERENCE, beta=0.1, alpha=0.05), dpo_loss(POLICY, REFERENCE, beta=0.1))
    close(r_dpo_loss(POLICY, REFERENCE, beta=0.1, alpha=0.0), dpo_loss(POLICY, REFERENCE, beta=0.1))


def test_rpo_leaves_the_rejected_side_to_dpo():
    close(rpo_loss(POLICY, REFERENCE, beta=0.1, alpha=0.0), dpo_loss(POLICY, REFERENCE, beta=0.1))
    mine = slopes(rpo_loss, beta=0.1, alpha=2.0)
    chosen, rejected = slopes(dpo_loss, beta=0.1)
    torch.testing.assert_close(mine[1], rejected)
    torch.testing.assert_close(mine[0], chosen - 2 / POLICY.chosen_length)


def test_dpop_only_acts_when_the_chosen_answer_lost_probability():
    close(dpop_loss(POLICY, REFERENCE, beta=0.1, penalty=0.0), dpo_loss(POLICY, REFERENCE, beta=0.1))
    gained = CHOSEN >= 0
    dpop, dpo = (
        f.losses
        for f in (dpop_loss(POLICY, REFERENCE, beta=0.1, penalty=5.0), dpo_loss(POLICY, REFERENCE, beta=0.1))
    )
    assert torch.equal(dpop[gained], dpo[gained])
    assert (dpop[~gained] > dpo[~gained]).all()


def test_dpop_gradient_on_a_lost_chosen_answer():
    chosen, rejected = slopes(dpop_loss, at(-2.0, 1.0), ZERO, beta=0.1, penalty=5.0)
    wrong = 1 / (1 + math.exp(0.1 * (-2 - 1 - 5 * 2)))
    assert chosen.item() == pytest.approx(-0.1 * 6 * wrong)
    assert rejected.item() == pytest.approx(0.1 * wrong)


# without a reference: simpo, cpo, orpo, alpha_po, sft


def test_simpo_of_equal_lengths_is_dpo_without_reference():
    length = torch.full_like(POLICY.chosen, 4.0)
    policy = POLICY._replace(chosen_length=length, rejected_length=length)
    nothing = pairs([0.0] * 4, [0.0] * 4)
    close(simpo_loss(policy, REFERENCE, beta=2.0, gamma_beta_ratio=0.0), dpo_loss(policy, nothing, beta=0.5))


def test_simpo_worked_example():
    """-2 and -3 nats per token, beta 2, margin ratio 0.25: the argument is 2 * (1 - 0.25)."""
    policy = pairs([-4.0], [-9.0], [2.0], [3.0])
    expected = torch.tensor([math.log(1 + math.exp(-1.5))], dtype=torch.float64)
    close(simpo_loss(policy, ZERO, beta=2.0, gamma_beta_ratio=0.25), expected)


def test_cpo_is_dpo_without_reference_plus_likelihood():
    nothing = pairs([0.0] * 4, [0.0] * 4)
    expected = dpo_loss(POLICY, nothing, beta=0.1).losses + 0.7 * sft_loss(POLICY, nothing).losses
    close(cpo_loss(POLICY, REFERENCE, beta=0.1, alpha=0.7), expected)


def test_simpo_with_smoothed_labels_is_lowest_at_the_flip_rate():
    best = math.log(0.9 / 0.1)
    policy = pairs([best - 0.1, best, best + 0.1], [0.0] * 3, [1.0] * 3, [1.0] * 3)
    losses = simpo_loss(policy, ZERO, beta=1.0, gamma_beta_ratio=0.0, label_smoothing=0.1).losses
    assert losses.argmin() == 1


def test_orpo_log_odds_ratio_of_known_probabilities():
    odds = log_odds(torch.tensor([0.6, 0.3]).double().log())
    assert (odds[0] - odds[1]).item() == pytest.approx(1.252763, abs=1e-6)
    policy = pairs([3 * math.log(0.6)], [5 * math.log(0.3)], [3.0], [5.0])
    expected = -math.log(0.6) + 0.1 * math.log(1 + math.exp(-1.2527629685))
    assert orpo_loss(policy, ZERO, beta=0.1).losses.item() == pytest.approx(expected)


def test_orpo_of_equally_likely_answers():
    policy = pairs([-4.0], [-6.0], [2.0], [3.0])
    assert orpo_loss(policy, ZERO, beta=0.3).losses.item() == pytest.approx(2 + 0.3 * math.log(2))


def test_log_odds_have_finite_gradients_at_both_ends():
    log_p = torch.tensor([-1e4, -50.0, -0.6931, -1e-5, 0.0], requires_grad=True)
    odds = log_odds(log_p)
    odds.sum().backward()
    assert odds.isfinite().all()
    assert log_p.grad.isfinite().all()
    assert (odds.diff() > 0).all()


def test_alpha_po_tends_to_simpo():
    simpo = simpo_loss(POLICY, REFERENCE, beta=2.5, gamma_beta_ratio=0.4)
    close(alpha_po_loss(POLICY, REFERENCE, beta=2.5, gamma_beta_ratio=0.4, alpha=0.0), simpo)
    nearly = alpha_po_loss(POLICY, REFERENCE, beta=2.5, gamma_beta_ratio=0.4, alpha=1e-6)
    torch.testing.assert_close(nearly.losses, simpo.losses, rtol=1e-4, atol=1e-6)


def test_alpha_po_shapes_the_mean_probability():
    policy = pairs([-3.0], [-4.0], [3.0], [2.0])  # geometric means e^-1, e^-2
    difference = (1 - math.exp(0.5)) / 0.5 - (1 - math.exp(1.0)) / 0.5
    expected = math.log(1 + math.exp(-(2 * difference - 2 * 0.3)))
    got = alpha_po_loss(policy, ZERO, beta=2.0, gamma_beta_ratio=0.3, alpha=0.5).losses.item()
    assert got == pytest.approx(expected)


# other links: exo, nca, sppo, apo, discopop, f-divergence


def test_exo_is_zero_where_the_policy_agrees_with_the_smoothed_label():
    agreed = at(math.log(0.9 / 0.1), 0.0)
    assert exo_loss(agreed, ZERO, beta=1.0, label_smoothing=0.1).losses.item() == pytest.approx(0, abs=1e-12)
    assert exo_loss(ZERO, ZERO, beta=0.1, label_smoothing=1e-3).losses.item() == pytest.approx(
        2.7612, abs=1e-4
    )


def test_exo_gives_no_signal_to_pairs_ranked_very_wrong_or_very_right():
    middle, wrong, right = (
        slopes(exo_loss, at(margin, 0.0), ZERO, beta=0.1, label_smoothing=1e-3)[0].abs().item()
        for margin in (0.0, -400.0, 400.0)
    )
    assert max(wrong, right) < 1e-10 < middle


def test_nca_holds_the_chosen_reward_at_two_thirds():
    assert slopes(nca_loss, at(math.log(2.0), 0.0), ZERO, beta=1.0)[0].item() == pytest.approx(0, abs=1e-12)


def test_sppo_is_zero_at_its_targets():
    assert sppo_loss(at(5.0, -5.0), ZERO, beta=0.1).losses.item() == pytest.approx(0)


def test_cal_dpo_without_its_contrast_is_sppo():
    rest = (
        cal_dpo_loss(POLICY, REFERENCE, beta=0.1, calibration=2.0).losses
        - dpo_loss(POLICY, REFERENCE, beta=1.0).losses
    )
    close(sppo_loss(POLICY, REFERENCE, beta=0.1), rest / 2)


def test_apo_zero_is_kto_at_reference_point_zero():
    kto = kto_loss(POLICY, REFERENCE, beta=0.2, kl=torch.zeros(1))
    close(apo_zero_loss(POLICY, REFERENCE, beta=0.2), 2 * kto.losses)


def test_apo_down_lowers_both_sides():
    chosen, rejected = slopes(apo_down_loss, at(0.5, -1.0), ZERO, beta=1.0)
    assert chosen > 0
    assert rejected > 0


def test_discopop_rises_around_the_reference():
    """Not convex: the slope is positive between about -0.1185 and 0.0720 and negative outside."""
    signs = [
        slopes(discopop_loss, at(a / 0.05, 0.0), ZERO, beta=0.05, tau=0.05)[0].item() > 0
        for a in (-0.1195, -0.1175, 0.0, 0.0710, 0.0730)
    ]
    assert signs == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("settings", "link"),
    [
        ({"divergence": "reverse_kl"}, lambda r: r),
        ({"divergence": "forward_kl"}, lambda r: -1 / r.exp()),
        ({"divergence": "js"}, lambda r: (2 * r.exp() / (1 + r.exp())).log()),
        ({"divergence": "alpha", "alpha": 0.3}, lambda r: (1 - r.exp() ** -0.3) / 0.3),
    ],
    ids=["reverse_kl", "forward_kl", "js", "alpha"],
)
def test_f_divergence_links(settings, link):
    expected = -F.logsigmoid(0.1 * (link(CHOSEN) - link(REJECTED)))
    close(f_divergence_loss(POLICY, REFERENCE, beta=0.1, **settings), expected)


def test_alpha_divergence_lies_between_the_two_kl_directions():
    forward = f_divergence_loss(POLICY, REFERENCE, beta=0.1, divergence="forward_kl").losses
    close(f_divergence_loss(POLICY, REFERENCE, beta=0.1, divergence="alpha", alpha=1.0), forward)
    nearly = f_divergence_loss(POLICY, REFERENCE, beta=0.1, divergence="alpha", alpha=1e-7)
    torch.testing.assert_close(nearly.losses, dpo_loss(POLICY, REFERENCE, beta=0.1).losses, rtol=1e-5, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_an_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(ValueError, match="divergence"):
        f_divergence_loss(POLICY, REFERENCE, beta=0.1, divergence="alpha", alpha=alpha)


# minor_dpo


def test_minor_dpo_stops_pushing_a_rejected_answer_below_the_reference():
    below = REJECTED < 0
    minor, dpo = (
        minor_dpo_loss(POLICY, REFERENCE, beta=0.1).losses,
        dpo_loss(POLICY, REFERENCE, beta=0.1).losses,
    )
    assert torch.equal(minor[~below], dpo[~below])
    torch.testing.assert_close(minor[below], -F.logsigmoid(0.1 * CHOSEN)[below])
    assert (slopes(minor_dpo_loss, beta=0.1)[1][below] == 0).all()


# coupled: aot, bco, kto, beta_dpo, alpha_dpo


@pytest.mark.parametrize("paired", [True, False])
def test_aot_of_one_pair_is_dpo(paired):
    one = [PairLogps(p.chosen[:1], p.rejected[:1]) for p in (POLICY, REFERENCE)]
    close(aot_loss(*one, beta=0.1, paired=paired), dpo_loss(*one, beta=0.1))


def test_aot_compares_rank_by_rank():
    policy, reference = pairs([3.0, 1.0], [0.0, 0.0]), pairs([0.5, 1.5], [0.0, 0.0])
    expected = -F.logsigmoid(torch.tensor([1 - 0.5, 3 - 1.5]).double())
    close(aot_loss(policy, reference, beta=1.0), expected)
    chosen = torch.tensor([2.5, -0.5]).double().sort().values  # log-ratios; the rejected ones are 0
    close(aot_loss(policy, reference, beta=1.0, paired=False), -F.logsigmoid(chosen))


def test_bco_without_shift_bounds_dpo_from_above():
    assert (
        bco_loss(POLICY, REFERENCE, beta=0.1, shift=False).losses
        >= dpo_loss(POLICY, REFERENCE, beta=0.1).losses
    ).all()


def test_bco_shift_is_the_mean_of_all_rewards_so_far():
    first = bco_loss(at(4.0, 0.0), ZERO, beta=1.0)
    assert first.state.tolist() == [2.0, 2.0]
    second = bco_loss(POLICY, REFERENCE, beta=1.0, state=first.state)
    everything = torch.cat([torch.tensor([4.0, 0.0]), CHOSEN, REJECTED])
    assert second.state.tolist() == pytest.approx([everything.mean().item(), 10.0])
    close(second, -F.logsigmoid(CHOSEN - everything.mean()) - F.logsigmoid(everything.mean() - REJECTED))


def test_kto_worked_example():
    """z0 = mean(1, 3) = 2 from mismatched completions, weights 1 and 2."""
    result = kto_loss(
        at(4.0, 1.0),
        ZERO,
        beta=0.5,
        desirable_weight=1.0,
        undesirable_weight=2.0,
        kl=torch.tensor([1.0, 3.0]),
    )
    sigmoid_one, sigmoid_half = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-0.5))
    assert result.losses.item() == pytest.approx(((1 - sigmoid_one) + 2 * (1 - sigmoid_half)) / 2)


def test_kto_gradient_vanishes_for_very_good_and_very_bad_examples():
    """d/dr of w (1 - s(beta (r - z0))) is -w beta s (1 - s); half of it, for a pair is two examples."""
    settings = {"beta": 0.2, "desirable_weight": 1.5, "undesirable_weight": 3.0, "kl": torch.tensor(0.7)}
    chosen, rejected = slopes(kto_loss, **settings)
    s, t = torch.sigmoid(0.2 * (CHOSEN - 0.7)), torch.sigmoid(0.2 * (0.7 - REJECTED))
    torch.testing.assert_close(chosen, -1.5 * 0.2 * s * (1 - s) / 2)
    torch.testing.assert_close(rejected, 3.0 * 0.2 * t * (1 - t) / 2)
    far = slopes(kto_loss, at(400.0, 400.0), ZERO, **settings)
    assert max(g.abs().item() for g in far) < 1e-20


def test_kto_weights_scale_its_two_halves():
    kl = torch.tensor(0.4)
    one, *scaled = (
        kto_loss(POLICY, REFERENCE, beta=0.2, desirable_weight=d, undesirable_weight=u, kl=kl).losses
        for d, u in ((1.0, 1.0), (3.0, 0.0), (0.0, 3.0))
    )
    torch.testing.assert_close(sum(scaled), 3 * one)


def test_a_side_without_weight_is_a_constant_in_kto():
    """Log-probs of a label's missing partner are weighted 0, in policy and reference: log-ratio 0."""
    policy, reference = pairs([-4.0], [0.0]), pairs([-5.0], [0.0])
    result = kto_loss(policy, reference, beta=0.2, kl=torch.tensor(0.5))
    alone = 1 / (1 + math.exp(0.2 * (1.0 - 0.5))) / 2
    assert result.losses.item() == pytest.approx(alone + 1 / (1 + math.exp(0.2 * 0.5)) / 2)


def test_kto_reference_point_is_never_negative_and_has_no_gradient():
    close(
        kto_loss(POLICY, REFERENCE, beta=0.1, kl=torch.tensor(-5.0)),
        kto_loss(POLICY, REFERENCE, beta=0.1, kl=torch.tensor(0.0)),
    )
    kl = torch.tensor(1.0, requires_grad=True)
    assert not kto_loss(POLICY, REFERENCE, beta=0.1, kl=kl).losses.requires_grad


def test_kto_without_mismatched_completions_takes_the_batch_mean():
    mean = torch.cat([CHOSEN, REJECTED]).mean()
    close(kto_loss(POLICY, REFERENCE, beta=0.1), kto_loss(POLICY, REFERENCE, beta=0.1, kl=mean))


def test_ktos_batch_mean_leaves_out_sides_without_weight():
    """Labels without partners, log-ratios 1, 3 and 4: z0 is 8/3, not 8/6. A certain answer counts: 5/2."""
    policy, reference = pairs([-4.0, 0.0, 0.0], [0.0, -2.0, -3.0]), pairs([-5.0, 0.0, 0.0], [0.0, -5.0, -7.0])
    z0 = torch.tensor(8 / 3).double()
    close(kto_loss(policy, reference, beta=0.1), kto_loss(policy, reference, beta=0.1, kl=z0))
    certain, reference = pairs([0.0], [-3.0]), pairs([-5.0], [-3.0])
    z0 = torch.tensor(5 / 2).double()
    close(kto_loss(certain, reference, beta=0.1), kto_loss(certain, reference, beta=0.1, kl=z0))


def test_beta_dpo_without_adaptation_is_dpo():
    close(
        beta_dpo_loss(POLICY, REFERENCE, beta=0.1, alpha=0.0, drop=0.0), dpo_loss(POLICY, REFERENCE, beta=0.1)
    )


def test_beta_dpo_raises_beta_for_clear_batches():
    """Running mean 0, batch mean gap 2: after the update mu = 0.2, beta = 0.1 * (1 + 0.5 * (2 - 0.2))."""
    state = torch.tensor([0.0, 1.0, 100.0]).double()
    policy, reference = pairs([1.0, 3.0], [0.0, 0.0]), pairs([0.0, 0.0], [0.0, 0.0])
    result = beta_dpo_loss(policy, reference, beta=0.1, alpha=0.5, drop=0.0, state=state)
    close(result, dpo_loss(policy, reference, beta=0.19))
    assert result.state.tolist() == pytest.approx([0.2, 0.9 * 1 + 0.1 * 1, 101])


def test_beta_dpo_passes_no_gradient_through_its_beta():
    """beta = 0.1 * (1 + 0.5 * (2 - 0.2)) = 0.19 for the whole batch, as a constant."""
    state = torch.tensor([0.0, 1.0, 100.0]).double()
    policy, reference = pairs([1.0, 3.0], [0.0, 0.0]), pairs([0.0, 0.0], [0.0, 0.0])
    mine = slopes(beta_dpo_loss, policy, reference, beta=0.1, alpha=0.5, drop=0.0, state=state)
    for got, want in zip(mine, slopes(dpo_loss, policy, reference, beta=0.19), strict=True):
        torch.testing.assert_close(got, want)


def test_beta_dpo_rewards_use_the_adapted_beta():
    state = torch.tensor([0.0, 1.0, 100.0]).double()
    policy, reference = pairs([1.0, 3.0], [-1.0, 0.0]), pairs([0.0, 0.0], [0.0, 0.0])
    result = beta_dpo_loss(policy, reference, beta=0.1, alpha=0.0, drop=0.0, state=state)
    assert result.chosen_rewards.tolist() == pytest.approx([0.1, 0.3])
    assert result.rejected_rewards.tolist() == pytest.approx([-0.1, 0.0])


def test_moments_are_plain_means_over_ten_batches_and_exponential_ones_then():
    torch.manual_seed(0)
    batches = torch.randn(30, 8).double() * torch.arange(30.0)[:, None]  # the first batch has no gaps
    moments = torch.stack([batches.mean(1), batches.std(1, correction=0)], 1)
    state, expected = None, None
    for count, batch in enumerate(batches, start=1):
        state = update_moments(batch, state)
        expected = moments[:count].mean(0) if count <= 10 else 0.9 * expected + 0.1 * moments[count - 1]
        torch.testing.assert_close(state[:2], expected)
    assert state[2] == 30


def test_gaps_of_the_first_step_do_not_make_those_of_the_second_outliers():
    """At the first step policy and reference differ by rounding."""
    torch.manual_seed(0)
    rounding, gaps = torch.randn(64).double() * 1e-7, torch.randn(64).double()
    mean, deviation, _ = update_moments(gaps, update_moments(rounding, None))
    assert (gaps - mean).std() / deviation < 2.5


def test_beta_dpo_averages_over_the_pairs_it_keeps():
    torch.manual_seed(0)
    result = beta_dpo_loss(POLICY, REFERENCE, beta=0.1, alpha=0.0, drop=0.5)
    kept = result.losses != 0
    assert kept.sum() == 2
    torch.testing.assert_close(
        result.losses.mean(), dpo_loss(POLICY, REFERENCE, beta=0.1).losses[kept].mean()
    )


def test_beta_dpo_drops_outliers():
    """After the update mu = 0.9 * 55 - 0.1 * 125 = 37, s = 22: the outlier is at -25 s, others at -2 s."""
    policy, reference = pairs([0.1, -0.2, 0.3, -500.0], [0.0] * 4), pairs([0.0] * 4, [0.0] * 4)
    state = torch.tensor([55.0, 1e-6, 100.0]).double()
    settings = {"beta": 0.1, "alpha": 0.0, "drop": 0.25, "state": state}
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        losses = beta_dpo_loss(policy, reference, **settings, generator=generator).losses
        assert [loss == 0 for loss in losses.tolist()] == [False, False, False, True]


def test_alpha_dpo_without_adaptation_is_simpo():
    close(
        alpha_dpo_loss(POLICY, REFERENCE, beta=2.0, gamma_beta_ratio=0.3, alpha=0.0),
        simpo_loss(POLICY, REFERENCE, beta=2.0, gamma_beta_ratio=0.3),
    )


def test_alpha_dpo_asks_more_of_pairs_that_are_already_apart():
    """Gaps -1 and 3: mean 1, deviation 2, standardised -1 and 1."""
    policy, nothing = pairs([-1.0, 3.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]), pairs([0.0, 0.0], [0.0, 0.0])
    expected = -F.logsigmoid(torch.tensor([-1 - 0.5 + 0.2, 3 - 0.5 - 0.2]).double())
    result = alpha_dpo_loss(policy, nothing, beta=1.0, gamma_beta_ratio=0.5, alpha=0.2)
    torch.testing.assert_close(result.losses, expected, rtol=1e-5, atol=1e-6)


def test_alpha_dpo_passes_no_gradient_through_its_margin():
    """Standardised gaps -1 and 1 (above): SimPO's slope at margins -1.3 and 2.3."""
    policy, nothing = pairs([-1.0, 3.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]), pairs([0.0, 0.0], [0.0, 0.0])
    chosen, rejected = slopes(alpha_dpo_loss, policy, nothing, beta=1.0, gamma_beta_ratio=0.5, alpha=0.2)
    expected = -torch.sigmoid(-torch.tensor([-1.3, 2.3]).double())
    torch.testing.assert_close(chosen, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rejected, -expected, rtol=1e-5, atol=1e-6)


# combinations


@pytest.mark.parametrize("divergence", ["forward_kl", "alpha"])
@pytest.mark.parametrize("ratio", [-25.0, -45.0, -79.0, -400.0])
def test_gradients_of_unlikely_completions_can_be_squared_in_float32(divergence, ratio):
    """So that their norm is finite, though a weight's gradient is some hundred times that of a log-prob."""
    chosen = torch.tensor([ratio], requires_grad=True)
    policy = PairLogps(chosen, torch.tensor([-1.0]), None, None)
    zero = PairLogps(*torch.zeros(2, 1), None, None)
    f_divergence_loss(policy, zero, beta=0.1, divergence=divergence).losses.sum().backward()
    assert (1e4 * chosen.grad).square().isfinite()


def test_a_mixture_is_the_weighted_sum_and_feeds_each_memory():
    def dpo(policy, reference):
        return dpo_loss(policy, reference, beta=0.1)

    def bco(policy, reference, *, state=None):
        return bco_loss(policy, reference, beta=0.1, state=state)

    first = mixture_loss(POLICY, REFERENCE, parts=[dpo, bco], weights=[0.5, 2.0])
    close(first, 0.5 * dpo(POLICY, REFERENCE).losses + 2 * bco(POLICY, REFERENCE).losses)
    second = mixture_loss(POLICY, REFERENCE, parts=[bco, dpo], weights=[1.0, 0.0], state=first.state)
    close(second, bco(POLICY, REFERENCE, state=bco(POLICY, REFERENCE).state))


def test_a_mixture_gives_each_part_its_own_memory_though_one_keeps_none():
    parts = [partial(bco_loss, beta=0.1, shift=False), partial(beta_dpo_loss, beta=0.1, drop=0.0)]
    alone = beta_dpo_loss(POLICY, REFERENCE, beta=0.1, drop=0.0)
    mixed = mixture_loss(POLICY, REFERENCE, parts=parts, weights=[0.0, 1.0])
    for _ in range(3):
        alone = beta_dpo_loss(POLICY, REFERENCE, beta=0.1, drop=0.0, state=alone.state)
        mixed = mixture_loss(POLICY, REFERENCE, parts=parts, weights=[0.0, 1.0], state=mixed.state)
        torch.testing.assert_close(mixed.losses, alone.losses)


def test_a_mixture_asks_for_what_its_parts_ask_for_and_hands_it_on():
    parts = [partial(tdpo2_loss, beta=0.1), partial(wpo_loss, loss=partial(dpo_loss, beta=0.1)), sft_loss]
    mixture = partial(mixture_loss, parts=parts, weights=[1.0, 0.5, 0.1])
    asked = [name for name in ("forward_kl", "log_weight", "kl", "state") if takes(mixture, name)]
    assert asked == ["forward_kl", "log_weight"]
    measured = {"forward_kl": KL, "log_weight": torch.tensor([-1.0, -2.0, 0.0, -0.5]).double()}
    first, second, third = (
        part(POLICY, REFERENCE, **{name: value for name, value in measured.items() if takes(part, name)})
        for part in parts
    )
    expected = first.losses + 0.5 * second.losses + 0.1 * third.losses
    close(mixture(POLICY, REFERENCE, **measured), expected)


def test_only_parts_that_remember_have_a_row_of_memory():
    wpo, bco = partial(wpo_loss, loss=partial(dpo_loss, beta=0.1)), partial(bco_loss, beta=0.1)
    mixture = partial(mixture_loss, parts=[wpo, bco], weights=[0.0, 1.0], log_weight=torch.zeros(4))
    second = mixture(POLICY, REFERENCE, state=mixture(POLICY, REFERENCE).state)
    close(second, bco(POLICY, REFERENCE, state=bco(POLICY, REFERENCE).state))


def test_a_memory_two_mixtures_deep_is_refused():
    inner = partial(mixture_loss, parts=[partial(bco_loss, beta=0.1)], weights=[1.0])
    with pytest.raises(ValueError, match="write its parts into the outer list"):
        mixture_loss(POLICY, REFERENCE, parts=[dpo_loss, inner], weights=[1.0, 1.0])


def test_a_mixture_needs_a_weight_for_each_part():
    with pytest.raises(ValueError, match="2 parts and 1 weights"):
        mixture_loss(POLICY, REFERENCE, parts=[dpo_loss, dpo_loss], weights=[1.0])


def test_wpo_multiplies_by_a_weight_of_at_most_one_without_gradient():
    def dpo(policy, reference):
        return dpo_loss(policy, reference, beta=0.1)

    log_weight = torch.tensor([-1.0, 0.5, 0.0, -3.0]).double().requires_grad_()
    result = wpo_loss(POLICY, REFERENCE, loss=dpo, log_weight=log_weight)
    expected = dpo(POLICY, REFERENCE).losses
    close(result, expected * torch.tensor([-1.0, 0.0, 0.0, -3.0]).double().exp())
    assert not result.losses.requires_grad
    unclamped = wpo_loss(POLICY, REFERENCE, loss=dpo, log_weight=log_weight, clamp=False)
    close(unclamped, expected * log_weight.detach().exp())


def test_wpo_passes_the_inner_loss_its_memory():
    log_weight = torch.zeros(4).double()
    bco = partial(bco_loss, beta=0.1)
    first = wpo_loss(POLICY, REFERENCE, loss=bco, log_weight=log_weight)
    second = wpo_loss(POLICY, REFERENCE, loss=bco, log_weight=log_weight, state=first.state)
    close(second, bco(POLICY, REFERENCE, state=bco(POLICY, REFERENCE).state))
    assert second.state[1] == 16


def test_wpo_hands_on_what_the_loss_inside_asks_for():
    kto = partial(kto_loss, beta=0.1)
    kl = torch.tensor([3.0, 5.0]).double()
    asked = [
        name
        for name in ("log_weight", "kl", "forward_kl", "state")
        if takes(partial(wpo_loss, loss=kto), name)
    ]
    assert asked == ["log_weight", "kl"]
    found = wpo_loss(POLICY, REFERENCE, loss=kto, log_weight=torch.zeros(4).double(), kl=kl)
    close(found, kto(POLICY, REFERENCE, kl=kl))
    assert not torch.allclose(found.losses, kto(POLICY, REFERENCE).losses)


def test_wpo_refuses_values_that_belong_to_ranks():
    with pytest.raises(ValueError, match="ranks"):
        wpo_loss(POLICY, REFERENCE, loss=partial(aot_loss, beta=0.1), log_weight=torch.zeros(4))


def test_wpo_says_what_it_lacks():
    with pytest.raises(ValueError, match="log_weight"):
        wpo_loss(POLICY, REFERENCE, loss=dpo_loss)


# tdpo


def test_tdpo_corrects_the_margin_by_the_divergences():
    expected = -F.logsigmoid(0.1 * (MARGIN - (KL[1] - KL[0])))
    close(tdpo1_loss(POLICY, REFERENCE, beta=0.1, forward_kl=KL), expected)
    close(tdpo2_loss(POLICY, REFERENCE, beta=0.1, alpha=1.0, forward_kl=KL), expected)
    plain = dpo_loss(POLICY, REFERENCE, beta=0.1)
    close(tdpo2_loss(POLICY, REFERENCE, beta=0.1, alpha=0.0, forward_kl=KL), plain)


@pytest.mark.parametrize("loss", [tdpo1_loss, tdpo2_loss])
def test_tdpo_reports_log_ratio_plus_divergence(loss):
    result = loss(POLICY, REFERENCE, beta=0.1, forward_kl=KL.clone().requires_grad_())
    torch.testing.assert_close(result.chosen_rewards, 0.1 * (CHOSEN + KL[0]))
    torch.testing.assert_close(result.rejected_rewards, 0.1 * (REJECTED + KL[1]))
    assert not result.chosen_rewards.requires_grad


def test_tdpo2_passes_no_gradient_to_the_chosen_divergence():
    kl = KL.clone().requires_grad_()
    tdpo2_loss(POLICY, REFERENCE, beta=0.1, forward_kl=kl).losses.sum().backward()
    assert (kl.grad[0] == 0).all()
    assert (kl.grad[1] > 0).all()  # lower the divergence of the rejected side
    kl.grad = None
    tdpo1_loss(POLICY, REFERENCE, beta=0.1, forward_kl=kl).losses.sum().backward()
    assert (kl.grad[0] < 0).all()


def test_tis_dpo_subtracts_the_chosen_divergence():
    expected = -F.logsigmoid(0.1 * (MARGIN - 0.5 * (KL[0] - KL[1])))
    close(tis_dpo_loss(POLICY, REFERENCE, beta=0.1, reverse_kl=KL), expected)


@pytest.mark.parametrize(
    ("loss", "name"),
    [(tdpo1_loss, "forward_kl"), (tdpo2_loss, "forward_kl"), (tis_dpo_loss, "reverse_kl")],
)
def test_divergences_that_were_not_computed_are_named(loss, name):
    with pytest.raises(ValueError, match=f"{name}.* variants.train_measured"):
        loss(POLICY, REFERENCE, beta=0.1)

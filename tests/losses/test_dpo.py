"""dpo_loss: value and gradient by hand, label smoothing, extremes."""

import math

import pytest
import torch

from losses.dpo import dpo_loss
from losses.types import PairLogps

REFERENCE = PairLogps(torch.tensor([-3.0, -8.0]).double(), torch.tensor([-5.0, -2.0]).double())


def test_at_the_reference_the_loss_is_log_two():
    torch.testing.assert_close(
        dpo_loss(REFERENCE, REFERENCE, beta=0.3).losses, torch.full((2,), math.log(2)).double()
    )


def test_a_worked_example():
    policy = PairLogps(torch.tensor([-2.0]), torch.tensor([-7.0]))
    reference = PairLogps(torch.tensor([-3.0]), torch.tensor([-5.0]))
    result = dpo_loss(policy, reference, beta=0.5)  # log-ratios 1 and -2, margin 0.5 * 3
    assert result.losses.item() == pytest.approx(math.log(1 + math.exp(-1.5)))
    assert (result.chosen_rewards.item(), result.rejected_rewards.item()) == (0.5, -1.0)


def test_gradient_is_beta_times_the_probability_of_being_wrong():
    chosen, rejected = torch.tensor([-2.0, -9.0]).double(), torch.tensor([-7.0, -1.0]).double()
    chosen.requires_grad_()
    rejected.requires_grad_()
    result = dpo_loss(PairLogps(chosen, rejected), REFERENCE, beta=0.2)
    result.losses.sum().backward()
    margin = 0.2 * ((chosen - REFERENCE.chosen) - (rejected - REFERENCE.rejected)).detach()
    torch.testing.assert_close(chosen.grad, -0.2 * torch.sigmoid(-margin))
    torch.testing.assert_close(rejected.grad, 0.2 * torch.sigmoid(-margin))
    assert not result.chosen_rewards.requires_grad


def test_smoothed_loss_is_lowest_where_the_model_believes_the_flip_rate():
    best = math.log(0.9 / 0.1)  # sigmoid(best) = 0.9
    zero = torch.zeros(3).double()
    margins = torch.tensor([best - 0.1, best, best + 0.1]).double()
    losses = dpo_loss(PairLogps(margins, zero), PairLogps(zero, zero), beta=1.0, label_smoothing=0.1).losses
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert losses[1].item() == pytest.approx(entropy)
    assert losses.argmin() == 1


@pytest.mark.parametrize("label_smoothing", [-0.1, 0.5])
def test_impossible_flip_rates_are_refused(label_smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        dpo_loss(REFERENCE, REFERENCE, beta=0.1, label_smoothing=label_smoothing)


def test_finite_far_out():
    zero = torch.zeros(2)
    policy = PairLogps(torch.tensor([1e5, -1e5], requires_grad=True), zero)
    losses = dpo_loss(policy, PairLogps(zero, zero), beta=0.1).losses
    losses.sum().backward()
    torch.testing.assert_close(losses, torch.tensor([0.0, 1e4]))
    assert policy.chosen.grad.isfinite().all()

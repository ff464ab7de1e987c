"""What a preference loss receives and returns. Letters: B pairs.

A loss is a pure function `loss(policy: PairLogps, reference: PairLogps, *, ...) -> PreferenceLoss`; its
settings are keyword arguments, filled in by conf/loss/*.yaml. The trainer takes `losses.sum() / pairs`.
What some losses ask of their caller besides is in losses/contract.py.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class PairLogps(NamedTuple):
    """Summed (weighted) completion log-probs of one model on B pairs; a cached reference's are float64.

    The lengths are numbers of completion tokens, end token included; losses that average need them.
    """

    chosen: Tensor  # [B]
    rejected: Tensor  # [B]
    chosen_length: Tensor | None = None  # [B] float32
    rejected_length: Tensor | None = None  # [B] float32


class PreferenceLoss(NamedTuple):
    """One value per pair; the trainer takes the mean. Rewards are detached, for the log."""

    losses: Tensor  # [B]
    chosen_rewards: Tensor  # [B] beta * log-ratio of the chosen completion
    rejected_rewards: Tensor  # [B]
    state: Tensor | None = None  # what the next call must receive as `state`; None for most losses


LossFunction = Callable[..., PreferenceLoss]  # (policy, reference), settings already bound


def log_ratios(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """log pi/pi_ref of the chosen and of the rejected completions, [B] each."""
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def lengths(policy: PairLogps) -> tuple[Tensor, Tensor]:
    """Completion token counts (chosen [B], rejected [B]). ValueError when the caller did not give them."""
    if policy.chosen_length is None or policy.rejected_length is None:
        raise ValueError("this loss needs chosen_length and rejected_length in PairLogps, found None")
    return policy.chosen_length, policy.rejected_length

"""What a preference loss receives and returns. Letters: B pairs.

A loss is a pure function `loss(policy: PairLogps, reference: PairLogps, *, ...) -> PreferenceLoss`; its
settings are keyword arguments, filled in by conf/loss/*.yaml. The trainer takes `losses.sum() / pairs`.
Three conventions cover what a plain formula does not:

- Lengths. Losses that average or count tokens read `chosen_length` and `rejected_length` (see `lengths`).
- Batches. A loss whose value for one pair depends on the other pairs carries the decorator `couples_pairs`;
  the trainer reads the attribute of that name and must give it the whole batch at once. A loss that remembers
  something between steps also takes `state: Tensor | None` and returns the new one in `PreferenceLoss.state`.
- Token weights (LD-DPO, focal spans, TIS-DPO) are numbers in the batch, multiplied into the sums before a
  loss sees them; the loss stays `dpo_loss`.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class PairLogps(NamedTuple):
    """Summed (weighted) completion log-probs of one model on B pairs, float32.

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


def log_ratios(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """log pi/pi_ref of the chosen and of the rejected completions, [B] each."""
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def lengths(policy: PairLogps) -> tuple[Tensor, Tensor]:
    """Completion token counts (chosen [B], rejected [B]). ValueError when the caller did not give them."""
    if policy.chosen_length is None or policy.rejected_length is None:
        raise ValueError(
            "this loss needs completion lengths: pass chosen_length and rejected_length in PairLogps"
        )
    return policy.chosen_length, policy.rejected_length


def couples_pairs(loss: Callable[..., PreferenceLoss]) -> Callable[..., PreferenceLoss]:
    """Mark a loss whose value for one pair depends on the others, so that a batch must not be split."""
    loss.couples_pairs = True
    return loss

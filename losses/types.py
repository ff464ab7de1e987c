"""What a preference loss receives and returns. Letters: B pairs.

A loss is a pure function `loss(policy: PairLogps, reference: PairLogps, *, ...) -> PreferenceLoss`; its
settings are keyword arguments, filled in by conf/loss/*.yaml. The trainer takes `losses.sum() / pairs`.
What a plain formula does not cover:

- Lengths. Losses that average or count tokens read `chosen_length` and `rejected_length` (see `lengths`).
- Batches. A loss whose value for one pair depends on the other pairs carries the decorator `couples_pairs`.
  `needs_whole_batch(loss)` tells; such a loss must see all pairs of a step in one call.
- Memory. A loss that remembers something between steps has a keyword `state: Tensor | None`, None at the
  first step, and returns the next one in `PreferenceLoss.state`. `takes(loss, "state")` tells.
- Measurements beyond log-probs are keywords too (`kl` in kto.py, `log_weight` in wpo.py, the divergences in
  tdpo.py): None, or an error that names what is missing, when the program does not compute them.
- Token weights (LD-DPO, focal spans, TIS-DPO) are numbers in the batch, multiplied into the sums before a
  loss sees them; the loss stays `dpo_loss`.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
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


LossFunction = Callable[..., PreferenceLoss]  # (policy, reference), settings already bound


def log_ratios(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """log pi/pi_ref of the chosen and of the rejected completions, [B] each."""
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def lengths(policy: PairLogps) -> tuple[Tensor, Tensor]:
    """Completion token counts (chosen [B], rejected [B]). ValueError when the caller did not give them."""
    if policy.chosen_length is None or policy.rejected_length is None:
        raise ValueError("this loss needs chosen_length and rejected_length in PairLogps, found None")
    return policy.chosen_length, policy.rejected_length


def couples_pairs(loss: LossFunction) -> LossFunction:
    """Mark a loss whose value for one pair depends on the others, so that a batch must not be split."""
    loss.couples_pairs = True
    return loss


def needs_whole_batch(loss: LossFunction | Sequence) -> bool:
    """Whether a loss, or a loss it was given as a setting (mixture, WPO), couples the pairs of a batch."""
    if isinstance(loss, functools.partial):
        return needs_whole_batch([loss.func, *loss.keywords.values()])
    if isinstance(loss, Sequence) and not isinstance(loss, str):
        return any(needs_whole_batch(part) for part in loss)
    return getattr(loss, "couples_pairs", False)


def takes(loss: LossFunction, name: str) -> bool:
    """Whether the loss has a keyword of that name: `state`, `kl`, `log_weight`, ..."""
    return name in inspect.signature(loss).parameters

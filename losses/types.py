"""What a preference loss receives and returns. Letters: B pairs."""

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

"""Anchored preference optimisation: D'Oosterlinck et al. 2024 (arXiv:2408.06266), eq. 7 and 8.

Changes against dpo.py: each side is anchored to the reference, in a direction chosen from the data's quality;
with rewards R = beta * r,

    apo_zero   1 - sigmoid(R_chosen) + sigmoid(R_rejected)               chosen better than own answers
    apo_down   sigmoid(R_chosen) + 1 - sigmoid(R_chosen - R_rejected)    chosen worse than own answers

Both are 1 at the reference. apo_down starts with gradient 0 on the chosen side. apo_zero is KTO with z0 =
0, times 2.
"""

import torch

from losses.types import PairLogps, PreferenceLoss, log_ratios


def apo_zero_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """Raise chosen, lower rejected."""
    chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
    losses = torch.sigmoid(-chosen) + torch.sigmoid(rejected)
    return PreferenceLoss(losses, chosen.detach(), rejected.detach())


def apo_down_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """Lower both, rejected more."""
    chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
    losses = torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)
    return PreferenceLoss(losses, chosen.detach(), rejected.detach())

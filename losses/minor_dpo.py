"""MinorDPO: Xie et al. 2024 (arXiv:2408.09834).

Changes against dpo.py: a rejected completion already less likely than under the reference is not pushed
further,

    loss = -log sigmoid(beta * (r_chosen - max(0, r_rejected)))

At r_rejected = 0 `clamp` has gradient 1 (relu 0, maximum 1/2), which is DPO's. Training starts there up to
rounding, which puts about half of a first step's pairs below. Rewards are logged unclamped.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, log_ratios


def minor_dpo_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """No setting beyond DPO's."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    losses = -F.logsigmoid(beta * (chosen_ratio - rejected_ratio.clamp(min=0)))
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

"""Efficient exact optimisation for pairs: Ji et al. 2024 (arXiv:2402.00856), eq. 16 ("EXO-pref", K = 2).

Changes against dpo.py: the other direction of the KL divergence. With q = sigmoid(a), the probability the
policy gives to the label, and smoothed labels (1 - eps, eps),

    loss = q * (log q - log(1 - eps)) + (1 - q) * (log(1 - q) - log eps)

Zero at q = 1 - eps. The gradient vanishes for pairs ranked very right and for pairs ranked very wrong.
"""

import math

import torch
import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, log_ratios


def exo_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: float
) -> PreferenceLoss:
    """label_smoothing: eps in (0, 0.5); 0 would make the loss infinite."""
    if not 0 < label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected a probability in (0, 0.5)")
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    margin = beta * (chosen_ratio - rejected_ratio)
    right = torch.sigmoid(margin) * (F.logsigmoid(margin) - math.log1p(-label_smoothing))
    wrong = torch.sigmoid(-margin) * (F.logsigmoid(-margin) - math.log(label_smoothing))
    return PreferenceLoss(right + wrong, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

"""DiscoPOP, log-ratio modulated loss: Lu et al. 2024 (arXiv:2406.08414), eq. 5.

Changes against dpo.py: a blend found by program search, with margin a = beta * (r_chosen - r_rejected),

    loss = (1 - g) * (-log sigmoid(a)) + g * exp(-a),   g = sigmoid(a / tau)

tau = 0.05 and beta = 0.05. Not convex: with this tau it increases for a in about (-0.12, 0.07), so at the
reference (a = 0, value 0.847) the first steps move a pair's margin the wrong way.
"""

import torch
import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, log_ratios


def discopop_loss(policy: PairLogps, reference: PairLogps, *, beta: float, tau: float) -> PreferenceLoss:
    """tau: width of the gate between the two components."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    margin = beta * (chosen_ratio - rejected_ratio)
    gate = torch.sigmoid(margin / tau)
    # g * exp(-a) as one exponential: far below zero the factors are 0 and infinity.
    exponential = torch.exp(F.logsigmoid(margin / tau) - margin)
    losses = (1 - gate) * -F.logsigmoid(margin) + exponential
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

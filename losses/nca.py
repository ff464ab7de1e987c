"""Noise contrastive alignment for pairs: Chen et al. 2024 (arXiv:2402.05369), K = 2.

Changes against dpo.py: each completion is told from samples of the reference, so its own likelihood is
constrained and not only the gap; with rewards R = beta * r,

    loss = -log sigmoid(R_chosen) - 0.5 * log sigmoid(-R_chosen) - 0.5 * log sigmoid(-R_rejected)

The chosen reward settles where sigmoid(R_chosen) = 2/3, which prevents likelihood collapse.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, log_ratios


def nca_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """2 log 2 at the reference."""
    chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
    losses = -F.logsigmoid(chosen) - 0.5 * (F.logsigmoid(-chosen) + F.logsigmoid(-rejected))
    return PreferenceLoss(losses, chosen.detach(), rejected.detach())

"""AlphaPO: Gupta et al. 2025 (arXiv:2501.03884).

Changes against simpo.py: another shape of the reward; with m = log pi(y) / n,

    loss = -log sigmoid(beta * (R(m_chosen) - R(m_rejected)) - gamma),   R(m) = (1 - exp(-alpha * m)) / alpha

alpha -> 0 is SimPO. TRL computes exp(m) ** -alpha, which overflows earlier; the values are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.types import PairLogps, PreferenceLoss, lengths

LARGEST_EXPONENT = 80.0  # exp(80) = 5.5e34 still fits float32


def shaped_reward(mean_logp: Tensor, alpha: float) -> Tensor:
    """R(m), from log-probs per token; linear in m at alpha 0."""
    if alpha == 0:
        return mean_logp
    return -torch.expm1((-alpha * mean_logp).clamp(max=LARGEST_EXPONENT)) / alpha


def alpha_po_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, gamma_beta_ratio: float, alpha: float
) -> PreferenceLoss:
    """gamma_beta_ratio: gamma / beta, as in simpo.py. The reference is not used."""
    chosen_length, rejected_length = lengths(policy)
    chosen = beta * shaped_reward(policy.chosen / chosen_length, alpha)
    rejected = beta * shaped_reward(policy.rejected / rejected_length, alpha)
    losses = -F.logsigmoid(chosen - rejected - beta * gamma_beta_ratio)
    return PreferenceLoss(losses, chosen.detach(), rejected.detach())

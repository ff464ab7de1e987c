"""DPO regularised by another f-divergence: Wang et al. 2023 (arXiv:2309.16240).

Changes against dpo.py: the link from probability ratio u = exp(r) to reward is f'(u) instead of log u,

    loss = -log sigmoid(beta * (f'(u_chosen) - f'(u_rejected)))

    reverse_kl   f' = r                        dpo.py
    forward_kl   f' = -exp(-r)
    js           f' = log sigmoid(r)           Jensen-Shannon, up to a constant
    alpha        f' = (1 - exp(-alpha r)) / alpha,   0 < alpha < 1; towards 0 reverse, at 1 forward KL

TRL's coefficient for the last is 1 - alpha. exp(-r) of a sum over hundreds of tokens overflows; exponents
are clamped at 30, beyond which that side has no gradient. (TRL clamps at 80. There the loss still fits
float32, but from about 40 on the norm of its gradient, a sum of squares, does not: it cannot be clipped.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.types import PairLogps, PreferenceLoss, log_ratios

LARGEST_EXPONENT = 30.0  # exp(30) = 1e13, gradients of weights some hundred times that; 1e19 has a square


def reward_link(log_ratio: Tensor, divergence: str, alpha: float) -> Tensor:
    """f'(exp(log_ratio)), constants dropped."""
    if divergence == "reverse_kl":
        return log_ratio
    if divergence == "forward_kl":
        return -torch.exp((-log_ratio).clamp(max=LARGEST_EXPONENT))
    if divergence == "js":
        return F.logsigmoid(log_ratio)
    if divergence == "alpha" and 0 < alpha <= 1:
        return -torch.expm1((-alpha * log_ratio).clamp(max=LARGEST_EXPONENT)) / alpha
    raise ValueError(
        f"divergence is {divergence!r} (alpha {alpha}), expected reverse_kl, forward_kl, js, alpha in (0, 1]"
    )


def f_divergence_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, divergence: str, alpha: float = 0.5
) -> PreferenceLoss:
    """divergence: reverse_kl, forward_kl, js or alpha. Rewards are beta * f'."""
    ratios = log_ratios(policy, reference)
    chosen, rejected = (beta * reward_link(ratio, divergence, alpha) for ratio in ratios)
    return PreferenceLoss(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())

"""Odds-ratio preference optimisation: Hong et al. 2024 (arXiv:2403.07691), eq. 4 and 7.

Changes against dpo.py: no reference; with p = exp(log pi(y) / n), the geometric mean probability of a token,

    loss = -log pi(chosen) / n_chosen - beta * log sigmoid(log odds(chosen) - log odds(rejected)),
    odds = p / (1 - p)

`beta` is the paper's lambda, 0.1. The authors' code takes the likelihood term over prompt and chosen
completion, because ORPO is meant to replace fine-tuning; here, as in all losses, over the completion.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.types import PairLogps, PreferenceLoss, lengths

LARGEST_MEAN = -1e-6  # a mean log-prob above this has unbounded odds: p = 1 - 1e-6


def log_odds(mean_logp: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p < 0, without cancellation at either end; bounded at p = 1 - 1e-6."""
    log_p = mean_logp.clamp(max=LARGEST_MEAN)
    near_one = log_p > -0.693
    low = torch.where(near_one, -1.0, log_p)  # each branch sees only arguments whose gradient is finite
    high = torch.where(near_one, log_p, -1.0)
    return log_p - torch.where(near_one, torch.log(-torch.expm1(high)), torch.log1p(-torch.exp(low)))


def orpo_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """beta: weight of the odds-ratio term. The reference is not used. Rewards are beta * log p."""
    chosen_length, rejected_length = lengths(policy)
    chosen_mean, rejected_mean = policy.chosen / chosen_length, policy.rejected / rejected_length
    losses = -chosen_mean - beta * F.logsigmoid(log_odds(chosen_mean) - log_odds(rejected_mean))
    return PreferenceLoss(losses, (beta * chosen_mean).detach(), (beta * rejected_mean).detach())

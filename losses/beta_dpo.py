"""beta-DPO: Wu et al. 2024 (arXiv:2407.08639).

Changes against dpo.py: one beta per batch, adapted to the gaps D = r_chosen - r_rejected, and outliers are
left out:

    mu, s  <- 0.9 (mu, s) + 0.1 (mean, std of D over the batch), the plain mean over the first ten batches
    keep   floor((1 - drop) B) pairs, drawn without replacement with weight exp(-((D - mu) / s)^2 / 2)
    beta_b  = max(beta * (1 + alpha * (mean of kept D - mu)), 0.001)
    loss    = mean over the kept of -log sigmoid(beta_b * D)

All of it but the last D is without gradient. The released code starts mu and s at 0, and s stays far below
the deviations seen for tens of steps. To begin with the first batch's own would not mend that: the policy is
the reference then, and all of its gaps are 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.contract import couples_pairs
from losses.types import PairLogps, PreferenceLoss, log_ratios

MOMENTUM = 0.9
SMALLEST_BETA = 1e-3


def update_moments(values: Tensor, state: Tensor | None) -> Tensor:
    """Running averages of mean and population standard deviation, and the number of batches: [3] -> [3].

    Plain means until the last batch has no more weight than 1 - MOMENTUM, then exponential ones.
    """
    *before, count = values.new_zeros(3) if state is None else state
    share = (1 / (count + 1)).clamp(min=1 - MOMENTUM)
    moments = torch.stack([values.mean(), values.std(correction=0)])
    return torch.cat([torch.lerp(torch.stack(before), moments, share), count[None] + 1])


@couples_pairs
def beta_dpo_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    alpha: float = 0.6,
    drop: float = 0.2,
    state: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PreferenceLoss:
    """alpha: how strongly beta follows the gaps. drop: share of the batch left out, their losses are 0.

    state [3]: running mean and standard deviation of the gaps, and of how many batches.
    """
    if not 0 <= drop < 1:
        raise ValueError(f"drop is {drop}, expected a share in [0, 1)")
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    gap = chosen_ratio - rejected_ratio
    fixed = gap.detach()
    mean, deviation, _ = state = update_moments(fixed, state)
    keep = _draw(fixed, mean, deviation, max(1, int((1 - drop) * len(gap) + 1e-9)), generator)
    adapted = (beta * (1 + alpha * (fixed[keep].mean() - mean))).clamp(min=SMALLEST_BETA)
    share = torch.zeros_like(fixed).index_fill(0, keep, len(gap) / len(keep))  # mean over B = mean over kept
    losses = -F.logsigmoid(adapted * gap) * share
    return PreferenceLoss(
        losses, (adapted * chosen_ratio).detach(), (adapted * rejected_ratio).detach(), state
    )


def _draw(
    gap: Tensor, mean: Tensor, deviation: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    """`count` indices without replacement, by Gumbel noise on log-weights (weights would underflow)."""
    if count == len(gap):
        return torch.arange(count, device=gap.device)
    log_weight = -0.5 * ((gap - mean) / (deviation + 1e-6)).square()
    uniform = torch.rand(gap.shape, generator=generator).clamp(min=1e-20)  # the CPU's, whose state is saved
    uniform = uniform.to(gap.device, non_blocking=True)
    return (log_weight - torch.log(-torch.log(uniform))).topk(count).indices

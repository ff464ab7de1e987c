"""Alignment via optimal transport: Melnyk et al. 2024 (arXiv:2406.05882).

Changes against dpo.py: margins are compared as distributions (stochastic dominance), rank by rank after
sorting the batch:

    paired     d = sort(log pi(chosen) - log pi(rejected)) - sort(the same of the reference)
    unpaired   d = sort(r_chosen) - sort(r_rejected)
    loss = -(1 - eps) * log sigmoid(beta * d) - eps * log sigmoid(-beta * d)

The value at one index belongs to a rank, not to a pair; the batch mean is what counts. One pair alone is DPO.
Early TRL versions called the unpaired form "aot_pair". Do not combine with weights per pair.
"""

import torch.nn.functional as F

from losses.contract import by_rank
from losses.types import PairLogps, PreferenceLoss, log_ratios


@by_rank
def aot_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, paired: bool = True, label_smoothing: float = 0.0
) -> PreferenceLoss:
    """losses [B] are per rank; rewards are per pair, as usual."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    if paired:
        upper, lower = policy.chosen - policy.rejected, reference.chosen - reference.rejected
    else:
        upper, lower = chosen_ratio, rejected_ratio
    margin = beta * (upper.sort().values - lower.sort().values)
    losses = -F.logsigmoid(margin) * (1 - label_smoothing) - F.logsigmoid(-margin) * label_smoothing
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

"""Robust DPO: Chowdhury et al. 2024 (arXiv:2403.00409), the unbiased estimate of the clean loss.

Changes against dpo.py: labels are flipped with a known probability eps, and the loss is corrected so that its
expectation over the flips is the DPO loss on clean labels,

    loss = [(1 - eps) * l(a) - eps * l(-a)] / (1 - 2 eps) = l(a) - eps / (1 - 2 eps) * a

with l(a) = -log sigmoid(a) and a = beta * (r_chosen - r_rejected). Label smoothing (dpo.py) adds eps * a
instead: the opposite sign. This loss is unbounded below, so train briefly. Not to be confused with r_dpo.py.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, log_ratios


def robust_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: float
) -> PreferenceLoss:
    """label_smoothing: the flip probability eps in [0, 0.5); the paper uses 0.1."""
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected a probability in [0, 0.5)")
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    margin = beta * (chosen_ratio - rejected_ratio)
    excess = label_smoothing / (1 - 2 * label_smoothing)
    losses = -F.logsigmoid(margin) - excess * margin
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

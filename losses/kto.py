"""Kahneman-Tversky optimisation on pairs: Ethayarajh et al. 2024 (arXiv:2402.01306), eq. 7.

Changes against dpo.py: a pair is two independent examples, desirable and undesirable, each compared with a
reference point z0 shared by the batch:

    loss = [ w_d * (1 - sigmoid(beta * (r_chosen - z0))) + w_u * (1 - sigmoid(beta * (z0 - r_rejected))) ] / 2

The half makes the mean over pairs the paper's mean over examples. z0 >= 0 estimates KL(policy ||
reference). The paper takes the mean log-ratio of mismatched completions (each behind the prompt of another
example), which costs a further forward pass of policy and reference: variants/train_measured.py makes it and
hands over those log-ratios as `kl`. Without it (train_dpo.py) z0 is the mean log-ratio of the batch's own
completions. Both are clamped at 0 and biased, for these are not samples of the policy, and the second also
moves with the labels: it is 0 while log-probs fall, as in most DPO-like runs, and the loss is then half of
apo_zero's. Either way z0 carries no gradient.

Labels without partners: a side whose token weights are 0 has log-probs of 0, under policy and reference. Its
log-ratio of 0 is a constant here and no part of z0; only the other side is trained (variants/unpaired.py).
"""

import torch
from torch import Tensor

from losses.contract import couples_pairs
from losses.types import PairLogps, PreferenceLoss, log_ratios


@couples_pairs
def kto_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    kl: Tensor | None = None,
) -> PreferenceLoss:
    """kl: log-ratios (any number) of mismatched completions of the whole batch; None: the batch's own."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    if kl is None:
        ratios = torch.cat([chosen_ratio, rejected_ratio]).detach()
        present = (torch.cat(policy[:2]) != 0) | (torch.cat(reference[:2]) != 0)
        mean = (ratios * present).sum() / present.sum().clamp(min=1)
    else:
        mean = kl.detach().sum() / max(1, kl.numel())
    z0 = mean.clamp(min=0)
    desirable = desirable_weight * torch.sigmoid(beta * (z0 - chosen_ratio))
    undesirable = undesirable_weight * torch.sigmoid(beta * (rejected_ratio - z0))
    losses = (desirable + undesirable) / 2
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

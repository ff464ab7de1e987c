"""Length-regularised DPO: Park et al. 2024 (arXiv:2403.19159).

Changes against dpo.py: the reward being maximised is r - alpha * length, hence

    loss = -log sigmoid(beta * (r_chosen - r_rejected) + alpha * (n_chosen - n_rejected))

The sign is plus: a longer chosen answer is already explained by its length, and its gradient shrinks.
Several public implementations subtract, which favours long answers instead. alpha is per token and outside
beta: 0.01 is a safe start, and 0.05 times 200 tokens is already 10 logits. Not robust.py.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, lengths, log_ratios


def r_dpo_loss(policy: PairLogps, reference: PairLogps, *, beta: float, alpha: float) -> PreferenceLoss:
    """alpha: reward that one more token costs."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    chosen_length, rejected_length = lengths(policy)
    margin = beta * (chosen_ratio - rejected_ratio) + alpha * (chosen_length - rejected_length)
    return PreferenceLoss(
        -F.logsigmoid(margin), (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach()
    )

"""Hinge loss on the DPO margin: RSO, Liu et al. 2023 (arXiv:2309.06657), "hinge-norm", after SLiC-HF
(arXiv:2305.10425).

Changes against dpo.py: a pair stops contributing once its margin reaches 1 / beta,

    loss = max(0, 1 - beta * (r_chosen - r_rejected))

The original SLiC-HF has no reference and adds a likelihood term: run.reference=none, in a mixture with
sft.py.
"""

from losses.types import PairLogps, PreferenceLoss, log_ratios


def hinge_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """1 at the reference, 0 with zero gradient from the margin 1 / beta on."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    losses = (1 - beta * (chosen_ratio - rejected_ratio)).relu()
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

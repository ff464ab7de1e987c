"""Token-level DPO: Zeng et al. 2024 (arXiv:2404.11999); and TIS-DPO's divergence term
(arXiv:2410.04350), whose sign and direction differ.

Changes against dpo.py: the margin D = r_chosen - r_rejected is corrected by sequential divergences K, each
the sum over a completion's positions of a KL divergence over the whole vocabulary (distribution.token_kl):

    tdpo1    -log sigmoid(beta * (D - (K_rejected - K_chosen)))
    tdpo2    -log sigmoid(beta * (D - alpha * (K_rejected - stop(K_chosen))))        alpha 0.5
    tis_dpo  -log sigmoid(beta * (D - alpha * (K_chosen - K_rejected)))              both with token weights

TDPO takes KL(reference || policy), TIS-DPO takes KL(policy || reference) and has the term off in its
released code. The divergences need the reference's distribution, not its log-probs, so these losses do not
run from the cache: a program holds the reference in memory and passes K.
"""

import torch.nn.functional as F
from torch import Tensor

from losses.types import PairLogps, PreferenceLoss, log_ratios


def tdpo1_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    chosen_kl: Tensor | None = None,
    rejected_kl: Tensor | None = None,
) -> PreferenceLoss:
    """chosen_kl, rejected_kl [B]: sums of KL(reference || policy) over each completion, with gradient."""
    return _corrected(policy, reference, beta, rejected_kl, chosen_kl, beta)


def tdpo2_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    alpha: float = 0.5,
    chosen_kl: Tensor | None = None,
    rejected_kl: Tensor | None = None,
) -> PreferenceLoss:
    """As tdpo1, with weight alpha, and the chosen side's divergence without gradient."""
    fixed = None if chosen_kl is None else chosen_kl.detach()
    return _corrected(policy, reference, beta, rejected_kl, fixed, alpha * beta)


def tis_dpo_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    alpha: float = 0.5,
    chosen_kl: Tensor | None = None,
    rejected_kl: Tensor | None = None,
) -> PreferenceLoss:
    """chosen_kl, rejected_kl [B]: sums of KL(policy || reference), token-weighted as the log-probs are."""
    return _corrected(policy, reference, beta, chosen_kl, rejected_kl, alpha * beta)


def _corrected(
    policy: PairLogps,
    reference: PairLogps,
    beta: float,
    minus: Tensor | None,
    plus: Tensor | None,
    weight: float,
) -> PreferenceLoss:
    """-log sigmoid(beta * D - weight * (minus - plus)); rewards are beta * log-ratio."""
    if minus is None or plus is None:
        raise ValueError("this loss needs chosen_kl and rejected_kl [B]: see losses.distribution.token_kl")
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    margin = beta * (chosen_ratio - rejected_ratio) - weight * (minus - plus)
    return PreferenceLoss(
        -F.logsigmoid(margin), (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach()
    )

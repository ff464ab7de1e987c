"""Token-level DPO: Zeng et al. 2024 (arXiv:2404.11999); and TIS-DPO's divergence term
(arXiv:2410.04350), whose sign and direction differ.

Changes against dpo.py: the margin D = r_chosen - r_rejected is corrected by sequential divergences K, each
the sum over a completion's positions of a KL divergence over the whole vocabulary (distribution.token_kl):

    tdpo1    -log sigmoid(beta * (D - (K_rejected - K_chosen)))
    tdpo2    -log sigmoid(beta * (D - alpha * (K_rejected - stop(K_chosen))))        alpha 0.5
    tis_dpo  -log sigmoid(beta * (D - alpha * (K_chosen - K_rejected)))              both with token weights

TDPO takes KL(reference || policy), here `forward_kl`, and reports beta * (r + K) as rewards. TIS-DPO takes
KL(policy || reference), `reverse_kl`, and has the term off in its released code (then it is dpo.py with token
weights). The divergences need the reference's distribution, not its log-probs, so these losses do not run
from the cache: variants/train_measured.py holds the reference in memory and passes K.
"""

import torch.nn.functional as F
from torch import Tensor

from losses.types import PairLogps, PreferenceLoss, log_ratios


def tdpo1_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, forward_kl: Tensor | None = None
) -> PreferenceLoss:
    """forward_kl [2, B]: sums of KL(reference || policy) over chosen, rejected completions; with gradient."""
    chosen_kl, rejected_kl = sides(forward_kl, "forward_kl")
    out = corrected(policy, reference, beta, rejected_kl - chosen_kl)
    return with_divergence(out, beta, chosen_kl, rejected_kl)


def tdpo2_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    alpha: float = 0.5,
    forward_kl: Tensor | None = None,
) -> PreferenceLoss:
    """As tdpo1, with weight alpha, and the chosen side's divergence without gradient."""
    chosen_kl, rejected_kl = sides(forward_kl, "forward_kl")
    out = corrected(policy, reference, beta, alpha * (rejected_kl - chosen_kl.detach()))
    return with_divergence(out, beta, chosen_kl, rejected_kl)


def tis_dpo_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    alpha: float = 0.5,
    reverse_kl: Tensor | None = None,
) -> PreferenceLoss:
    """reverse_kl [2, B]: sums of KL(policy || reference), token-weighted as the log-probs are."""
    chosen_kl, rejected_kl = sides(reverse_kl, "reverse_kl")
    return corrected(policy, reference, beta, alpha * (chosen_kl - rejected_kl))


def sides(divergence: Tensor | None, name: str) -> Tensor:
    """The divergence [2, B] of both sides, or what is missing and who computes it."""
    if divergence is None:
        raise ValueError(
            f"this loss needs {name} [2, B], sums of losses.distribution.token_kl over each completion; "
            "train with python -m variants.train_measured"
        )
    return divergence


def corrected(policy: PairLogps, reference: PairLogps, beta: float, correction: Tensor) -> PreferenceLoss:
    """-log sigmoid(beta * (D - correction)); rewards are beta * log-ratio."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    losses = -F.logsigmoid(beta * (chosen_ratio - rejected_ratio - correction))
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())


def with_divergence(
    out: PreferenceLoss, beta: float, chosen_kl: Tensor, rejected_kl: Tensor
) -> PreferenceLoss:
    """The same losses with TDPO's rewards, beta * (log-ratio + divergence)."""
    return out._replace(
        chosen_rewards=out.chosen_rewards + (beta * chosen_kl).detach(),
        rejected_rewards=out.rejected_rewards + (beta * rejected_kl).detach(),
    )

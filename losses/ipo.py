"""Identity preference optimisation: Azar et al. 2023 (arXiv:2310.12036), eq. 17.

Changes against dpo.py: the margin is regressed on a finite target instead of being pushed without end,

    loss = (h - 1 / (2 beta))^2,   h = r_chosen / n_chosen - r_rejected / n_rejected

`beta` is the paper's tau. Sources disagree on h: the paper writes log-ratios of whole sequences, and the
original DPO repository sums them; TRL averages each side over its own tokens and records that the authors
confirmed this form for their published numbers. Default: mean, with reduction="sum" for the other. The
target 1 / (2 beta) is then in nats per token: 5 at beta 0.1 is very far, so sweep beta upwards (0.1 to 1).
"""

from losses.types import PairLogps, PreferenceLoss, lengths, log_ratios


def ipo_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, reduction: str = "mean"
) -> PreferenceLoss:
    """reduction: "mean" over each completion's own tokens, or "sum"."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}, expected 'mean' or 'sum'")
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    if reduction == "mean":
        chosen_length, rejected_length = lengths(policy)
        chosen_ratio, rejected_ratio = chosen_ratio / chosen_length, rejected_ratio / rejected_length
    losses = (chosen_ratio - rejected_ratio - 1 / (2 * beta)).square()
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

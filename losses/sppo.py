"""Self-play preference optimisation, hard labels: Wu et al. 2024 (arXiv:2405.00675), eq. 4.7 with P in {0,
1}.

Changes against dpo.py: each log-ratio is regressed on its own target,

    loss = (r_chosen - 1 / (2 beta))^2 + (r_rejected + 1 / (2 beta))^2

beta is 1 / eta of the paper, 0.001; the loss starts at 1 / (2 beta^2), so watch gradients, not its value.
"""

from losses.types import PairLogps, PreferenceLoss, log_ratios


def sppo_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """Log-ratios are sums over tokens; the targets are +-1 / (2 beta) nats."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    target = 1 / (2 * beta)
    losses = (chosen_ratio - target).square() + (rejected_ratio + target).square()
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

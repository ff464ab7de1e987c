"""SimPO: Meng et al. 2024 (arXiv:2405.14734), eq. 6.

Changes against dpo.py: no reference; log-probs per token; a target margin gamma,

    loss = -log sigmoid(beta * (log pi(chosen)/n_chosen - log pi(rejected)/n_rejected) - gamma)

Code exists with `gamma` and with gamma / beta; here it is `gamma_beta_ratio`, as in the authors' later
releases. beta is 2 to 10 and the ratio 0.1 to 0.8. Nothing holds the policy near its start: learning rate
below 1e-6.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, lengths


def simpo_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    gamma_beta_ratio: float,
    label_smoothing: float = 0.0,
) -> PreferenceLoss:
    """gamma_beta_ratio: wanted difference of log-probs per token, in nats. The reference is not used."""
    chosen_length, rejected_length = lengths(policy)
    chosen_mean, rejected_mean = policy.chosen / chosen_length, policy.rejected / rejected_length
    margin = beta * (chosen_mean - rejected_mean - gamma_beta_ratio)
    losses = -F.logsigmoid(margin) * (1 - label_smoothing) - F.logsigmoid(-margin) * label_smoothing
    return PreferenceLoss(losses, (beta * chosen_mean).detach(), (beta * rejected_mean).detach())

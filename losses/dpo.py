"""Direct preference optimisation: Rafailov et al. 2023 (arXiv:2305.18290), eq. 7.

With log-ratios r = log pi(y|x) - log pi_ref(y|x), summed over completion tokens,

    loss = -log sigmoid(beta * (r_chosen - r_rejected))

The policy that maximises reward minus beta * KL to the reference is pi_ref * exp(reward / beta), up to a
factor that depends on the prompt only. Read backwards, beta * r is the reward a policy is optimal for, and
the loss is the likelihood of the preferences under it. At the reference the loss is log 2.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, log_ratios


def dpo_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, label_smoothing: float = 0.0
) -> PreferenceLoss:
    """Eq. 7 for B pairs -> losses [B] and the two detached rewards [B].

    beta: how strongly the policy is held to the reference; 0.1 is usual.
    label_smoothing: probability eps in [0, 0.5) that a label is flipped. The expected cross-entropy under
        it ("conservative DPO", Mitchell 2023) stops pushing once sigmoid(margin) = 1 - eps.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected a probability in [0, 0.5)")
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    margin = beta * (chosen_ratio - rejected_ratio)
    losses = -F.logsigmoid(margin) * (1 - label_smoothing) - F.logsigmoid(-margin) * label_smoothing
    return PreferenceLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())

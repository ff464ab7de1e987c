"""DPO-positive (Smaug): Pal et al. 2024 (arXiv:2402.13228).

Changes against dpo.py: a penalty inside the sigmoid when the chosen completion becomes less likely than it is
under the reference,

    loss = -log sigmoid(beta * (r_chosen - r_rejected - penalty * max(0, -r_chosen)))

`penalty` is the paper's lambda, 50 (5 to 500 tried), with beta 0.3. Public implementations that add or even
subtract the penalty outside the sigmoid differ from the paper. Below the reference the gradient on the chosen
log-prob is at least 1 + lambda times DPO's, and up to beta (1 + lambda): clip. Exactly at it the subgradient
of max is 0; but the reference was scored in other batches, so rounding puts about half of a first step's
pairs below.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, log_ratios


def dpop_loss(policy: PairLogps, reference: PairLogps, *, beta: float, penalty: float) -> PreferenceLoss:
    """penalty: how many times a nat lost on the chosen completion weighs more than one of margin."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    margin = beta * (chosen_ratio - rejected_ratio - penalty * (-chosen_ratio).relu())
    return PreferenceLoss(
        -F.logsigmoid(margin), (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach()
    )

"""Calibrated DPO: Xiao et al. 2024 (arXiv:2412.14516).

Changes against dpo.py: the rewards' absolute scale is pinned, not only their difference,

    loss = -log sigmoid(r_chosen - r_rejected)
           + calibration * [(r_chosen - 1 / (2 beta))^2 + (r_rejected + 1 / (2 beta))^2]

There is no beta inside the sigmoid. calibration is 1 in the paper and 0.5 in the released code (the default),
beta 0.001. Without the first term this is sppo.py.
"""

from losses.dpo import dpo_loss
from losses.sppo import sppo_loss
from losses.types import PairLogps, PreferenceLoss


def cal_dpo_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, calibration: float = 0.5
) -> PreferenceLoss:
    """Rewards are beta times the log-ratios."""
    contrast = dpo_loss(policy, reference, beta=1.0).losses
    anchor = sppo_loss(policy, reference, beta=beta)
    return anchor._replace(losses=contrast + calibration * anchor.losses)

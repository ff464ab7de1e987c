"""Binary classifier optimisation: Jung et al. 2024 (arXiv:2404.04656).

Changes against dpo.py: the implicit reward R = beta * r is trained as a classifier of chosen against
rejected, with a shift delta, the running mean of all rewards seen, without gradient:

    loss = -log sigmoid(R_chosen - delta) - log sigmoid(-(R_rejected - delta))

TRL's pairwise "bco_pair" has delta = 0 (older versions and its unpaired trainer have the mean); with delta
= 0 the loss is an upper bound of DPO's. Default: the running mean; `shift=False` for delta = 0. The paper's
weighting of undesirable examples by a prompt classifier is not here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.contract import couples_pairs
from losses.types import PairLogps, PreferenceLoss, log_ratios


@couples_pairs
def bco_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    shift: bool = True,
    state: Tensor | None = None,
) -> PreferenceLoss:
    """state [2]: mean of the rewards of all earlier steps, and how many there were."""
    chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
    delta = 0.0
    if shift:
        rewards = torch.cat([chosen, rejected]).detach()
        mean, count = rewards.new_zeros(2) if state is None else state[:2]
        total = count + len(rewards)
        delta = mean + (rewards - mean).sum() / total
        state = torch.stack([delta, total])
    losses = -F.logsigmoid(chosen - delta) - F.logsigmoid(delta - rejected)
    return PreferenceLoss(losses, chosen.detach(), rejected.detach(), state)

"""Length-normalised DPO: Tulu 3 (arXiv:2411.15124), "dpo_norm" of open-instruct, "sigmoid_norm" of TRL.

Changes against dpo.py: log-ratios are averaged over each completion's own tokens before they are compared,

    loss = -log sigmoid(beta * (r_chosen / n_chosen - r_rejected / n_rejected))

so a long completion cannot earn a large reward by length alone. Averages are small: beta is about 5.
With equal lengths n this is DPO with beta / n.
"""

import torch.nn.functional as F

from losses.types import PairLogps, PreferenceLoss, lengths, log_ratios


def sigmoid_norm_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> PreferenceLoss:
    """Rewards are beta times the log-ratio per token."""
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    chosen_length, rejected_length = lengths(policy)
    chosen_reward, rejected_reward = (
        beta * chosen_ratio / chosen_length,
        beta * rejected_ratio / rejected_length,
    )
    losses = -F.logsigmoid(chosen_reward - rejected_reward)
    return PreferenceLoss(losses, chosen_reward.detach(), rejected_reward.detach())

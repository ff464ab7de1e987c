"""AlphaDPO: Wu et al. 2024 (arXiv:2410.10148).

Changes against simpo.py: the target margin adapts to how far a pair's implicit reward gap is above the
running mean,

    loss = -log sigmoid(beta * (log pi(chosen)/n_chosen - log pi(rejected)/n_rejected - ratio - alpha * Z))
    Z    = (D - mu) / s,   D = r_chosen / n_chosen - r_rejected / n_rejected

mu, s are running averages of mean and deviation of D, as in beta_dpo.py; Z carries no gradient. The released
code starts them at 0, which makes Z several times too wide for tens of steps. alpha = 0 is SimPO.
"""

import torch.nn.functional as F
from torch import Tensor

from losses.beta_dpo import update_moments
from losses.contract import couples_pairs
from losses.types import PairLogps, PreferenceLoss, lengths, log_ratios


@couples_pairs
def alpha_dpo_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float,
    gamma_beta_ratio: float,
    alpha: float,
    state: Tensor | None = None,
) -> PreferenceLoss:
    """state [3]: running mean and deviation of the gaps in log-ratio per token, and of how many batches."""
    chosen_length, rejected_length = lengths(policy)
    chosen_ratio, rejected_ratio = log_ratios(policy, reference)
    gap = (chosen_ratio / chosen_length - rejected_ratio / rejected_length).detach()
    mean, deviation, _ = state = update_moments(gap, state)
    standardised = (gap - mean) / (deviation + 1e-6)
    chosen_mean, rejected_mean = policy.chosen / chosen_length, policy.rejected / rejected_length
    margin = beta * (chosen_mean - rejected_mean - gamma_beta_ratio - alpha * standardised)
    return PreferenceLoss(
        -F.logsigmoid(margin), (beta * chosen_mean).detach(), (beta * rejected_mean).detach(), state
    )

"""Likelihood of the chosen completion: supervised fine-tuning, or rejection-sampling fine-tuning (RFT,
arXiv:2308.01825) when the chosen completions are the policy's own passing samples.

Changes against dpo.py: the rejected completion and the reference are ignored. Sources disagree on the mean:

    sft_loss         -log pi(chosen) / n_chosen               every sequence counts the same
    sft_token_loss   -log pi(chosen) / mean_batch(n_chosen)   every token counts the same (TRL's "sft")

The second depends on the batch it is computed in.
"""

from torch import Tensor

from losses.contract import couples_pairs
from losses.types import PairLogps, PreferenceLoss, lengths


def chosen_nll(policy: PairLogps) -> Tensor:
    """Negative log-likelihood per token of each chosen completion, [B]."""
    return -policy.chosen / lengths(policy)[0]


def sft_loss(policy: PairLogps, reference: PairLogps) -> PreferenceLoss:
    """Rewards are the log-probs per token."""
    chosen_length, rejected_length = lengths(policy)
    rewards = (policy.chosen / chosen_length).detach(), (policy.rejected / rejected_length).detach()
    return PreferenceLoss(chosen_nll(policy), *rewards)


@couples_pairs
def sft_token_loss(policy: PairLogps, reference: PairLogps) -> PreferenceLoss:
    """As sft_loss, averaged over all chosen tokens of the batch."""
    chosen_length, _ = lengths(policy)
    return sft_loss(policy, reference)._replace(losses=-policy.chosen / chosen_length.mean())

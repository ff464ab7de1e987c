"""Contrastive preference optimisation: Xu et al. 2024 (arXiv:2401.08417), eq. 3.

Changes against dpo.py: no reference (it is taken as uniform), and a likelihood term keeps the policy near
the data,

    loss = -log sigmoid(beta * (log pi(chosen) - log pi(rejected))) + alpha * (-log pi(chosen) / n_chosen)

Log-probs are sums in the first term, so long rejected answers look bad for free. TRL averages the second term
over the tokens of the batch; here each sequence counts the same. CPO-SimPO is a mixture of simpo and sft.
"""

from losses.dpo import dpo_loss
from losses.sft import chosen_nll
from losses.types import PairLogps, PreferenceLoss


def cpo_loss(
    policy: PairLogps, reference: PairLogps, *, beta: float, alpha: float, label_smoothing: float = 0.0
) -> PreferenceLoss:
    """alpha: weight of the likelihood term, 1 in the paper. The reference is not used."""
    uniform = PairLogps(policy.chosen.new_zeros(()), policy.chosen.new_zeros(()))  # its log-probs cancel
    contrast = dpo_loss(policy, uniform, beta=beta, label_smoothing=label_smoothing)
    return contrast._replace(losses=contrast.losses + alpha * chosen_nll(policy))

"""DPO plus likelihood of the chosen completion: Pang et al. 2024 (arXiv:2404.19733), "DPO + NLL"; also
Llama 3 (alpha 0.2) and arXiv:2405.16436 (alpha 0.005).

Changes against dpo.py:  loss = dpo + alpha * (-log pi(chosen) / n_chosen)

The first version of the paper put alpha on the DPO term and divided by prompt plus completion; this is the
later one. TRL averages the second term over all chosen tokens of the batch: mix dpo and sft_token_loss
(conf/loss/rpo_token.yaml) for that.
"""

from losses.dpo import dpo_loss
from losses.sft import chosen_nll
from losses.types import PairLogps, PreferenceLoss


def rpo_loss(policy: PairLogps, reference: PairLogps, *, beta: float, alpha: float) -> PreferenceLoss:
    """alpha: weight of the likelihood term; 1 in the paper. The rejected side is exactly DPO's."""
    preference = dpo_loss(policy, reference, beta=beta)
    return preference._replace(losses=preference.losses + alpha * chosen_nll(policy))

"""Weighted preference optimisation: Zhou et al. 2024 (arXiv:2406.11827), eq. 2 and its "sampled alignment".

Changes against any pairwise loss: the value of a pair is multiplied by how likely the policy itself is to
produce it,

    w = min(1, exp(log w(chosen) + log w(rejected))),   without gradient
    log w(y) = mean over tokens of [log pi(y_t) - log sum_v pi(v)^2]

A token's term is 0 under a uniform or a certain distribution, and can be positive between. The released code
clamps w at 1, the default here; TRL does not. log sum_v pi^2 is of the policy as it is at each step, so no
cache holds it: variants/train_measured.py computes it (distribution.token_statistics), without a gradient and
without a second model. Not for losses whose values belong to ranks (aot.py).
"""

from torch import Tensor

from losses.contract import marked, takes
from losses.types import LossFunction, PairLogps, PreferenceLoss


def log_weights(logps: Tensor, log_collision: Tensor, row: Tensor, completion_lengths: Tensor) -> Tensor:
    """log w(chosen) + log w(rejected), [B], from N completion tokens of B pairs.

    logps, log_collision [N]: log pi(y_t) and log sum_v pi(v)^2. row [N]: 0..B-1 chosen, B..2B-1 rejected.
    completion_lengths [2B]: tokens of each.
    """
    aligned = (logps - log_collision).detach()
    sums = aligned.new_zeros(len(completion_lengths)).index_add(0, row, aligned)
    chosen, rejected = (sums / completion_lengths).chunk(2)
    return chosen + rejected


def wpo_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    loss: LossFunction,
    clamp: bool = True,
    state: Tensor | None = None,
    log_weight: Tensor | None = None,
    forward_kl: Tensor | None = None,
    reverse_kl: Tensor | None = None,
    kl: Tensor | None = None,
) -> PreferenceLoss:
    """loss: the pairwise loss to be weighted, its settings bound; `state` and measurements are that loss's.

    log_weight [B]: see log_weights.
    """
    if marked(loss, "by_rank"):
        raise ValueError("WPO weighs pairs, and the values of this loss belong to ranks; choose another loss")
    if log_weight is None:
        raise ValueError(
            "WPO needs log_weight [B], of losses.distribution.token_statistics and losses.wpo.log_weights; "
            "train with python -m variants.train_measured"
        )
    weight = log_weight.detach().exp()
    known = {"state": state, "forward_kl": forward_kl, "reverse_kl": reverse_kl, "kl": kl}
    given = {name: value for name, value in known.items() if takes(loss, name)}
    weighted = loss(policy, reference, **given)
    return weighted._replace(losses=weighted.losses * (weight.clamp(max=1) if clamp else weight))

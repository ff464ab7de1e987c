"""Weighted sum of several losses, e.g. MPO (arXiv:2411.10442): 0.8 DPO + 0.2 BCO + 1.0 likelihood.

The parts are losses with their settings bound, as hydra makes them from a list of nodes. Rewards are the
first part's. Parts that remember something get their own row of `state`, and parts that ask for measurements
get those (losses/contract.py).
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from losses.contract import functions, takes
from losses.types import LossFunction, PairLogps, PreferenceLoss


def mixture_loss(
    policy: PairLogps,
    reference: PairLogps,
    *,
    parts: Sequence[LossFunction],
    weights: Sequence[float],
    state: Tensor | None = None,
    log_weight: Tensor | None = None,
    forward_kl: Tensor | None = None,
    reverse_kl: Tensor | None = None,
    kl: Tensor | None = None,
) -> PreferenceLoss:
    """sum_k weights[k] * parts[k](policy, reference), per pair. state: a row for each part that remembers."""
    if not parts or len(parts) != len(weights):
        raise ValueError(
            f"mixture has {len(parts)} parts and {len(weights)} weights, expected as many of each"
        )
    if any(takes(part, "state") and mixture_loss in functions(part) for part in parts):
        raise ValueError("a mixture that remembers is part of a mixture: write its parts into the outer list")
    remembered = iter([None] * len(parts) if state is None else state)
    measured = {"log_weight": log_weight, "forward_kl": forward_kl, "reverse_kl": reverse_kl, "kl": kl}
    outcomes = []
    for part in parts:
        own = {name: value for name, value in measured.items() if takes(part, name)}
        if takes(part, "state"):
            own["state"] = next(remembered)
        outcomes.append(part(policy, reference, **own))
    states = [
        outcome.losses.new_zeros(1) if outcome.state is None else outcome.state  # a row each, used or not
        for part, outcome in zip(parts, outcomes, strict=True)
        if takes(part, "state")
    ]
    losses = sum(weight * outcome.losses for weight, outcome in zip(weights, outcomes, strict=True))
    return outcomes[0]._replace(
        losses=losses, state=pad_sequence(states, batch_first=True) if states else None
    )

"""Length-desensitised DPO: Liu et al. 2024 (arXiv:2409.06411); TRL's `ld_alpha`.

Changes against dpo.py: nothing in the loss. Of the longer completion, the tokens beyond the length of the
shorter one count only `alpha`, for the policy and the reference alike:

    log pi(y) = sum_{k < n} logp_k + alpha * sum_{k >= n} logp_k,   n = min(n_chosen, n_rejected)

These are token weights. alpha 1 is DPO, 0 ignores the tail, the paper suggests about 0.5.
"""

import torch
from torch import Tensor


def ld_weights(row: Tensor, completion_lengths: Tensor, alpha: float) -> Tensor:
    """Token weights [N] of a batch of B pairs.

    row [N]: the completion of each token, 0..B-1 chosen and B..2B-1 rejected, tokens of one completion in
    order. completion_lengths [2B]: chosen lengths, then rejected lengths.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, expected a weight in [0, 1]")
    shared = torch.minimum(completion_lengths, completion_lengths.roll(len(completion_lengths) // 2))
    index = torch.arange(len(row), device=row.device)
    first = index.new_full(completion_lengths.shape, len(row)).scatter_reduce(0, row, index, "amin")
    return torch.where(index - first[row] < shared[row], 1.0, alpha)


def pair_ld_weights(chosen_length: int, rejected_length: int, alpha: float) -> tuple[Tensor, Tensor]:
    """The same for one pair: weights [n_chosen] and [n_rejected], as a weights file holds them."""
    row = torch.tensor([0] * chosen_length + [1] * rejected_length, dtype=torch.int64)
    weights = ld_weights(row, torch.tensor([chosen_length, rejected_length]), alpha)
    return weights[:chosen_length], weights[chosen_length:]

"""What some methods need beyond the target's log-prob: sums over the whole vocabulary at each position.

`token_statistics` (log sum pi^2 for WPO's weights, and entropies) visits the vocabulary in the tiles of
logprobs.py and has no gradient. `token_kl` (TDPO, TIS-DPO) compares two full distributions with a gradient to
the policy; it holds the logits of a few rows at a time and computes them again in the backward pass: six
products.
Neither can run from a cache of log-probs.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from losses.logprobs import TILE, blocks, tile_logits

LOGITS = 2**23  # of one model that token_kl holds; each chunk adds to the whole head's gradient
CUDA_LOGITS = 2**25


class TokenStatistics(NamedTuple):
    """Per position of N, float32."""

    logps: Tensor  # log pi(target)
    log_collision: Tensor  # log sum_v pi(v)^2: the log-probability that two draws agree
    entropy: Tensor  # -sum_v pi(v) log pi(v), nats


@torch.no_grad()
def token_statistics(
    hidden: Tensor, weight: Tensor, target: Tensor, *, softcap: float = 0.0, tile: tuple[int, int] = TILE
) -> TokenStatistics:
    """hidden [N, D], weight [V, D], target [N] -> three numbers per position, without gradient."""
    parts = [
        _row_statistics(hidden[r], weight, target[r], softcap, tile[1]) for r in blocks(len(hidden), tile[0])
    ]
    if not parts:
        return TokenStatistics(*(hidden.new_empty(0, dtype=torch.float32) for _ in range(3)))
    return TokenStatistics(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _row_statistics(
    x: Tensor, weight: Tensor, target: Tensor, softcap: float, columns: int
) -> TokenStatistics:
    """The statistics of one block of rows, by sums relative to a running maximum `top`."""
    top = x.new_full((len(x), 1), -torch.inf, dtype=torch.promote_types(weight.dtype, torch.float32))
    total, squares, moment = (torch.zeros_like(top) for _ in range(3))  # sums of e, e^2, e * (z - top)
    chosen = torch.empty_like(top)
    for block in blocks(len(weight), columns):
        logits, _ = tile_logits(x.to(weight.dtype), weight[block], softcap)
        position = target.unsqueeze(1) - block.start
        inside = (position >= 0) & (position < logits.shape[1])
        chosen = torch.where(inside, logits.gather(1, position.clamp(0, logits.shape[1] - 1)), chosen)
        new_top = torch.maximum(top, logits.amax(1, keepdim=True))
        shift = (top - new_top).nan_to_num(neginf=-1e4)  # the first tile finds empty sums
        moment = shift.exp() * (moment + shift * total)
        total, squares, top = total * shift.exp(), squares * (2 * shift).exp(), new_top
        powers = logits.sub_(top).exp()
        moment += (powers * logits).sum(1, keepdim=True)
        total += powers.sum(1, keepdim=True)
        squares += powers.square_().sum(1, keepdim=True)
    logps = chosen - top - total.log()
    log_collision = squares.log() - 2 * total.log()
    entropy = total.log() - moment / total
    return TokenStatistics(logps.squeeze(1), log_collision.squeeze(1), entropy.squeeze(1))


def token_kl(
    policy_hidden: Tensor,
    reference_hidden: Tensor,
    policy_weight: Tensor,
    reference_weight: Tensor,
    *,
    policy_first: bool,
    softcap: float = 0.0,
    rows: int | None = None,
) -> Tensor:
    """KL divergence per position, [N] float32, with gradient to the policy's two tensors only.

    hidden [N, D] of the same positions, weights [V, D]; the two models may differ in D, not in V.
    policy_first: KL(policy || reference), TIS-DPO's; otherwise KL(reference || policy), TDPO's.
    rows: positions whose logits are held at once, None: a good number for the vocabulary and the device.
        About 24 bytes * rows * V are alive in the backward pass: 200 MB by default, 800 MB on CUDA.
    """
    if len(policy_weight) != len(reference_weight):
        raise ValueError(
            f"policy and reference have vocabularies of {len(policy_weight)} and {len(reference_weight)};"
            " a divergence needs the same"
        )
    if rows is None:
        elements = CUDA_LOGITS if policy_hidden.device.type == "cuda" else LOGITS
        rows = max(1, elements // len(policy_weight))
    reference_hidden, reference_weight = reference_hidden.detach(), reference_weight.detach()

    def divergence(policy_rows: Tensor, reference_rows: Tensor, policy_weight: Tensor) -> Tensor:
        policy = tile_logits(policy_rows, policy_weight, softcap)[0].log_softmax(-1)
        reference = tile_logits(reference_rows, reference_weight, softcap)[0].log_softmax(-1)
        first, second = (policy, reference) if policy_first else (reference, policy)
        return (first.exp() * (first - second)).sum(-1)

    parts = [
        checkpoint(divergence, policy_hidden[r], reference_hidden[r], policy_weight, use_reentrant=False)
        for r in blocks(len(policy_hidden), rows)
    ]
    return torch.cat(parts) if parts else policy_hidden.new_empty(0, dtype=torch.float32)

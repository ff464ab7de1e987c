"""token_logps for a GPU: some rows against the whole vocabulary at a time.

There a matrix product is so fast that what counts is how often its result crosses the memory bus. The tiles
of logprobs.py cross it ten times in either direction; here a block of rows is multiplied, its log-softmax is
one kernel, and its exponential overwrites the logits. Equations and letters are those of logprobs.py.

Where the probabilities of all rows fit `budget_bytes` they are kept, and the backward pass is one product.
Else it visits the vocabulary in columns, all rows at once, so that each part of the weight gradient is
written once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BUDGET = 2**30  # bytes of probabilities kept between forward and backward: 3,500 tokens of a 152k vocabulary
ROWS = 1024  # of logits at once in the forward pass, 0.9 GB with their log-softmax at a 152k vocabulary
COLUMNS = 8192  # of logits at once in the backward pass


def row_logps(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    dtype: torch.dtype,
    *,
    softcap: float = 0.0,
    budget_bytes: int = BUDGET,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> Tensor:
    """Log-probability of target [N] under softmax(hidden [N, D] @ weight.T), weight [V, D] -> [N] float32.

    Products are in `dtype`, sums in float32 (float64 for float64). Shapes are checked by token_logps.
    """
    sizes = budget_bytes, rows, columns
    return _RowLogps.apply(hidden, weight, target, dtype, softcap, sizes, torch.is_grad_enabled())


class _RowLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, target, dtype, softcap, sizes, grad_enabled):
        budget_bytes, rows, columns = sizes
        full = torch.promote_types(dtype, torch.float32)
        hidden_gradient, weight_gradient = (grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        head, target = weight.to(dtype), target.unsqueeze(1)
        logps, lse, missed = (hidden.new_empty(len(hidden), 1, dtype=full) for _ in range(3))
        pull = torch.empty_like(hidden) if hidden_gradient else None
        keep = weight_gradient and len(hidden) * len(weight) * dtype.itemsize <= budget_bytes
        kept = hidden.new_empty(len(hidden), len(weight), dtype=dtype) if keep else None

        for start in range(0, len(hidden), rows):
            block = slice(start, start + rows)
            logits, slope = _logits(hidden[block].to(dtype), head, softcap)
            chosen = logits.gather(1, target[block]).to(full)
            log_p = F.log_softmax(logits, dim=-1, dtype=full)
            logps[block] = log_p.gather(1, target[block])
            lse[block] = chosen - logps[block]
            missed[block] = -torch.expm1(logps[block])  # 1 - p of the target
            if softcap:
                missed[block] *= 1 - (chosen / softcap).square()
            if pull is None and kept is None:
                continue
            p = torch.exp(log_p, out=logits if kept is None else kept[block])
            del log_p
            p.scatter_(1, target[block], 0)
            if slope is not None:
                p *= slope
            if pull is not None:
                pull[block] = p @ head
            p.scatter_(1, target[block], -missed[block].to(dtype))

        ctx.save_for_backward(hidden, weight, target, lse, missed, pull, kept)
        ctx.settings = dtype, softcap, columns
        return logps.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, weight, target, lse, missed, pull, kept = ctx.saved_tensors
        dtype, softcap, columns = ctx.settings
        grad = grad.unsqueeze(1)
        grad_hidden = grad_weight = None
        if pull is not None:
            grad_hidden = (missed * weight[target[:, 0]]).sub_(pull).mul_(grad).to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            pushed = (hidden * -grad).to(dtype)  # G.T @ hidden = (G / -g).T @ (-g hidden)
            if kept is not None:
                grad_weight = (kept.T @ pushed).to(weight.dtype)
            else:
                grad_weight = torch.empty_like(weight)
                for start in range(0, len(weight), columns):
                    part = weight[start : start + columns].to(dtype)
                    p = _column_gradient(hidden.to(dtype), part, target - start, lse, missed, softcap)
                    grad_weight[start : start + columns] = p.T @ pushed
        return grad_hidden, grad_weight, None, None, None, None, None


def _logits(hidden: Tensor, head: Tensor, softcap: float) -> tuple[Tensor, Tensor | None]:
    """hidden [n, D], head [c, D] -> logits [n, c] and their slope d(capped)/d(raw), if capped."""
    logits = hidden @ head.T
    if not softcap:
        return logits, None
    squashed = logits.div_(softcap).tanh_()
    return squashed * softcap, 1 - squashed.square()


def _column_gradient(
    hidden: Tensor, part: Tensor, target: Tensor, lse: Tensor, missed: Tensor, softcap: float
) -> Tensor:
    """p [N, c] of the columns of `part` [c, D], with p - 1 at the target, times the soft-cap's slope."""
    logits, slope = _logits(hidden, part, softcap)
    p = torch.exp(logits - lse, out=logits)
    if slope is not None:
        p *= slope
    inside = (target >= 0) & (target < len(part))
    target = target.clamp(0, len(part) - 1)
    return p.scatter_(1, target, torch.where(inside, -missed.to(p.dtype), p.gather(1, target)))

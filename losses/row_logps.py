"""token_logps for a GPU: some rows against the whole vocabulary at a time.

There a matrix product is so fast that what counts is how often its result crosses the memory bus. The tiles
of logprobs.py cross it ten times in either direction; here a block of rows is multiplied and its softmax is
one kernel, from whose result the log-probs are read back. Equations and letters are those of logprobs.py.

Where the probabilities of all rows fit `budget_bytes` they are kept, and the backward pass is one product.
Else it visits the vocabulary in columns, all rows at once, so that each part of the weight gradient is
written once. The product subtracts each row's normaliser as a linear layer adds its bias, so that all that
remains to be done to its result is an exponential in place. The bias is `lse` rounded to the products' type;
what the rounding leaves out is a factor of the row, which joins its gradient.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BUDGET = 2**30  # bytes of probabilities kept between forward and backward: 3,500 tokens of a 152k vocabulary
ROWS = 2048  # of logits at once in the forward pass, 1.2 GB with their softmax at a 152k vocabulary
COLUMNS = 8192  # of logits at once in the backward pass
SOME = 2048  # columns that tell a row's normaliser
SURE = 0.03  # below it 1 - p is the sum of the other tokens' p, which keeps its digits


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
            z_target = logits.gather(1, target[block]).to(full)
            p = torch.softmax(logits, -1, out=None if kept is None else kept[block])
            lse[block] = _normalisers(logits, p)
            p.scatter_(1, target[block], 0)
            others = p.sum(1, keepdim=True, dtype=full)
            logps[block] = torch.where(others < SURE, torch.log1p(-others), z_target - lse[block])
            missed[block] = torch.where(others < SURE, others, -torch.expm1(logps[block]))  # 1 - p
            if softcap:
                missed[block] *= 1 - (z_target / softcap).square()
            if pull is None and kept is None:
                continue
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
        if ctx.needs_input_grad[1] and kept is not None:
            pushed = (hidden * -grad).to(dtype)  # G.T @ hidden = (G / -g).T @ (-g hidden)
            grad_weight = (kept.T @ pushed).to(weight.dtype)
        elif ctx.needs_input_grad[1]:
            shift = lse.to(dtype)
            rest = torch.exp(shift - lse)  # 1 in float64
            x, pushed = hidden.to(dtype), (hidden * (-grad * rest)).to(dtype)
            rows = target.T, shift[:, 0], (-missed / rest).to(dtype).T
            grad_weight = torch.empty_like(weight)
            for start in range(0, len(weight), columns):
                part, gradient = (t[start : start + columns] for t in (weight, grad_weight))
                p = _column_gradient(x, part.to(dtype), start, *rows, softcap)
                same = weight.dtype == dtype
                torch.mm(p, pushed, out=gradient) if same else gradient.copy_(p @ pushed)
        return grad_hidden, grad_weight, None, None, None, None, None


def _logits(hidden: Tensor, head: Tensor, softcap: float) -> tuple[Tensor, Tensor | None]:
    """hidden [n, D], head [c, D] -> logits [n, c] and their slope d(capped)/d(raw), if capped."""
    logits = hidden @ head.T
    if not softcap:
        return logits, None
    squashed = logits.div_(softcap).tanh_()
    return squashed * softcap, 1 - squashed.square()


def _normalisers(logits: Tensor, p: Tensor) -> Tensor:
    """log sum exp of logits [n, V] -> [n, 1] in float32 at least, given p, their softmax in the same type.

    Every entry tells it, z_v - log p_v, but for the rounding of p_v: 2^-8 at most in bfloat16. The mean over
    some columns is a hundred times as exact. The largest entry serves where none of these is above zero.
    """
    full = torch.promote_types(p.dtype, torch.float32)
    some = p[:, :SOME].to(full)
    known = some > torch.finfo(p.dtype).tiny
    found = torch.where(known, logits[:, :SOME] - some.log(), 0).sum(1, keepdim=True)
    top, where = p.max(1, keepdim=True)
    largest = logits.gather(1, where) - top.to(full).log()
    return torch.where(known.any(1, keepdim=True), found / known.sum(1, keepdim=True), largest)


def _column_gradient(
    hidden: Tensor, part: Tensor, start: int, target: Tensor, shift: Tensor, pushed: Tensor, softcap: float
) -> Tensor:
    """exp(z - shift) [c, N] of the columns of `part` [c, D], times the soft-cap's slope; `pushed` at targets.

    hidden [N, D], shift [N] in the same type, target and pushed [1, N]; `part` starts at column `start`.
    """
    if softcap:
        logits, slope = _logits(part, hidden, softcap)
        p = logits.sub_(shift).exp_().mul_(slope)
    else:
        p = torch.addmm(-shift, part, hidden.T).exp_()
    inside = (target >= start) & (target < start + len(part))
    target = (target - start).clamp(0, len(part) - 1)
    return p.scatter_(0, target, torch.where(inside, pushed, p.gather(0, target)))

"""Three functions with their gradients written out, where autograd or PyTorch's own do more than is needed.

Between the matrix products a CPU mostly moves memory. Forward and backward on one core (EPYC, torch 2.13):

    rms_norm         [1600, 256] float32: 0.66 ms, 1.80 ms as autograd composes it
    swiglu           the same time, but only its input is kept
    half_attention   bfloat16, 8 query heads on 2 key heads of 64, 384 tokens: 7.0 ms; 128 tokens after 256:
                     3.4 ms; scaled_dot_product_attention 15.4 and 6.8 ms (in float32 it is as fast as this)

Letters: L queries · S keys · H query heads · K key/value heads · G = H/K · E head width.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.half_products import widened


def _scale(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last dimension, which is kept."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(_number(eps, x.dtype), norm, norm, value=1 / int(x.shape[-1])).rsqrt_()


@cache
def _number(value: float, dtype: torch.dtype) -> Tensor:
    """A tensor of one number, made once: an operation with a Python number makes one every time."""
    return torch.tensor(value, dtype=dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = _scale(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        # y = n w, n = s x, s = (mean(x^2) + eps)^-1/2:  dx = s (g w - n mean(g w n)),  dw = sum(g n)
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        product = gradient * normed
        inner = (product @ weight).div_(x.shape[-1]).unsqueeze(-1)
        weight_gradient = product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        x_gradient = torch.mul(gradient, weight, out=product).addcmul_(normed, inner, value=-1).mul_(scale)
        return x_gradient, weight_gradient, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, last dimension (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    here = x.device.type == "cpu" and not torch.compiler.is_compiling()
    if here and x.dtype in (torch.float32, torch.float64) and x.dtype == weight.dtype:
        if not torch.is_grad_enabled():  # while decoding, a call of a Function costs as much as what it does
            return (x * _scale(x, eps)).mul_(weight)
        return _RMSNorm.apply(x, weight, eps)
    return F.rms_norm(x, x.shape[-1:], weight, eps)  # computes in float32 for shorter types


def _swiglu(gate_up: Tensor, dim: int) -> Tensor:
    gate, up = gate_up.chunk(2, dim)
    return F.silu(gate).mul_(up)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate_up: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(gate_up)
        ctx.dim = dim
        return _swiglu(gate_up, dim)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, ctx.dim)
        out = torch.empty_like(gate_up)
        gate_out, up_out = out.chunk(2, ctx.dim)
        torch.ops.aten.silu.out(gate, out=up_out)
        up_out.mul_(gradient)
        torch.mul(gradient, up, out=gate_out)
        torch.ops.aten.silu_backward.grad_input(gate_out, gate, grad_input=gate_out)
        return out, None


def swiglu(gate_up: Tensor, dim: int = -1) -> Tensor:
    """silu(gate) * up of [gate | up], side by side in `dim` (Shazeer 2020, arXiv:2002.05202)."""
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula
        gate, up = gate_up.chunk(2, dim)
        return F.silu(gate) * up
    return _SwiGLU.apply(gate_up, dim) if torch.is_grad_enabled() else _swiglu(gate_up, dim)


def silu_gated(x: Tensor, gate_up: nn.Module) -> Tensor:
    """swiglu(gate_up(x)), x [T, D] -> [T, F]; gate_up gives [T, 2F].

    A GPU computes and keeps gate and up as [2F, T]. So each lies in one piece, which its kernels read and
    write three times as fast as rows of a matrix twice as wide; products take either order.
    """
    plain = isinstance(gate_up, nn.Linear) and gate_up.bias is None  # no adapters
    if x.is_cuda and plain and not torch.compiler.is_compiling():
        return swiglu(gate_up.weight @ x.T, dim=0).T
    return swiglu(gate_up(x))


Mask = Callable[[int, int], Tensor]  # (n, m) -> [n, m], see half_attention
BLOCK = 128  # queries at a time: what lies above the diagonal is computed only inside a block
HIDDEN = -1e30  # score of a key that pads: a row of nothing else has weights still, not NaN


class _HalfAttention(torch.autograd.Function):
    """Per block of queries: scores and softmax in float32, other products in q's type; keeps the weights.

    Queries and keys are padded in front to whole blocks. The library that multiplies such numbers makes code
    for every new shape, 1 to 7 ms each, a fifth of a step when lengths vary; so there are few shapes.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Mask) -> Tensor:
        queries, keys, groups = len(q), len(k), k.shape[1]
        q, k, v = (_padded(t) for t in (q, k, v))
        k, v = (t.transpose(0, 1).contiguous() for t in (k, v))  # [K, S, E]
        wide_k, v_factor = k.float().transpose(1, 2), widened(v, q.dtype)
        out, kept = torch.empty_like(q), []
        for rows, seen in _query_blocks(len(q), k.shape[1]):
            scores = torch.bmm(_by_group(q[rows], groups).float() * scale, wide_k[..., :seen])
            scores.view(-1, BLOCK, seen).add_(mask(BLOCK, seen))
            scores[..., : k.shape[1] - keys] = HIDDEN
            weights = scores.softmax(-1).to(q.dtype)
            out[rows] = _by_token(widened(weights, q.dtype) @ v_factor[:, :seen])
            kept.append(weights)
        ctx.scale, ctx.sizes = scale, (queries, keys)
        ctx.save_for_backward(q, k, v, *kept)
        return out[len(q) - queries :]

    @staticmethod
    def backward(ctx, gradient: Tensor):
        q, k, v, *kept = ctx.saved_tensors
        dtype, (queries, keys) = q.dtype, ctx.sizes
        gradient, k, v = _padded(gradient), widened(k, dtype), widened(v, dtype)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (rows, seen), weights in zip(_query_blocks(len(q), k.shape[1]), kept, strict=True):
            block, upper = (widened(_by_group(t[rows], len(k)), dtype) for t in (q, gradient))
            weights = widened(weights, dtype)
            dv[:, :seen].baddbmm_(weights.transpose(1, 2), upper)
            dweights = torch.bmm(upper, v[:, :seen].transpose(1, 2))
            dscores = torch.ops.aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
            dk[:, :seen].baddbmm_(dscores.transpose(1, 2), block, alpha=ctx.scale)
            dq[rows] = _by_token(torch.bmm(dscores, k[:, :seen]).mul_(ctx.scale))
        dk, dv = (t.transpose(0, 1)[-keys:].to(dtype) for t in (dk, dv))
        return dq[-queries:], dk, dv, None, None


def _padded(x: Tensor) -> Tensor:
    """[L, ...] with zeros in front up to whole blocks."""
    return torch.cat([x.new_zeros(-len(x) % BLOCK, *x.shape[1:]), x])


def _query_blocks(queries: int, keys: int) -> Iterator[tuple[slice, int]]:
    """Whole blocks of the queries, the last of the tokens, and how many keys each may see."""
    for start in range(0, queries, BLOCK):
        yield slice(start, start + BLOCK), keys - queries + start + BLOCK


def _by_group(x: Tensor, kv_heads: int) -> Tensor:
    """[L, H, E] -> [K, G L, E]: the query heads of a key head one below another, for one product."""
    return x.unflatten(1, (kv_heads, -1)).permute(1, 2, 0, 3).flatten(1, 2)


def _by_token(x: Tensor) -> Tensor:
    """[K, G L, E] of a block -> [L, H, E]."""
    return x.unflatten(1, (-1, BLOCK)).permute(2, 0, 1, 3).flatten(1, 2)


def half_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Mask) -> Tensor:
    """Causal attention of q [L, H, E], the last L tokens of k, v [S, K, E] -> [L, H, E], on a CPU.

    `mask(n, m)` [n, m] float32 is 0 where the last n of m tokens may look and -inf elsewhere.
    """
    with torch.autocast("cpu", enabled=False):  # which would round the scores
        return _HalfAttention.apply(q, k, v, scale, mask)

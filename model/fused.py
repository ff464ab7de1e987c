"""Two small functions with their gradients written out, where autograd would keep and move more.

Between the matrix products a CPU mostly moves memory. RMSNorm [1600, 256] in float32, forward and backward
on one core: 0.66 ms here, 1.80 ms composed. The gated activation is no faster, but keeps only its input.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # 1 / sqrt(mean(x^2) + eps)
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
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.dtype == weight.dtype:
        return _RMSNorm.apply(x, weight, eps)
    return F.rms_norm(x, x.shape[-1:], weight, eps)  # computes in float32 for shorter types


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        out = torch.empty_like(gate_up)
        gate_out, up_out = out.chunk(2, dim=-1)
        torch.ops.aten.silu.out(gate, out=up_out)
        up_out.mul_(gradient)
        torch.mul(gradient, up, out=gate_out)
        torch.ops.aten.silu_backward.grad_input(gate_out, gate, grad_input=gate_out)
        return out


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of [T, 2F] = [gate | up] -> [T, F] (Shazeer 2020, arXiv:2002.05202)."""
    return _SwiGLU.apply(gate_up)

"""Products in half precision on a CPU without instructions for it.

There PyTorch multiplies such numbers one at a time: a linear layer of 300 x 384 x 1024 takes 36 ms on one
core with AVX2, 3.6 ms as here. The operands are rounded as asked and widened again, so the products are those
of the instructions, at nearly the speed of float32; results are rounded once more. losses/logprobs.py does so
with its tiles.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _without_instructions() -> frozenset[torch.dtype]:
    """The types that this machine's CPU does not multiply itself, as far as this PyTorch can tell."""
    names = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    ask = {dtype: getattr(torch.ops.mkldnn, name, lambda: True) for dtype, name in names.items()}
    return frozenset(dtype for dtype, supported in ask.items() if not supported())


SLOW = _without_instructions()


def widened(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x rounded to `dtype`, in float32 where the CPU that it is on has no instructions for `dtype`."""
    x = x.to(dtype)
    return x.float() if dtype in SLOW and x.device.type == "cpu" else x


def products_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The type in which a linear layer multiplies: autocast's where it is on, else the weights'."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        rounded = x.to(dtype)
        ctx.save_for_backward(rounded, weight)
        ctx.types = x.dtype, None if bias is None else bias.dtype
        with torch.autocast(x.device.type, enabled=False):
            added = None if bias is None else widened(bias, dtype)
            return F.linear(widened(rounded, dtype), widened(weight, dtype), added).to(dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        x_type, bias_type = ctx.types
        with torch.autocast(x.device.type, enabled=False):
            wide = widened(gradient, x.dtype).flatten(0, -2)
            dx = (wide @ widened(weight, x.dtype)).view_as(x).to(x_type) if ctx.needs_input_grad[0] else None
            dw = wide.T @ widened(x, x.dtype).flatten(0, -2) if ctx.needs_input_grad[1] else None
            db = wide.sum(0).to(bias_type) if ctx.needs_input_grad[2] else None
        return dx, None if dw is None else dw.to(weight.dtype), db, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b as F.linear gives it, x [..., K], weight [N, K] -> [..., N]."""
    if x.device.type == "cpu" and SLOW and (dtype := products_dtype(x, weight)) in SLOW:
        return _Linear.apply(x, weight, bias, dtype)
    return F.linear(x, weight, bias)

"""Linear layers with weights in the order that a matrix library's kernels read, for decoding on a CPU.

A product of a few rows with a large matrix spends much of its time rearranging the matrix. Doing that once
makes 16 rows 1.4 to 1.7 times as fast and 256 rows 1.2 times (fp32, AVX-512, layers of 9 M and 2 M
parameters). A row must get the same bits in a batch of any size. oneDNN's kernels give it that everywhere,
MKL's with AVX-512 on Intel's processors; there they are 1.5 times as fast as oneDNN's with 16 rows.

The operators are the ones torch.compile uses for frozen weights; they are not public, so everything here
falls back to the layers as they are. The packed copy takes as much memory as the weights.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from model.half_products import SLOW
from model.memory import reserve_large_pages
from model.transformer import Linear

LIMIT_BYTES = 2**30  # larger models are limited by other things than the order of their weights
DTYPES = (torch.float32, torch.bfloat16)
PACKED_ROWS = 16  # what MKL is told to pack for; other numbers of rows give the same order


class PackedLinears:
    """The linear layers of a model, packed as they are now; later changes of the weights are not seen."""

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if computes_linear(m)]
        self.forwards: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
        if packable(layers):
            weights = sum(layer.weight.nbytes for layer in layers)
            reserve_large_pages(2 * weights)  # a step reads the cache's keys and values, too
            self.forwards = {layer: packed_forward(layer) for layer in layers}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within, calls of the layers use the packed weights. Outside, the model is as it was."""
        try:
            for layer, forward in self.forwards.items():
                layer.__dict__["forward"] = forward
            yield
        finally:
            for layer in self.forwards:
                layer.__dict__.pop("forward", None)


def computes_linear(module: nn.Module) -> bool:
    """Whether a call is exactly x W^T + b; adapters and other changes of forward are left alone."""
    plain = isinstance(module, nn.Linear) and type(module).forward in (nn.Linear.forward, Linear.forward)
    return plain and "forward" not in vars(module)


def packable(layers: list[nn.Linear]) -> bool:
    weights = [layer.weight for layer in layers]
    return (
        platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
        and not torch.is_autocast_enabled("cpu")
        and all(w.device.type == "cpu" and w.dtype in DTYPES for w in weights)
        and SLOW.isdisjoint(w.dtype for w in weights)
        and sum(w.nbytes for w in weights) <= LIMIT_BYTES
    )


def packed_forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """x [..., K] -> x W^T + b [..., N]."""
    weight = layer.weight.detach()
    if weight.dtype == torch.float32 and mkl_keeps_bits():
        packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, PACKED_ROWS)
        return partial(_mkl_linear, packed=packed, weight=weight, bias=layer.bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return partial(_mkldnn_linear, packed=packed, bias=layer.bias)


def _mkldnn_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


@cache
def traceable(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`forward.func` of a packed layer as torch.jit.trace can record it; a list of oneDNN's stops it."""
    return torch.jit.script(forward) if forward is _mkldnn_linear else forward


def _mkl_linear(x: Tensor, packed: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.shape[-1] != weight.shape[1]:  # which the operator does not look at
        raise RuntimeError(f"{x.shape[-1]} inputs for a weight of {weight.shape[1]}")
    rows = x.numel() // x.shape[-1]
    if rows == 1:  # another kernel, with other bits
        return _mkl_linear(x.expand(2, *x.shape), packed, weight, bias)[0]
    return torch.ops.mkl._mkl_linear(x, packed, weight, bias, rows)


@cache
def mkl_keeps_bits() -> bool:
    """Whether a row has the same bits among any number of rows in MKL's packed products."""
    if not torch.backends.mkl.is_available() or not hasattr(torch.ops.mkl, "_mkl_linear"):
        return False
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(size, 48, generator=generator) for size in (80, 512))
    packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, PACKED_ROWS)
    whole = _mkl_linear(x, packed, weight, None)
    return all(torch.equal(_mkl_linear(x[:rows], packed, weight, None), whole[:rows]) for rows in (2, 8, 16))

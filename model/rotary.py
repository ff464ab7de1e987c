"""Rotary position embedding and its context extensions (RoPE, Su et al. 2021, arXiv:2104.09864).

Dimension i of a head's first `width` is paired with dimension i + width/2 and turned by the angle
position * frequency[i]. The extensions only change the frequencies, and a constant factor on cos and sin:

    linear    all frequencies / factor                                   (Chen et al. 2023, arXiv:2306.15595)
    dynamic   a larger base once a sequence outgrows `context`           (NTK-aware scaling)
    llama3    low frequencies / factor, high ones kept, smooth between   (Llama 3.1)
    yarn      the same idea, the ramp placed by numbers of rotations     (Peng et al. 2023, arXiv:2309.00071)
    longrope  a searched factor per frequency, one list for sequences within `context`, one for longer ones
              (Ding et al. 2024, arXiv:2402.13753)

Letters: T tokens · H heads · E head width · W rotated width (E unless rotation is partial).
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

Tables = tuple[Tensor, Tensor]  # cos and sin, [T, 1, W/2] each

KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


@dataclass(frozen=True)
class Rope:
    """How positions turn into angles. `context` is the length the base frequencies were trained for."""

    width: int  # rotated dimensions of each head, even
    base: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    context: int = 0
    scale: float = 1.0  # multiplies cos and sin (yarn, longrope)
    low: float = 1.0  # llama3: low_freq_factor; yarn: beta_slow
    high: float = 4.0  # llama3: high_freq_factor; yarn: beta_fast
    truncate: bool = True  # yarn: round the ends of the ramp to whole dimensions
    short_factors: tuple[float, ...] = ()  # longrope, [W/2]
    long_factors: tuple[float, ...] = ()

    @property
    def depends_on_length(self) -> bool:
        """Whether the angle at a position depends on how long the whole sequence is."""
        return self.kind in ("dynamic", "longrope")

    def regime(self, length: int) -> int:
        """Equal for two lengths where positions turn by the same angles in sequences of both."""
        if self.kind == "dynamic":
            return max(length, self.context)
        return int(self.kind == "longrope" and length > self.context)


def frequencies(rope: Rope, device: torch.device | str, lengths: Tensor | None = None) -> Tensor:
    """Angle per position step: [W/2], or [T, W/2] where the kind depends on `lengths` [T]. Float32.

    The arithmetic is float32 on purpose: published models were trained with these rounded values, and at
    position 100,000 a last-digit difference in a frequency is a visible angle.
    """
    exponents = torch.arange(0, rope.width, 2, device=device).float() / rope.width
    plain = 1.0 / rope.base**exponents
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind == "dynamic":
        growth = rope.factor * lengths.clamp(min=rope.context).float() / rope.context - (rope.factor - 1)
        base = rope.base * growth ** (rope.width / (rope.width - 2))
        return 1.0 / base[:, None] ** exponents
    if rope.kind == "llama3":
        # divided at wavelengths above context/low, kept below context/high, linear in 1/wavelength between
        rotations = rope.context * plain / (2 * math.pi)
        keep = ((rotations - rope.low) / (rope.high - rope.low)).clamp(0, 1)
        return keep * plain + (1 - keep) * plain / rope.factor
    if rope.kind == "yarn":
        keep = 1 - _yarn_ramp(rope, device)
        return keep * plain + (1 - keep) * plain / rope.factor
    if rope.kind == "longrope":
        short, long = (
            1.0 / (_factors(f, torch.device(device)) * rope.base**exponents)
            for f in (rope.short_factors, rope.long_factors)
        )
        return torch.where(lengths[:, None] > rope.context, long, short)
    return plain


@cache
def _factors(factors: tuple[float, ...], device: torch.device) -> Tensor:
    """On the device once: a copy from the host at every forward would make it wait."""
    return torch.tensor(factors, device=device)


def _yarn_ramp(rope: Rope, device: torch.device | str) -> Tensor:
    """0 for dimensions that turn more than `high` times within `context`, 1 below `low` turns. [W/2]"""

    def dimension(rotations: float) -> float:
        return rope.width * math.log(rope.context / (rotations * 2 * math.pi)) / (2 * math.log(rope.base))

    start, end = dimension(rope.high), dimension(rope.low)
    if rope.truncate:
        start, end = math.floor(start), math.ceil(end)
    start, end = max(start, 0), min(end, rope.width - 1)
    steps = torch.arange(rope.width // 2, device=device).float()
    return ((steps - start) / ((end - start) or 0.001)).clamp(0, 1)


def rotary_tables(rope: Rope, positions: Tensor, lengths: Tensor | None = None) -> Tables:
    """cos and sin of every token's angles in float32; one call serves all layers of a forward."""
    angles = positions.float()[:, None] * frequencies(rope, positions.device, lengths)
    return (angles.cos() * rope.scale)[:, None], (angles.sin() * rope.scale)[:, None]


class _Rotate(torch.autograd.Function):
    """One pass forward, one backward: rotation is linear, and its transpose turns the other way."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = int(cos.shape[-1])  # int: a fixed number where a step is recorded (model/traced_step.py)
    pairs, rest = x[..., : 2 * half].to(cos.dtype).unflatten(-1, (2, half)), x[..., 2 * half :]
    out = pairs * cos.unsqueeze(-2)  # [T, H, 2, W/2]
    (first, second), (first_out, second_out) = pairs.unbind(-2), out.unbind(-2)
    first_out.addcmul_(second, sin, value=-1)
    second_out.addcmul_(first, sin)
    out = out.flatten(-2).to(x.dtype)
    return torch.cat([out, rest], dim=-1) if rest.shape[-1] else out


def rotate(x: Tensor, tables: Tables) -> Tensor:
    """Turn heads x [T, H, E] by the tables of `rotary_tables`; dimensions beyond their width pass."""
    wide = torch.promote_types(x.dtype, torch.float32)  # bfloat16 is turned in float32 and rounded once
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula
        cos, sin = (table.to(wide) for table in tables)
        half = cos.shape[-1]
        first, second, rest = x.to(wide).tensor_split((half, 2 * half), dim=-1)
        turned = (first * cos - second * sin, second * cos + first * sin, rest)
        return torch.cat(turned, dim=-1).to(x.dtype)
    cos, sin = (table.to(wide) for table in tables)
    return _Rotate.apply(x, cos, sin) if torch.is_grad_enabled() else _turn(x, cos, sin)

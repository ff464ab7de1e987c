"""Log-probability of each target token, straight from hidden states, without a logits tensor.

The naive way projects hidden [N, D] on the vocabulary, [N, V], and keeps several copies of that for the
backward pass: 14 GB for 8,192 tokens of a 152k vocabulary in bf16. Here the vocabulary is visited in tiles.

Write z = hidden @ weight.T, p = softmax(z), t = the target. With an incoming gradient g [N],

    logp      = -log(1 + sum_{v != t} exp(z_v - z_t))          computed as logsigmoid(z_t - rest)
    d hidden  = g * ((1 - p_t) weight_t - pull),               pull = sum_{v != t} p_v weight_v
    d weight  = G.T @ hidden,                                  G_v = -g p_v,  G_t = g (1 - p_t)

Keeping the target out of every sum keeps 1 - p_t exact to rounding for tokens the model is sure of.
`pull` needs only the tiles, not g, so the forward pass forms it while a tile is in the cache (as flash
attention does). Hence the matrix products: 1 without gradients, 2 when the head is frozen (adapters), else 3
and a 4th for tiles that could not be kept (kept_tiles.py). Autograd on logits takes 3.

Products are in the weights' dtype (or autocast's, cast tile by tile), sums in float32 (float64 for float64).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses.kept_tiles import KeptTiles
from losses.row_logps import BUDGET as ROWS_BUDGET
from losses.row_logps import row_logps

KEPT_TILES_BUDGET = 256 * 2**20  # bytes
TILE = (1024, 1024)  # rows (tokens) x columns (vocabulary): 4 MiB in float32 stays in a CPU's cache
PART = 256  # of the width, where all rows are summed at once
# Without instructions for it a CPU multiplies numbers in bfloat16 ten times as slowly as in float32.
SLOW_BFLOAT16 = not getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)()
LOG2_E = 1.4426950408889634  # exponentials are taken base 2: torch.exp is slow on CPU where it underflows


def token_logps(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    softcap: float = 0.0,
    budget_bytes: int | None = None,
    tile: tuple[int, int] = TILE,
) -> Tensor:
    """Log-probability of target [N] under softmax(hidden [N, D] @ weight.T), weight [V, D] -> [N] float32.

    softcap: logits z become softcap * tanh(z / softcap); 0 leaves them.
    tile: rows and columns of logits held at once; CUDA has a path and sizes of its own (row_logps.py).
    budget_bytes: memory, beside the weight's gradient, for tiles that the backward pass would compute again;
        on CUDA for the probabilities of all rows or of none. None: 256 MiB, on CUDA 1 GiB.
    Raises ValueError for shapes that do not match and, on CPU, for a target outside the vocabulary (on CUDA
    the indexing kernel stops the program instead: looking here would make the host wait).
    """
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden {list(hidden.shape)} and weight {list(weight.shape)} must be [N, D] and [V, D]"
        )
    if target.shape != hidden.shape[:1]:
        raise ValueError(
            f"target {list(target.shape)} must have one id per row of hidden {list(hidden.shape)}"
        )
    if target.device.type == "cpu" and target.numel():
        low, high = (int(bound) for bound in target.aminmax())
        if low < 0 or high >= len(weight):
            raise ValueError(f"target ids span {low}..{high}, outside the vocabulary 0..{len(weight) - 1}")
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        if device == "cuda":
            budget_bytes = ROWS_BUDGET if budget_bytes is None else budget_bytes
            return row_logps(hidden, weight, target, dtype, softcap=softcap, budget_bytes=budget_bytes)
        budget_bytes = KEPT_TILES_BUDGET if budget_bytes is None else budget_bytes
        return _TokenLogps.apply(
            hidden, weight, target, softcap, budget_bytes, tile, dtype, torch.is_grad_enabled()
        )


def blocks(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover range(length)."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def tile_logits(rows: Tensor, columns: Tensor, softcap: float) -> tuple[Tensor, Tensor | None]:
    """rows [n, D], columns [c, D] -> float32 logits [n, c] and their slope d(capped)/d(raw), if capped."""
    logits = (rows @ columns.T).to(torch.promote_types(rows.dtype, torch.float32))
    if not softcap:
        return logits, None
    squashed = logits.div_(softcap).tanh_()
    return squashed * softcap, 1 - squashed.square()


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, target, softcap, budget_bytes, tile, dtype, grad_enabled):
        pull_needed = grad_enabled and ctx.needs_input_grad[0]
        keep = grad_enabled and ctx.needs_input_grad[1]
        ctx.kept = KeptTiles(weight, dtype, len(hidden), tile[1], budget_bytes) if keep else None
        full = torch.promote_types(dtype, torch.float32)
        logps, missed, lse = (hidden.new_empty(len(hidden), 1, dtype=full) for _ in range(3))
        pull = torch.empty_like(hidden) if pull_needed else None

        for rows in blocks(len(hidden), tile[0]):
            x = _factor(hidden[rows], dtype)
            top = x.new_full((len(x), 1), -torch.inf, dtype=full)  # running maximum of the logits, base 2
            rest = torch.zeros_like(top)  # sum of 2^(z - top) over all but the target
            z_target = torch.zeros_like(top)  # logit of the target
            pulled = x.new_zeros(x.shape, dtype=full) if pull_needed else None  # sum of 2^(z - top) * weight
            for columns in blocks(len(weight), tile[1]):
                w = _factor(weight[columns], dtype)
                logits, slope = tile_logits(x, w, softcap)
                position, inside = _locate(target[rows], columns)
                z_target = torch.where(inside, logits.gather(1, position), z_target)
                old_top, top = top, torch.maximum(top, logits.amax(1, keepdim=True) * LOG2_E)
                shrink = torch.exp2(old_top - top)
                powers = _powers(logits, top, position, inside)
                rest = rest * shrink + powers.sum(1, keepdim=True)
                if slope is not None:
                    powers *= slope
                powers = ctx.kept.keep(rows, columns, powers, top) if keep else powers.to(dtype)
                if pull_needed:
                    pulled.mul_(shrink).add_(_factor(powers, dtype) @ w)

            rest = top + rest.log2()
            target_slope = 1 - (z_target / softcap).square() if softcap else 1.0
            z_target = z_target * LOG2_E
            lse[rows] = torch.logaddexp2(rest, z_target)
            logps[rows] = F.logsigmoid((z_target - rest) / LOG2_E)
            missed[rows] = torch.sigmoid((rest - z_target) / LOG2_E) * target_slope
            if pull_needed:
                pull[rows] = pulled.mul_(torch.exp2(top - lse[rows]))

        ctx.save_for_backward(hidden, weight, target, lse, missed, pull)
        ctx.settings = softcap, tile, dtype
        return logps.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        hidden, weight, target, lse, missed, pull = ctx.saved_tensors
        softcap, tile, dtype = ctx.settings
        grad = grad.unsqueeze(1)
        grad_hidden = grad_weight = None
        if pull is not None:
            grad_hidden = torch.empty_like(hidden)
            for rows in blocks(len(hidden), tile[0]):
                push = missed[rows] * weight[target[rows]]
                grad_hidden[rows] = push.sub_(pull[rows]).mul_(grad[rows])
        if not ctx.needs_input_grad[1]:
            return grad_hidden, None, None, None, None, None, None, None

        grad_weight, full = ctx.kept.take_gradient(), lse.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            for columns in blocks(len(weight), tile[1]):  # G.T @ hidden = (G / -g).T @ (-g hidden)
                w = total = None
                for rows in blocks(len(hidden), tile[0]):
                    powers, top = ctx.kept.take(rows, columns)
                    if powers is None:
                        w = _factor(weight[columns], dtype) if w is None else w
                        logits, slope = tile_logits(_factor(hidden[rows], dtype), w, softcap)
                        powers = _powers(logits, top, *_locate(target[rows], columns))
                        powers = powers if slope is None else powers.mul_(slope)
                    x = hidden[rows] * (torch.exp2(top - lse[rows]) * -grad[rows])
                    product = _factor(powers, dtype).T @ _factor(x, dtype)
                    total = product if total is None else total.to(full) + product
                grad_weight[columns] = 0 if total is None else total
        places = torch.arange(len(target), device=target.device)  # equal targets are summed at one of them
        owner = target.new_zeros(len(weight)).scatter_reduce_(0, target, places, "amax")[target]
        for part in blocks(hidden.shape[1], PART):
            x, rows_of = hidden[:, part] * (grad * missed), grad_weight[:, part]
            pushed = torch.zeros_like(x).index_add_(0, owner, x)[owner]
            rows_of[target] = (rows_of[target] + pushed).to(weight.dtype)
        return grad_hidden, grad_weight, None, None, None, None, None, None


def _factor(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x rounded to the products' type, and widened again where that is the faster way to multiply."""
    return x.to(dtype).float() if SLOW_BFLOAT16 and dtype == torch.bfloat16 else x.to(dtype)


def _locate(target: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """target [n] -> its position [n, 1] within `columns` (clamped), and whether it lies there at all."""
    position = target.unsqueeze(1) - columns.start
    inside = (position >= 0) & (position < columns.stop - columns.start)
    return position.clamp(0, columns.stop - columns.start - 1), inside


def _powers(logits: Tensor, shift: Tensor, position: Tensor, inside: Tensor) -> Tensor:
    """exp(logits) * 2^-shift in place, with 0 at the target."""
    powers = torch.add(-shift, logits, alpha=LOG2_E, out=logits).exp2_()
    return powers.scatter_(1, position, powers.gather(1, position).masked_fill_(inside, 0))

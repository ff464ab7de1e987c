"""Attention over a line of pairs: each as prompt, chosen, rejected, nothing padded.

A pair is two ordinary causal sequences that share their beginning. The queries of prompt + chosen see the
keys of prompt + chosen; those of rejected are the last tokens of prompt + rejected. So the queries stay as
they lie, and the keys are gathered, the prompt's twice. How a sequence is computed was chosen by measurement:

    CUDA, half precision   one variable-length kernel call for the whole batch
    CPU, half precision    half_attention per sequence of up to 1024 keys (fused.py)
    else                   scaled_dot_product_attention per sequence, causal where it can be, else masked
    with a soft-cap        the scores written out: no kernel offers it

Letters: B pairs · T tokens of the batch · H query heads · K key/value heads · E head width.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from model.fused import half_attention
from model.rotary import Rope

HALF = (torch.bfloat16, torch.float16)
HALF_ATTENTION_KEYS = 1024  # above, the weights that it keeps cost more memory than its speed is worth


def send(index: Tensor, device: torch.device) -> Tensor:
    """A small tensor from the host to the device; the host goes on at once."""
    return (index.pin_memory() if device.type == "cuda" else index).to(device, non_blocking=True)


class Cache(Protocol):
    """What decoding keeps of the tokens before. kv_cache.py has one; tests have a simpler one."""

    def record(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Keep the keys and values of a prefill, k, v [T, K, E], already rotated."""

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int, softcap: float
    ) -> Tensor:
        """One new token in each of T rows: append k, v [T, K, E] to the rows, let q [T, H, E] see them."""


class Pairs:
    """Where the sequences of a batch lie, worked out once for all layers.

    spans [B, 4] int on the CPU: start, prompt, chosen and rejected length, pair after pair, all T tokens.
    """

    def __init__(self, spans: Tensor, total: int):
        self.rows = [tuple(lengths) for lengths in spans[:, 1:].tolist()]
        if (covered := sum(map(sum, self.rows))) != total:
            raise ValueError(f"spans cover {covered} of {total} tokens; pairs must lie one after another")
        self.query_sizes, self.key_sizes = [], []
        for prompt, chosen, rejected in self.rows:
            self.query_sizes += [prompt + chosen] + [rejected] * (rejected > 0)
            self.key_sizes += [prompt + chosen] + [prompt + rejected] * (rejected > 0)
        self.shared = self.query_sizes != self.key_sizes  # some prompt serves two completions
        self.on_device: dict = {}
        self.wanted: Tensor | None = None  # [N]: the tokens that the layer has to compute; None: all

    def only(self, wanted: Tensor) -> "Pairs":
        """The same pairs for a layer of whose tokens only some are wanted; all are keys."""
        some = copy(self)
        some.wanted = wanted
        return some

    def select(self, x: Tensor) -> Tensor:
        """What is wanted of x: [T, ...] -> [N, ...]."""
        return x if self.wanted is None else x.index_select(0, self.wanted)

    def keys(self, device: torch.device) -> Tensor:
        """Flat index of every key, sequence after sequence: prompt, chosen, prompt, rejected, ..."""
        if "keys" not in self.on_device:
            index, start = [], 0
            for prompt, chosen, rejected in self.rows:
                index.append(torch.arange(start, start + prompt + chosen))
                if rejected:
                    index.append(index[-1][:prompt])
                    index.append(torch.arange(start + prompt + chosen, start + prompt + chosen + rejected))
                start += prompt + chosen + rejected
            self.on_device["keys"] = send(torch.cat(index), device)
        return self.on_device["keys"]

    def boundaries(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cumulative sizes of the query and key sequences, int32, starting with 0."""
        if "boundaries" not in self.on_device:
            sizes = torch.tensor([self.query_sizes, self.key_sizes])
            ends = F.pad(sizes.cumsum(1), (1, 0)).to(torch.int32)
            self.on_device["boundaries"] = tuple(send(ends, device))
        return self.on_device["boundaries"]

    def mask(self, new: int, total: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """[new, total], 0 where each of the last `new` of `total` tokens may look, -inf elsewhere."""
        key = (new, total, window, dtype)
        if key not in self.on_device:
            position = torch.arange(total, device=device)
            age = position[total - new :, None] - position
            hidden = (age < 0) | (age >= window) if window else age < 0
            self.on_device[key] = torch.zeros_like(age, dtype=dtype).masked_fill_(hidden, -torch.inf)
        return self.on_device[key]

    def longest(self) -> Tensor:
        """For each token, the length of its pair's longer sequence, [T] on the CPU."""
        # Transformer.forward takes pairs apart whose two lengths would not give the same angles.
        lengths = torch.tensor(self.rows, dtype=torch.int64).view(-1, 3)
        return (lengths[:, 0] + lengths[:, 1:].max(1).values).repeat_interleave(lengths.sum(1))


def pairs_apart(spans: Tensor | None, ropes: Iterable[Rope]) -> list[bool]:
    """Which pairs cannot share their prompt: its angles depend on the length of what follows. [] for none."""
    ropes = [rope for rope in ropes if rope.depends_on_length]
    if spans is None or not ropes:
        return []
    return [
        rejected > 0 and any(rope.regime(prompt + chosen) != rope.regime(prompt + rejected) for rope in ropes)
        for _, prompt, chosen, rejected in spans.tolist()
    ]


def unshare(
    spans: Tensor, apart: Sequence[bool], wanted: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pair i as two sequences, each with the prompt, where apart[i]; spans [B, 4] on the CPU.

    Returns index [T'], which of the T tokens stands at each place; the spans of those [B', 4]; and where the
    wanted tokens stand, [N], on their device, or all T. A token of the prompt that is wanted twice is wanted
    in chosen's sequence and then in rejected's.
    """
    index, new, chosen_place, rejected_place, end = [], [], [], [], 0
    for (start, prompt, chosen, rejected), two in zip(spans.tolist(), apart, strict=True):
        tokens = torch.arange(start, start + prompt + chosen + rejected)
        first, second = tokens.split([prompt + chosen, rejected])
        parts = [torch.cat([first, second])] if not two else [first, torch.cat([first[:prompt], second])]
        new.append((end, prompt, chosen, 0 if two else rejected))
        own = torch.arange(end, end + sum(map(len, parts)))
        if two:
            new.append((end + len(first), prompt, rejected, 0))
            own, again = own.split([len(first), prompt + rejected])
            chosen_place += [own, again[prompt:]]
            rejected_place += [again[:prompt], own[prompt:], again[prompt:]]
        else:
            chosen_place.append(own)
            rejected_place.append(own)
        index += parts
        end = new[-1][0] + sum(new[-1][1:])
    index, chosen_place, rejected_place = map(torch.cat, (index, chosen_place, rejected_place))
    spans = torch.tensor(new, dtype=spans.dtype)
    if wanted is None:
        return index, spans, chosen_place
    order = torch.arange(len(wanted), device=wanted.device)
    first = order.new_full((len(chosen_place),), len(order)).scatter_reduce(0, wanted, order, "amin")
    chosen_place, rejected_place = (
        place.to(wanted.device)[wanted] for place in (chosen_place, rejected_place)
    )
    return index, spans, torch.where(first[wanted] < order, rejected_place, chosen_place)


def pair_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    spans: Tensor | Pairs,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> Tensor:
    """Attention within pairs: q [T, H, E], k, v [T, K, E], spans [B, 4] on the CPU -> [T, H, E].

    Token i sees token j when both are of the same pair, j is not after i, j is in the prompt or in i's own
    part, and, with a window, j is less than `window` positions before i. Scores are scaled, then soft-capped.
    """
    pairs = spans if isinstance(spans, Pairs) else Pairs(spans, len(q))
    if not pairs.rows:  # an empty batch
        return q
    if pairs.shared:
        k, v = (t.index_select(0, pairs.keys(t.device)) for t in (k, v))
    if q.is_cuda and one_call_serves(q, scale, window, softcap):
        return one_call(q, k, v, pairs, scale, window)
    pieces = zip(q.split(pairs.query_sizes), k.split(pairs.key_sizes), v.split(pairs.key_sizes), strict=True)
    return torch.cat([_sequence(*qkv, pairs, scale, window, softcap) for qkv in pieces])


@cache
def varlen() -> tuple[Callable[..., Tensor] | None, frozenset[str]]:
    """PyTorch's kernel for sequences of any lengths, and what this version of it may be told."""
    try:  # at first use: it imports the compiler, which takes as long as all else that a program imports
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, frozenset()
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


def one_call_serves(q: Tensor, scale: float, window: int, softcap: float) -> bool:
    """Whether the variable-length kernel of this PyTorch computes such an attention."""
    if q.dtype not in HALF or softcap or q.shape[-1] > 256:
        return False
    told = {"window_size": window, "scale": not math.isclose(scale, q.shape[-1] ** -0.5)}
    asked = {option for option, needed in told.items() if needed}
    known = varlen()[1]
    causal = "is_causal" in known or "window_size" in known
    return causal and asked <= known


def one_call(q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, scale: float, window: int) -> Tensor:
    """All sequences at once; the kernel takes the queries of each for the last of its tokens."""
    kernel, known = varlen()
    options = {"scale": scale, "window_size": (window - 1, 0) if window else (-1, 0), "enable_gqa": True}
    options = {name: value for name, value in options.items() if name in known}
    if "window_size" not in known:  # PyTorch 2.10
        options["is_causal"] = True
    if "enable_gqa" not in known and k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    sizes = max(pairs.query_sizes), max(pairs.key_sizes)
    return kernel(q, k, v, *pairs.boundaries(q.device), *sizes, **options)


def _sequence(
    q: Tensor, k: Tensor, v: Tensor, pairs: Pairs, scale: float, window: int, softcap: float
) -> Tensor:
    """One causal sequence: q [L, H, E] are its last L tokens, k, v [S, K, E] all of them -> [L, H, E]."""
    new, total = len(q), len(k)
    window = window if window < total else 0
    if q.device.type == "cpu" and q.dtype in HALF and total <= HALF_ATTENTION_KEYS and not softcap:
        return half_attention(
            q, k, v, scale, lambda new, total: pairs.mask(new, total, window, torch.float32, q.device)
        )
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))  # [1, heads, tokens, E]
    if softcap:
        mixed = _softcapped(q, k, v, pairs.mask(new, total, window, q.dtype, q.device), scale, softcap)
    elif new == total and not window:
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    else:
        mask = pairs.mask(new, total, window, q.dtype, q.device)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=True)
    return mixed[0].transpose(0, 1)


def _softcapped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, cap: float) -> Tensor:
    """Scores squashed into (-cap, cap) before the mask, softmax in float32 at least (Gemma 2)."""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    scores = cap * torch.tanh(q @ k.transpose(-1, -2) * (scale / cap)) + mask
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=wide).to(v.dtype) @ v

"""Keys and values of a running batch: prompts stored once, shared by their samples; own tokens per row.

A prompt sits in a slot, a sample in a row; every row reads one slot. Attention over prompts is one matrix
product per slot with all its rows as queries, so n samples of a prompt read its keys once, not n times.

Shapes are padded (columns to multiples of 16, queries per product to at least 4) because a matrix library's
kernels for odd or very small sizes add in another order: with the padding, a row's result was bit for bit
the same in any batch, on CPU in float32 (tests/model/test_generate.py says where this holds).

Own tokens lie head by head, rows within: where all rows share one prompt, its products and theirs then write
scores in one order, without copies. A prompt's keys lie as its product reads them, width before columns. Own
tokens lie without gaps on a CPU, which fetches ahead what it reads in one piece: with 48 tokens in room for
64, their products take twice as long (docs/benchmarks.md).

Letters: R rows · G slots · M rows that share a slot · H query heads · K key/value heads · E head width ·
P prompt columns · S own columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

COLUMN_BLOCK = 16
MIN_QUERIES = 4


def padded(size: int, block: int = COLUMN_BLOCK) -> int:
    return -(-size // block) * block


class KVCache:
    """The transformer's cache: `record` while prompts are read, `attend` for one token of each row.

    Buffers are made at the first use of a layer and grow when `reserve` asks for more: by doubling, but own
    columns on a CPU by one block or an eighth.
    """

    def __init__(self, rows: int, device: torch.device | str = "cpu", coarse: bool = False) -> None:
        """`coarse`: few different shapes, for steps that are recorded (model/cuda_graphs.py)."""
        self.rows, self.device, self.coarse = rows, device, coarse
        self.tight = torch.device(device).type == "cpu"  # own columns without gaps
        self.block = 8 * COLUMN_BLOCK if coarse else COLUMN_BLOCK
        self.row_index = torch.arange(rows, device=device)
        self.moved = 0  # how often buffers were made anew
        self.slots = self.prompt_columns = self.own_columns = self.longest_own = 0
        self.kept: dict[tuple, Tensor] = {}
        self.layers: list[list[Tensor]] = []  # prompt k, v [G, K, P, E], own k, v [K, R, S, E]
        self.viewed: tuple[int, ...] = ()  # the sizes that `views` are of
        self.views: dict[int, LayerTensors] = {}  # by layer

    def reserve(self, slots: int = 0, prompt: int = 0, own: int = 0, rows: int | None = None) -> None:
        """Make room for so many slots, prompt columns and own columns; have so many rows. What fits stays."""
        rows = self.rows if rows is None else rows
        grown = slots > self.slots or prompt > self.prompt_columns or own > self.own_columns
        if not grown and rows == self.rows:
            return
        self.rows = rows
        if slots > self.slots:
            self.slots = max(slots, 2 * self.slots)
        if prompt > self.prompt_columns:
            self.prompt_columns = padded(max(prompt, 3 * self.prompt_columns // 2), self.block)
        if own > self.own_columns:
            more = _eighth_more(self.own_columns) if self.tight else 2 * self.own_columns
            self.own_columns = padded(max(own, more), self.block)
        self.moved += 1
        for layer in self.layers:
            for i, old in enumerate(layer):
                shape = self._shape(i, layer[0].shape[1])
                if old.shape[:3] != shape:
                    layer[i] = _room(old, i, shape)
                    common = [*map(min, old.shape, shape)]
                    where = tuple(map(slice, common))
                    layer[i][where] = old[where]
                    for dim, kept in enumerate(common):
                        layer[i].narrow(dim, kept, shape[dim] - kept).zero_()

    def _shape(self, buffer: int, kv_heads: int) -> tuple[int, int, int]:
        own = (kv_heads, self.rows, self.own_columns)
        return (self.slots, kv_heads, self.prompt_columns) if buffer < 2 else own

    def _layer(self, layer: int, k: Tensor) -> list[Tensor]:
        """The buffers of a layer."""
        if layer == len(self.layers):
            self.layers.append([_room(k, i, self._shape(i, k.shape[1])).zero_() for i in range(4)])
        return self.layers[layer]

    def start_prompts(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        """Say where the tokens of the next prefill go: prompt after prompt, each into its slot."""
        self.reserve(slots=max(slots) + 1, prompt=max(lengths))
        slot = torch.tensor(slots).repeat_interleave(torch.tensor(lengths)).to(self.device)
        column = torch.cat([torch.arange(n) for n in lengths]).to(self.device)
        self.recorded = [(0, slice(len(slot)), slot, column)]

    def start_rows(
        self, rows: Sequence[int], slots: Sequence[int], prompts: Sequence[int], drawn: Sequence[int]
    ) -> None:
        """The same for rows that are read anew: each one's prompt into its slot, then its own tokens."""
        self.reserve(slots=max(slots) + 1, prompt=max(prompts), own=max(drawn))
        counts = torch.tensor([prompts, drawn]).T
        own = torch.tensor([False, True]).repeat(len(rows)).repeat_interleave(counts.flatten())
        target = torch.tensor([slots, rows]).T.flatten().repeat_interleave(counts.flatten())
        column = torch.cat([torch.arange(n) for n in counts.flatten().tolist()])
        self.recorded = []
        for buffer, which in ((0, ~own), (2, own)):
            source = which.nonzero()[:, 0]
            where = (t.to(self.device) for t in (source, target[source], column[source]))
            self.recorded.append((buffer, *where))

    def record(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Keep a prefill's keys and values, [T, K, E]; tokens beyond the announced prompts are filler."""
        buffers = self._layer(layer, k)
        for buffer, source, target, column in self.recorded:
            for into, values in zip(buffers[buffer : buffer + 2], (k, v), strict=True):
                into = into.transpose(0, 1) if buffer == 2 else into  # [R, K, S, E]
                into[target, :, column] = values[source]

    def move_row(self, source: int, target: int, own: int) -> None:
        """Copy the first `own` columns of one row over another."""
        for _, _, own_k, own_v in self.layers:
            own_k[:, target, :own] = own_k[:, source, :own]
            own_v[:, target, :own] = own_v[:, source, :own]

    def assign(self, slot_of: Sequence[int]) -> None:
        """Say which slot each of the first len(slot_of) rows reads; needed again only when that changes."""
        members: dict[int, list[int]] = {}
        group, member = [], []
        for row, slot in enumerate(slot_of):
            rows = members.setdefault(slot, [])
            group.append(slot)
            member.append(len(rows))
            rows.append(row)
        self.active, self.groups = len(slot_of), max(members) + 1
        self.reserve(rows=self.active)
        self.width = max(max(map(len, members.values())), MIN_QUERIES)
        if self.coarse:
            self.groups, self.width = (1 << (n - 1).bit_length() for n in (self.groups, self.width))
        table = torch.zeros(self.groups, self.width, dtype=torch.int64)  # idle places repeat row 0, unread
        group, member = torch.tensor(group), torch.tensor(member)
        table[group, member] = torch.arange(self.active)
        self.table = self._keep("table", table)
        self.place = self._keep("place", group * self.width + member)
        self.one_slot = self.groups == 1 and self.width == self.active
        self.masks: dict[int, Tensor] = {}  # by window

    def _keep(self, name: str, value: Tensor) -> Tensor:
        """`value` on the device; with `coarse`, where a value of this name and shape was before."""
        if not self.coarse:
            return value.to(self.device)
        kept = self.kept.setdefault((name, value.shape), torch.empty_like(value, device=self.device))
        return kept.copy_(value)

    def start_step(
        self,
        prompt_length: Tensor,
        step: Tensor,
        longest_prompt: int,
        longest_own: int,
        aligned: bool = False,
    ) -> None:
        """Prepare one token: prompt_length, step [R] are what each row's prompt holds and it has written.

        `longest_prompt` is over the rows' slots; `longest_own` counts the token to come. `aligned`: every row
        has written as many, so that the new keys are one column.
        """
        self.reserve(slots=self.groups, prompt=longest_prompt, own=longest_own)
        self.P, self.S = padded(longest_prompt, self.block), padded(longest_own, self.block)
        if self.tight and self.own_columns <= _eighth_more(self.S):
            self.S = self.own_columns  # all the room there is, so that no gap remains
        self.prompt_length, self.drawn = prompt_length[: self.active, None], step[: self.active, None]
        self.plan = StepPlan(self.active, self.P > 0, self.one_slot, aligned and not self.coarse)
        rows, column = self.row_index[: self.active], torch.tensor(longest_own - 1)
        self.now = StepTensors(self.table, self.place, rows, step[: self.active], column)
        shapes = (self.P, self.S, self.active, self.groups, self.moved)
        goes_on = self.plan.aligned and shapes == self.viewed and longest_own == self.longest_own + 1
        self.masks = {window: mask for window, mask in self.masks.items() if goes_on and not window}
        for mask in self.masks.values():  # of the last step: it hides one column that may be seen now
            mask[..., self.P + self.longest_own] = 0
        self.longest_own = longest_own
        if shapes != self.viewed:
            self.viewed, self.views = shapes, {}

    def mask(self, window: int, like: Tensor) -> Tensor:
        """0 where a row may look, -inf elsewhere, [R, 1, P + S] in the scores' type."""
        if window not in self.masks:
            column = torch.arange(max(self.P, self.S), device=self.device)
            prompt, own = column[: self.P], column[: self.S]
            unseen = [prompt >= self.prompt_length, own > self.drawn]
            if window:
                unseen[0] |= prompt <= self.prompt_length + self.drawn - window
                unseen[1] |= own <= self.drawn - window
            unseen = torch.cat(unseen, 1)
            mask = like.new_zeros(unseen.shape).masked_fill_(unseen, float("-inf"))
            self.masks[window] = mask[:, None]
        return self.masks[window]

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
    ) -> Tensor:
        """Append k, v [R, K, E] to the rows and let q [R, H, E] see prompt and own tokens -> [R, H, E]."""
        self._layer(layer, k)
        mask, tensors = self.mask(window, k), self.tensors(layer)
        return self.plan.attend(q, k, v, mask, self.now, tensors, scale=scale, softcap=softcap)

    def tensors(self, layer: int) -> "LayerTensors":
        """Of a layer that has buffers, for this step."""
        if layer not in self.views:
            *prompt, own_k, own_v = self.layers[layer]
            prompt_keys, prompt_values = (t[: self.groups, :, : self.P].flatten(0, 1) for t in prompt)
            keys, values = (t.flatten(0, 1)[:, : self.S] for t in (own_k, own_v))
            self.views[layer] = LayerTensors(own_k, own_v, keys.mT, values, prompt_keys.mT, prompt_values)
        return self.views[layer]


class LayerTensors(NamedTuple):
    """What a step reads and writes in one layer: buffers, and parts of them as products take them."""

    own_k: Tensor  # [K, R, columns, E]
    own_v: Tensor
    keys: Tensor  # [K R, E, S]
    values: Tensor  # [K R, S, E]
    prompt_keys: Tensor  # [G K, E, P]
    prompt_values: Tensor  # [G K, P, E]


class StepTensors(NamedTuple):
    """What all layers of a step share."""

    table: Tensor  # [G, M]: the rows of each slot
    place: Tensor  # [R]: each row's place in the table, flattened
    row: Tensor  # [R]: 0 to R - 1
    step: Tensor  # [R]: the column that each row writes
    column: Tensor  # [], on the CPU: the column, where all rows write the same


class StepPlan(NamedTuple):
    """What decides which operations a step consists of; other sizes it finds in its tensors."""

    rows: int
    prompts: bool  # P > 0
    one_slot: bool  # all rows read the same prompt, none is idle: they need not be gathered
    aligned: bool  # all rows write the same column

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor,
        now: StepTensors,
        layer: LayerTensors,
        *,
        scale: float,
        softcap: float,
    ) -> Tensor:
        """KVCache.attend, mask [R, 1, P + S].

        Few operations, and no copy that can be a view: with 16 rows each costs as much as it computes.
        """
        kv_heads = int(k.shape[1])  # int: a fixed number where the step is recorded (model/traced_step.py)
        k, v = k.transpose(0, 1), v.transpose(0, 1)
        if self.aligned:
            layer.own_k.select(2, now.column).copy_(k)
            layer.own_v.select(2, now.column).copy_(v)
        else:
            place = (slice(None), now.row, now.step)
            layer.own_k[place], layer.own_v[place] = k, v
        q = q.unflatten(1, (kv_heads, -1)).transpose(0, 1).contiguous()  # [K, R, r, E], r = H/K
        scores = torch.bmm(q.flatten(0, 1), layer.keys).unflatten(0, (kv_heads, -1))
        if self.prompts:
            shared = torch.bmm(self._by_slot(q, now), layer.prompt_keys)
            scores = torch.cat([self._by_row(shared, now), scores], dim=-1)
        if softcap:
            scores, scale = torch.tanh_(scores.mul_(scale / softcap)), softcap
        torch.add(mask, scores, alpha=scale, out=scores)  # in place: a copy would have to be fetched
        weights = torch.softmax(scores, -1, out=scores).to(v.dtype)
        if self.prompts:
            columns = layer.prompt_values.shape[1]
            on_prompt, own = weights[..., :columns], weights[..., columns:].flatten(0, 1)  # own [K R, r, S]
            shared = torch.bmm(self._by_slot(on_prompt, now), layer.prompt_values)
            mixed = self._by_row(shared, now).flatten(0, 1).baddbmm_(own, layer.values)
        else:
            mixed = torch.bmm(weights.flatten(0, 1), layer.values)
        return mixed.unflatten(0, (kv_heads, -1)).transpose(0, 1).flatten(1, 2)

    def _by_slot(self, x: Tensor, now: StepTensors) -> Tensor:
        """[K, R, r, X] -> [G K, M r, X]: the rows of each slot side by side."""
        if self.one_slot:
            return x.flatten(1, 2)
        x = x.index_select(1, now.table.flatten()).unflatten(1, now.table.shape)  # [K, G, M, r, X]
        return x.transpose(0, 1).flatten(2, 3).flatten(0, 1)

    def _by_row(self, x: Tensor, now: StepTensors) -> Tensor:
        """[G K, M r, X] -> [K, R, r, X]: back to rows."""
        if self.one_slot:
            return x.unflatten(1, (self.rows, -1))
        x = x.unflatten(1, (now.table.shape[1], -1)).unflatten(0, (now.table.shape[0], -1))
        return x.transpose(0, 1).flatten(1, 2).index_select(1, now.place)


def _eighth_more(columns: int) -> int:
    """Room for so many own columns on a CPU: by so much it grows, and so much of it is computed in vain."""
    return 9 * columns // 8


def _room(like: Tensor, buffer: int, shape: tuple[int, int, int]) -> Tensor:
    """[..., columns] -> [..., columns, E], to be filled with zeros: a masked column must not hold NaN."""
    *outer, columns = shape
    width = like.shape[-1]
    if buffer:
        return like.new_empty(*outer, columns, width)
    return like.new_empty(*outer, width, columns).mT  # a prompt's keys

"""Tiles of token_logps that wait for the backward pass, mostly in memory that has to be there anyway.

The backward pass writes the weight's gradient [V, D] part by part: for some columns of the vocabulary at a
time, from the tiles of just these columns. Until then their part of the gradient is room for those tiles: the
numbers of D tokens, of 2 D where bfloat16 is computed from float32 weights. Tiles of further tokens get
memory of their own, up to a budget; what is beyond that is computed again.

The gradient's memory outlives the gradient: between steps the C library would put small things where it was,
and need as much again for the next one.

Letters: V vocabulary · D width · n rows (tokens) and c columns (ids) of a tile.
"""

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

MEMORY = WeakTensorKeyDictionary()  # weight -> memory that was made for its gradient


class KeptTiles:
    """The memory of a weight's gradient, and what else is kept of the forward pass."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, rows: int, width: int, budget_bytes: int) -> None:
        """weight [V, D]; `rows` tokens in all, whose numbers are kept in `dtype`; tiles of `width` columns.

        Outside the gradient nothing is kept when less than half would fit: it would save too little.
        """
        self.weight, self.dtype = weight, dtype
        self.gradient: Tensor | None = gradient_memory(weight)
        inside = weight.shape[1] * weight.itemsize // dtype.itemsize  # tokens whose numbers fit there
        outside = (rows - inside) * len(weight) * dtype.itemsize
        self.left = budget_bytes if outside <= 2 * budget_bytes else 0  # bytes
        self.tiles: dict[tuple[int, int], list[Tensor]] = {}
        # In one piece: small ones that stay among large ones that go would leave gaps everywhere.
        full = torch.promote_types(dtype, torch.float32)
        self.width, self.tops = width, weight.new_empty(-(-len(weight) // width), rows, 1, dtype=full)

    def keep(self, rows: slice, columns: slice, tile: Tensor, top: Tensor) -> Tensor:
        """tile [n, c] -> the same in `dtype`, kept where there is room. top [n, 1], small, is kept always."""
        place = rows.start, columns.start
        self.tops[columns.start // self.width, rows] = top
        room = self.gradient[columns].view(self.dtype).view(-1, tile.shape[1])[rows]
        if len(room) == len(tile):
            self.tiles[place] = [room.copy_(tile)]
            return room
        tile = tile.to(self.dtype)
        rest = tile[len(room) :]
        if rest.nbytes <= self.left:
            self.left -= rest.nbytes
            self.tiles[place] = [room.copy_(tile[: len(room)]), rest.clone()] if len(room) else [tile]
        return tile

    def take(self, rows: slice, columns: slice) -> tuple[Tensor | None, Tensor]:
        """The tile, and its top. None for one that was not kept or was taken: its memory is used again."""
        top = self.tops[columns.start // self.width, rows]
        pieces = self.tiles.pop((rows.start, columns.start), None)
        if pieces is None:
            return None, top
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)), top

    def take_gradient(self) -> Tensor:
        """Memory for the gradient, [V, D]. Write a part of it only when its columns' tiles are taken."""
        gradient, self.gradient = self.gradient, None
        return gradient_memory(self.weight) if gradient is None else gradient


def references(tensor: Tensor) -> int:
    """How many there are to the tensor's memory, this call's included; PyTorch's way of asking is private."""
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


CAN_ASK = hasattr(torch._C, "_storage_Use_Count")
ALONE = references(torch.empty(1)) if CAN_ASK else 0  # of a tensor that nothing shares memory with


def gradient_memory(weight: Tensor) -> Tensor:
    """Memory for a gradient [V, D]: that of an earlier one, if nobody has that any more."""
    if not CAN_ASK:
        return weight.new_empty(weight.shape)
    memory = MEMORY.get(weight)
    if memory is None or references(memory) > ALONE:
        memory = MEMORY[weight] = weight.new_empty(weight.shape)
    return memory.detach()  # the engine copies a gradient that others refer to, but not its memory

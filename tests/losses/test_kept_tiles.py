"""Tiles wait where their gradient will be, else within the budget. test_logprobs.py has what they are for."""

import pytest
import torch

from losses import kept_tiles
from losses.kept_tiles import MEMORY, KeptTiles, gradient_memory

V, D = 12, 4  # so four tokens' numbers fit the gradient in float32, eight in bfloat16
COLUMNS = [slice(0, 5), slice(5, 10), slice(10, 12)]
ROWS = [slice(0, 3), slice(3, 6), slice(6, 7)]


def fill(kept, rows=ROWS):
    """A tile and a top of its own for every place; returns copies of them, by place."""
    tiles = {}
    for r in rows:
        for c in COLUMNS:
            tile, top = torch.randn(r.stop - r.start, c.stop - c.start), torch.randn(r.stop - r.start, 1)
            got = kept.keep(r, c, tile.clone(), top)
            assert torch.equal(got, tile.to(kept.dtype))
            tiles[r.start, c.start] = got.clone(), top
    return tiles


def taken(kept):
    """What is left of every tile, by place; its columns' gradient is written next."""
    gradient, tiles = kept.take_gradient(), {}
    for c in COLUMNS:
        for r in ROWS:
            tile, top = kept.take(r, c)
            tiles[r.start, c.start] = None if tile is None else tile.clone(), top
        gradient[c] = torch.nan
    return tiles


@pytest.mark.parametrize("weight", [torch.randn(V, D), torch.randn(D, V).T], ids=["by row", "by column"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_last_until_the_gradient_of_their_columns_is_written(weight, dtype):
    kept = KeptTiles(weight, dtype, 7, 5, 2**20)
    want, got = fill(kept), taken(kept)
    assert len(got) == 9
    for place, (tile, top) in want.items():
        assert torch.equal(got[place][0], tile)
        assert torch.equal(got[place][1], top)


@pytest.mark.parametrize(
    ("budget", "outside"),
    [
        (144, [(3, 0), (3, 5), (3, 10), (6, 0), (6, 5), (6, 10)]),  # 40, 40, 16; 20, 20, 8 bytes
        (143, [(3, 0), (3, 5), (3, 10), (6, 0), (6, 5)]),
        (72, [(3, 0), (3, 10), (6, 10)]),
        (71, []),  # less than half: it would save too little
    ],
)
def test_what_does_not_fit_the_gradient_is_kept_within_the_budget(budget, outside):
    kept = KeptTiles(torch.randn(V, D), torch.float32, 7, 5, budget)
    want, got = fill(kept), taken(kept)
    assert [place for place, (tile, _) in got.items() if tile is None] == [
        (row, column) for column in (0, 5, 10) for row in (3, 6) if (row, column) not in outside
    ]
    for place in [(0, 0), (0, 5), (0, 10), *outside]:
        assert torch.equal(got[place][0], want[place][0])
    assert all(torch.equal(got[place][1], want[place][1]) for place in want)


def test_tiles_in_the_gradient_take_no_memory_of_their_own():
    kept = KeptTiles(torch.randn(V, D), torch.bfloat16, 7, 5, 0)
    fill(kept)
    start = kept.gradient.data_ptr()
    assert len(kept.tiles) == 9
    assert all(start <= t.data_ptr() < start + V * D * 4 for pieces in kept.tiles.values() for t in pieces)


def test_a_tile_is_taken_once_its_top_more_often():
    kept = KeptTiles(torch.randn(V, D), torch.float32, 7, 5, 2**20)
    want = fill(kept)
    for tile in (want[3, 5][0], None):
        got, top = kept.take(ROWS[1], COLUMNS[1])
        assert got is tile is None or torch.equal(got, tile)
        assert torch.equal(top, want[3, 5][1])


def test_the_gradient_is_handed_out_once_then_there_is_another():
    kept = KeptTiles(torch.randn(V, D), torch.float32, 7, 5, 0)
    first, second = kept.take_gradient(), kept.take_gradient()
    assert first.shape == second.shape == (V, D)
    assert first.data_ptr() != second.data_ptr()


def test_the_next_gradient_lies_where_the_last_one_was():
    weight = torch.nn.Parameter(torch.randn(V, D))
    place = gradient_memory(weight).data_ptr()
    assert gradient_memory(weight).data_ptr() == place
    weight.grad = gradient_memory(weight)
    assert weight.grad.data_ptr() == place
    weight.grad = None
    assert gradient_memory(weight).data_ptr() == place


@pytest.mark.parametrize(
    "hold", [lambda g: g, lambda g: g[2:, 1], lambda g: g.numpy(), lambda g: [g.detach()]]
)
def test_a_gradient_that_somebody_has_stays_as_it_is(hold):
    weight = torch.nn.Parameter(torch.randn(V, D))
    held = hold(gradient_memory(weight).fill_(1.0))
    for _ in range(3):
        gradient_memory(weight).fill_(2.0)
    assert (torch.as_tensor(held[0]) == 1).all()


def test_no_memory_outlives_its_weight(monkeypatch):
    before = len(MEMORY)
    weight = torch.randn(V, D)
    gradient_memory(weight)
    assert len(MEMORY) == before + 1
    del weight
    assert len(MEMORY) == before
    monkeypatch.setattr(kept_tiles, "CAN_ASK", False)  # a PyTorch that does not tell
    weight = torch.randn(V, D)
    first, second = gradient_memory(weight), gradient_memory(weight)
    assert first.data_ptr() != second.data_ptr()

"""model/kv_cache.py: which columns a row may look at. What attention gives is tested with generate."""

import pytest
import torch

from model.kv_cache import COLUMN_BLOCK, KVCache

LIKE = torch.zeros(1)


def started(cache: KVCache, prompts: list[int], written: list[int], aligned: bool) -> KVCache:
    """`cache` in a step of rows whose prompts and own tokens are so many."""
    cache.start_step(torch.tensor(prompts), torch.tensor(written), max(prompts), max(written) + 1, aligned)
    return cache


def with_rows(*slots: int) -> KVCache:
    cache = KVCache(len(slots))
    cache.assign(slots)
    return cache


def visible(prompts: list[int], written: list[int], window: int, P: int, S: int) -> torch.Tensor:
    """The definition, [R, P + S]: prompt columns, then own ones, of which the last `window` in all."""
    rows = []
    for prompt, own in zip(prompts, written, strict=True):
        first = prompt + own + 1 - window if window else 0
        seen = [first <= column < prompt for column in range(P)]
        rows.append(seen + [first <= prompt + column and column <= own for column in range(S)])
    return torch.tensor(rows)


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("aligned", [True, False])
def test_masks_hide_what_is_not_there_yet(window, aligned):
    """Over steps that go on from one another, past a buffer's end and to other rows."""
    cache, prompts = with_rows(0, 0, 0, 1), [7, 7, 7, 20]
    for step in range(40):
        if step == 30:
            prompts = [3, 20, 20, 20]  # other samples in the rows, which go on together
            cache.assign([2, 1, 1, 1])
        written = [step] * 4 if aligned else [step, max(step - 1, 0), 0, step]
        mask = started(cache, prompts, written, aligned).mask(window, LIKE)
        seen = visible(prompts, written, window, cache.P, cache.S)
        assert torch.equal(mask[:, 0], torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))), step


def test_a_step_that_goes_on_from_the_last_one_changes_one_column_of_its_mask():
    cache = with_rows(0, 0)
    masks = [started(cache, [4, 4], [step] * 2, True).mask(0, LIKE) for step in (0, 1)]
    assert masks[0] is masks[1]
    skipped = started(cache, [4, 4], [3, 3], True).mask(0, LIKE)
    assert skipped is not masks[1]
    assert (skipped[:, 0, cache.P :] == 0).sum(-1).tolist() == [4, 4]


def test_own_tokens_lie_without_gaps_and_stay_where_room_grows():
    """Room grows one block at a time, later by an eighth; younger rows do not compute over all of it."""
    cache, steps = with_rows(0, 0, 0), 400
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, steps, 3, 2, 8, generator=generator)  # [2, steps, R, K, E]
    for step in range(steps):
        started(cache, [0] * 3, [step] * 3, True)
        cache.attend(0, keys[step].repeat(1, 2, 1), keys[step], values[step], scale=1.0)
        now = cache.tensors(0)
        assert now.keys.mT.is_contiguous(), step
        assert now.values.is_contiguous(), step
        assert cache.S - step <= step / 8 + 2 * COLUMN_BLOCK
    for kept, given in ((now.own_k, keys), (now.own_v, values)):
        assert torch.equal(kept[:, :, :steps], given.permute(2, 1, 0, 3))
        assert not kept[:, :, steps:].any()
    assert cache.moved < 20
    assert started(cache, [0] * 3, [5] * 3, True).S == COLUMN_BLOCK


def test_what_other_devices_have_room_for_doubles():
    """A step is not recorded anew for every block there (model/cuda_graphs.py)."""
    cache = KVCache(2, "meta")
    for own in range(1, 400):
        cache.reserve(own=own)
    assert cache.own_columns == 512
    assert cache.moved == 6

"""model/kv_cache.py: which columns a row may look at. What attention gives is tested with generate."""

import pytest
import torch

from model.kv_cache import KVCache

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

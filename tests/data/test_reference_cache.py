"""Hits, misses and damage of the reference cache."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from data import reference_cache
from data.reference_cache import ReferenceCache, disagreement, fill
from data.types import PreferencePair

IDENTITY = {"weights": "w", "config": {"layers": 2}, "dtype": "fp32", "device": "cpu"}


def make_pairs(count: int = 10) -> list[PreferencePair]:
    return [PreferencePair(f"t{i}", "", "", "", [i, 1], [2, i, 3], [4, i]) for i in range(count)]


class Scorer:
    """Log-probs that are a function of the ids, and a count of the pairs scored."""

    def __init__(self) -> None:
        self.scored = 0

    def __call__(self, pairs):
        self.scored += len(pairs)
        return [
            tuple(-np.cumsum(np.float32(ids)) - sum(p.prompt_ids) for ids in (p.chosen_ids, p.rejected_ids))
            for p in pairs
        ]


def test_a_second_run_finds_everything_whatever_the_order(tmp_path):
    pairs, scorer = make_pairs(), Scorer()
    cache = ReferenceCache(tmp_path, **IDENTITY)
    assert cache.lacking(pairs) == [*range(10)]
    fill(cache, pairs, scorer, budget=20)
    again = ReferenceCache(tmp_path, **IDENTITY)
    assert again.lacking(pairs[::-1]) == []
    for p, expected in zip(pairs, Scorer()(pairs), strict=True):
        for cached, fresh in zip(again.of(p), expected, strict=True):
            np.testing.assert_array_equal(cached, fresh)
    assert disagreement(again, pairs, scorer) == 0


def test_only_new_pairs_are_lacking(tmp_path):
    fill(ReferenceCache(tmp_path, **IDENTITY), make_pairs(6), Scorer(), budget=20)
    assert ReferenceCache(tmp_path, **IDENTITY).lacking(make_pairs(10)) == [6, 7, 8, 9]


@pytest.mark.parametrize(
    "change",
    [{"weights": "v"}, {"config": {"layers": 3}}, {"dtype": "bf16"}, {"device": "cuda"}, {"attention": "x"}],
)
def test_whatever_changes_the_numbers_misses(tmp_path, change):
    fill(ReferenceCache(tmp_path, **IDENTITY), make_pairs(), Scorer(), budget=20)
    other = ReferenceCache(tmp_path, **IDENTITY | change)
    assert not any(other.has(p) for p in make_pairs())


def test_scorer_version_is_part_of_the_key(tmp_path, monkeypatch):
    first = ReferenceCache(tmp_path, **IDENTITY).folder
    monkeypatch.setattr("data.reference_cache.SCORER_VERSION", 99)
    assert ReferenceCache(tmp_path, **IDENTITY).folder != first


def test_changed_tokens_or_truncation_miss(tmp_path):
    cache = ReferenceCache(tmp_path, **IDENTITY)
    fill(cache, make_pairs(1), Scorer(), budget=20)
    for prompt, chosen, rejected in [
        ([0, 2], [2, 0, 3], [4, 0]),
        ([0, 1], [2, 0], [4, 0]),
        ([0, 1], [2, 0, 3], [4]),
        ([0], [1, 2, 0, 3], [4, 0]),
    ]:
        assert not cache.has(PreferencePair("t0", "", "", "", prompt, chosen, rejected))


def test_an_interrupted_pass_keeps_what_it_finished(tmp_path):
    def fails_later(pairs):
        if pairs[0].task_id == "t6":
            raise KeyboardInterrupt
        return Scorer()(pairs)

    with pytest.raises(KeyboardInterrupt):
        fill(ReferenceCache(tmp_path, **IDENTITY), make_pairs(), fails_later, budget=7, per_shard=4)
    assert ReferenceCache(tmp_path, **IDENTITY).lacking(make_pairs()) == [6, 7, 8, 9]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_shard_that_was_cut_off_as_it_was_written_is_none(tmp_path, monkeypatch):
    def cut_off(tensors, path):
        save_file(tensors, path)
        path.write_bytes(path.read_bytes()[:-5])
        raise KeyboardInterrupt

    monkeypatch.setattr(reference_cache, "save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        fill(ReferenceCache(tmp_path, **IDENTITY), make_pairs(), Scorer(), budget=20)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.safetensors"))
    assert ReferenceCache(tmp_path, **IDENTITY).lacking(make_pairs()) == [*range(10)]


def test_several_processes_score_a_part_each_and_then_read_what_the_others_wrote(tmp_path):
    """With seven batches of a pair the second of two processes gets an empty one."""
    pairs = make_pairs(7)
    caches, scorers = [ReferenceCache(tmp_path, **IDENTITY) for _ in range(2)], [Scorer(), Scorer()]
    for rank, (cache, scorer) in enumerate(zip(caches, scorers, strict=True)):

        def share(groups, rank=rank):
            return [*groups][rank::2] + [[]] * rank

        fill(cache, pairs, scorer, budget=1, share=share)
    assert [scorer.scored for scorer in scorers] == [4, 3]
    for cache in caches:
        cache.read()
        assert disagreement(cache, pairs, Scorer()) == 0


def test_disagreement_is_the_largest_difference_of_a_token(tmp_path):
    cache = ReferenceCache(tmp_path, **IDENTITY)
    pairs = make_pairs(2)
    fill(cache, pairs, Scorer(), budget=20)

    def drifted(pairs):
        return [(chosen + np.float32([0, 0.5, 0]), rejected) for chosen, rejected in Scorer()(pairs)]

    assert disagreement(cache, pairs, drifted) == pytest.approx(0.5)


def test_non_finite_numbers_are_refused(tmp_path):
    cache = ReferenceCache(tmp_path, **IDENTITY)
    with pytest.raises(ValueError, match="non-finite log-probs to 1 completions"):
        cache.add({b"0" * 16: np.float32([np.nan])})
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_damaged_shard_is_named(tmp_path):
    cache = ReferenceCache(tmp_path, **IDENTITY)
    fill(cache, make_pairs(), Scorer(), budget=20)
    (shard,) = cache.folder.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match=rf"{shard.name} cannot be read .* delete it"):
        ReferenceCache(tmp_path, **IDENTITY)

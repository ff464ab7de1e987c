"""Columns find their pairs, whatever the order, partner or side."""

import numpy as np
import pytest

from data.columns import read_columns, write_columns
from data.types import PreferencePair


def make_pairs(count: int) -> list[PreferencePair]:
    return [PreferencePair(f"t{i}", "", "", "", [i, 1], [2, i, 3], [4, i]) for i in range(count)]


def columns(pairs: list[PreferencePair]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.arange(len(p.chosen_ids)), -np.arange(len(p.rejected_ids))) for p in pairs]


def test_columns_from_a_file_cover_every_pair_or_say_how_many_lack(tmp_path):
    pairs, path = make_pairs(3), tmp_path / "new" / "weights.safetensors"
    write_columns(path, pairs, columns(pairs))
    for found, expected in zip(read_columns(path, pairs[::-1]), columns(pairs)[::-1], strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    with pytest.raises(ValueError, match="lacks 1 of these 4 pairs"):
        read_columns(path, make_pairs(4))


def test_a_column_belongs_to_a_pair_and_a_side(tmp_path):
    """A completion beside another partner, or on the other side, has its own numbers."""
    first = PreferencePair("t", "", "", "", [1], [2, 3], [4, 5])
    partner = PreferencePair("t", "", "", "", [1], [2, 3], [6, 7])
    swapped = PreferencePair("t", "", "", "", [1], [4, 5], [2, 3])
    numbers = [tuple(np.float32([4 * i + 2 * side, 1]) for side in (0, 1)) for i in range(3)]
    write_columns(tmp_path / "c.safetensors", [first, partner, swapped], numbers)
    for pair, expected in zip([first, partner, swapped], numbers, strict=True):
        found = read_columns(tmp_path / "c.safetensors", [pair])[0]
        np.testing.assert_array_equal(found, expected)


def test_a_column_has_one_number_per_token(tmp_path):
    pair = make_pairs(1)[0]
    with pytest.raises(ValueError, match=r"\[2, 2\] numbers for t0, whose completions have \[3, 2\] tokens"):
        write_columns(tmp_path / "c.safetensors", [pair], [(np.ones(2), np.ones(2))])
    assert not (tmp_path / "c.safetensors").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors does not exist"):
        read_columns(tmp_path / "none.safetensors", make_pairs(1))

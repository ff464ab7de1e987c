"""Parts of a file side by side in memory: the same bytes, private, and only where pages fit."""

import mmap
import os
import sys
from pathlib import Path

import pytest

from model.joined_pages import join_pages

PAGE = mmap.PAGESIZE
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere parts are copied")


@pytest.fixture
def file(tmp_path) -> tuple[Path, bytes]:
    content = os.urandom(20 * PAGE)
    (tmp_path / "weights").write_bytes(content)
    return tmp_path / "weights", content


@pytest.mark.parametrize("start", [0, 8, 1000, PAGE - 8])
@pytest.mark.parametrize(
    "parts",
    [
        [(0, 2 * PAGE), (5 * PAGE, PAGE), (9 * PAGE, 3 * PAGE)],
        [(9 * PAGE, 3 * PAGE), (5 * PAGE, 2 * PAGE), (PAGE, PAGE)],  # backwards, as q, k, v lie in a file
        [(0, 100), (4 * PAGE + 100, 3 * PAGE - 100), (12 * PAGE, 17)],  # ends inside pages
        [(3 * PAGE, 50), (6 * PAGE + 50, 60)],  # no whole page at all
        [(0, 6 * PAGE)],
    ],
)
def test_parts_are_joined_byte_for_byte(file, start, parts):
    path, content = file
    parts = [(offset + start, size) for offset, size in parts]
    memory, begin = join_pages(path, parts)
    expected = b"".join(content[offset : offset + size] for offset, size in parts)
    assert memory[begin : begin + len(expected)] == expected


def test_writing_to_memory_leaves_the_file_alone(file):
    path, content = file
    memory, begin = join_pages(path, [(8, 2 * PAGE), (5 * PAGE + 8, 2 * PAGE)])
    memory[begin : begin + 4 * PAGE] = bytes(4 * PAGE)
    assert path.read_bytes() == content
    assert memory[begin : begin + 4 * PAGE] == bytes(4 * PAGE)


def test_parts_at_a_distance_that_is_no_whole_page_are_left_to_others(file):
    assert join_pages(file[0], [(8, 2 * PAGE), (5 * PAGE + 16, PAGE)]) is None


def test_a_file_that_has_become_shorter_is_an_error(file):
    with pytest.raises(ValueError, match="ended while it was read"):
        join_pages(file[0], [(18 * PAGE, PAGE), (21 * PAGE, 50)])

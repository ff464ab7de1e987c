"""Fewer pages and mappings, for a process that forks a child for every program.

What a fork and the end of its child cost goes by the number of pages and mappings that have to be copied and
dropped. A large page (2 MiB) counts as one; a page of it that a child writes is copied alone, as ever.
"""

import contextlib
import ctypes
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from data.sandbox import kernel

LARGE = 2 << 20
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25  # <linux/mman.h>; the latter since Linux 6.1
READ_EXECUTE, READ_WRITE = 5, 3
PRIVATE_ANONYMOUS = 0x22
MOVE_THERE = 3  # MREMAP_MAYMOVE, MREMAP_FIXED


class Mapping(NamedTuple):
    start: int
    end: int
    rights: str
    origin: int  # where the file's beginning would be
    name: str


def mappings() -> list[Mapping]:
    """All of this process, in order."""
    found = []
    with contextlib.suppress(OSError), open("/proc/self/maps") as file:
        for line in file:
            addresses, rights, offset, _, _, *name = line.split(None, 5)
            start, end = (int(address, 16) for address in addresses.split("-"))
            found.append(
                Mapping(start, end, rights, start - int(offset, 16), name[0].strip() if name else "")
            )
    return found


def enlarge_code() -> None:
    """Replace the interpreter's code by a copy on large pages: nobody then faults it in page by page, and the
    processor finds it faster. Constants around the code become executable with it."""
    for start, end in code_spans():
        for first in large_pages_in(start, end):
            move_to_large_page(first)


def merge_code() -> None:
    """One mapping for each library's code and constants instead of three."""
    for start, end in code_spans():
        kernel.libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), READ_EXECUTE)


def enlarge_memory() -> None:
    """Move this process's own memory to large pages where there is room for one."""
    for one in mappings():
        if one.rights == "rw-p" and one.name in ("", "[heap]"):
            for first in large_pages_in(one.start, one.end):
                kernel.libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(LARGE), MADV_COLLAPSE)


def large_pages_in(start: int, end: int) -> Iterator[int]:
    yield from range(-(-start // LARGE) * LARGE, end - LARGE + 1, LARGE)


def code_spans() -> list[tuple[int, int]]:
    """(start, end) of each library's code together with the constants before and after it."""
    found = []
    for _, group in itertools.groupby(mappings(), lambda one: (one.origin, one.name)):
        parts = [one for one in group if one.rights in ("r--p", "r-xp")]
        if any(one.rights == "r-xp" for one in parts) and parts[0].name.startswith("/"):
            found.append((parts[0].start, parts[-1].end))
    return found


def move_to_large_page(start: int) -> None:
    """Put a copy of the `LARGE` bytes at `start` in their place, in one step, for this code may be among
    them. Nothing happens where the kernel has no large page: small ones would be worse than the file's."""
    libc = kernel.libc
    libc.mmap.restype = libc.mremap.restype = ctypes.c_ssize_t
    size = ctypes.c_size_t(LARGE)
    room = libc.mmap(None, ctypes.c_size_t(2 * LARGE), READ_WRITE, PRIVATE_ANONYMOUS, -1, ctypes.c_long(0))
    if room == -1:
        return
    copy = -(-room // LARGE) * LARGE
    libc.madvise(ctypes.c_void_p(copy), size, MADV_HUGEPAGE)
    ctypes.memmove(copy, start, LARGE)
    spare = [(room, room + 2 * LARGE)]
    is_large = libc.madvise(ctypes.c_void_p(copy), size, MADV_COLLAPSE) == 0
    if is_large and libc.mprotect(ctypes.c_void_p(copy), size, READ_EXECUTE) == 0:  # some systems forbid it
        there = libc.mremap(ctypes.c_void_p(copy), size, size, MOVE_THERE, ctypes.c_void_p(start))
        spare = [(room, copy), (copy + LARGE, room + 2 * LARGE)] if there == start else spare
    for first, last in spare:
        if first < last:
            libc.munmap(ctypes.c_void_p(first), ctypes.c_size_t(last - first))

"""Parts of a file that lie apart, one after another in memory, without copying them.

A matrix of ours wants q, k and v side by side; in published files other tensors lie between them. But a page
of a file can be mapped at any page of memory, so the parts' pages are mapped where they belong, and only
those on which two parts meet are copied. As in every private mapping a page is read when it is touched, and
writing to it changes memory, never the file.

This asks for Linux, and for parts whose distances are whole pages: matrices of published models have sizes
of whole pages, so theirs are.
"""

import ctypes
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

MAP_FIXED = 0x10  # put it exactly there; Python's mmap module cannot be told where


def join_pages(path: Path, parts: Sequence[tuple[int, int]]) -> tuple[mmap.mmap, int] | None:
    """(offset, size) of parts -> memory, and where in it they begin; None where pages do not fit."""
    begin = place = parts[0][0] % mmap.PAGESIZE
    places = []
    for offset, size in parts:
        if (place - offset) % mmap.PAGESIZE:
            return None
        places.append(place)
        place += size
    if sys.platform != "linux":
        return None
    memory = mmap.mmap(-1, place, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    file = os.open(path, os.O_RDONLY)
    try:
        for (offset, size), place in zip(parts, places, strict=True):
            _place(memory, file, offset, size, place)
    finally:
        os.close(file)
    return memory, begin


def _place(memory: mmap.mmap, file: int, offset: int, size: int, place: int) -> None:
    """Whole pages are mapped; what is left at either end is read."""
    end = place + size
    first, last = -(-place // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        _map(memory, first, last - first, file, offset + first - place)
        edges = [(place, first), (last, end)]
    else:
        edges = [(place, end)]
    for a, b in edges:
        if a < b and os.preadv(file, [memoryview(memory)[a:b]], offset + a - place) != b - a:
            raise ValueError("a file of weights ended while it was read; is something else writing it?")


@cache
def _mmap() -> Callable[..., int | None]:
    call = ctypes.CDLL(None, use_errno=True).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    return call


def _map(memory: mmap.mmap, place: int, size: int, file: int, offset: int) -> None:
    """Replace [place, place + size) of `memory` by the file's pages from `offset` on."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + place
    flags = mmap.MAP_PRIVATE | MAP_FIXED
    if _mmap()(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, file, offset) != address:
        raise OSError(ctypes.get_errno(), f"cannot map {size} bytes: {os.strerror(ctypes.get_errno())}")

"""Tensors on a CPU: freed memory is kept and used again, in large pages.

glibc maps fresh pages for every large tensor and gives them back when it is freed, so a training step spends
a quarter of its time in the kernel, which clears the same pages again and again, 4 KiB at a time. It also
keeps small freed pieces apart, to join them whenever a large tensor comes or goes. docs/benchmarks.md has
what both cost.
"""

import ctypes
import mmap
import os

M_MXFAST, M_TRIM_THRESHOLD, M_MMAP_MAX = 1, -1, -4  # parameters of mallopt (malloc.h)


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed; whether it does (glibc alone can be asked).

    PyTorch reads the variable for large pages when it first allocates, so call this before making a tensor.
    One that the user has set stays as it is.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_MXFAST, 0)])


def reserve_large_pages(size: int) -> None:
    """Let the next `size` bytes of tensors lie in large pages, where the kernel has them.

    PyTorch asks for them for tensors of 2 MiB and more; this is for smaller ones that are made together and
    read again and again. Without `keep_freed_memory` what is reserved goes back to the kernel at once.
    """
    try:
        libc = ctypes.CDLL(None)
        allocate, release, advise, large = libc.malloc, libc.free, libc.madvise, mmap.MADV_HUGEPAGE
    except (AttributeError, OSError, TypeError):
        return
    allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
    release.argtypes = [ctypes.c_void_p]
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    place = allocate(size)
    if place:
        page = mmap.PAGESIZE
        start, end = -(-place // page) * page, (place + size) // page * page
        if start < end:
            advise(start, end - start, large)
        release(place)

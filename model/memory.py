"""Large tensors on a CPU: freed memory is kept and used again, in large pages.

glibc maps fresh pages for every large tensor and gives them back when it is freed, so a training step spends
a quarter of its time in the kernel, which clears the same pages again and again, 4 KiB at a time. It also
keeps small freed pieces apart, to join them whenever a large tensor comes or goes. docs/benchmarks.md has
what both cost.
"""

import ctypes
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

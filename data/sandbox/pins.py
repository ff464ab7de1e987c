"""Memory that is copied when a process forks, not when somebody writes it.

After a fork the first write to a page costs parent and child a page fault each, three times what copying it
takes. A pinned page, which a device might write at any time, the kernel copies at the fork. What pins pages
without privilege is to register them as buffers of an io_uring; it is used for nothing else. Where there is
none (containers often forbid it), or no more memory may be locked (the usual 8 MiB of a user are enough for
six workers), programs are judged as well, and slower.
"""

import ctypes
import os
import struct

from data.sandbox import kernel
from data.sandbox.pages import mappings

SYS_IO_URING_SETUP, SYS_IO_URING_REGISTER = 425, 427
REGISTER_BUFFERS = 0
PARAMETERS_BYTES = 120
PAGE = os.sysconf("SC_PAGE_SIZE")
ENTRY = struct.Struct("<Q")  # of /proc/PID/pagemap, one for each page
ALONE = 1 << 56  # no other process has this page


class Snapshot:
    """The pages of writable memory that a process has for itself alone: it has written them since the fork.

    Made beforehand, with room for what is read, because taking it must write little memory.
    """

    def __init__(self) -> None:
        self.ranges = [(one.start, one.end) for one in mappings() if one.rights == "rw-p"]
        self.entries = [bytearray((end - start) // PAGE * ENTRY.size) for start, end in self.ranges]

    def take(self, pid: int | str) -> None:
        """Look at this process ("self") or a fork of it."""
        file = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
        for (start, _), entries in zip(self.ranges, self.entries, strict=True):
            os.preadv(file, [entries], start // PAGE * ENTRY.size)
        os.close(file)

    def pages(self) -> set[int]:
        """Their addresses."""
        return {
            start + index * PAGE
            for (start, _), entries in zip(self.ranges, self.entries, strict=True)
            for index, (entry,) in enumerate(ENTRY.iter_unpack(entries))
            if entry & ALONE
        }


def separate(pages: set[int]) -> None:
    """Take these pages out of large ones, which are pinned as a whole or not at all: what a child shares is
    copied when this process writes it, page by page."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    for address in pages:
        ctypes.memmove(address, address, 1)
    os.close(write_end)
    os.close(read_end)
    os.waitpid(pid, 0)


def pin(pages: set[int]) -> bool:
    """Have these pages of this process copied at each fork. Whether that is possible."""
    separate(pages)
    parameters = (ctypes.c_char * PARAMETERS_BYTES)()
    vectors = (ctypes.c_uint64 * (2 * len(pages)))()  # (address, length) each
    for index, address in enumerate(sorted(pages)):
        vectors[2 * index], vectors[2 * index + 1] = address, PAGE
    try:
        ring = kernel.syscall(SYS_IO_URING_SETUP, 1, ctypes.byref(parameters))
    except OSError:
        return False
    try:
        kernel.syscall(SYS_IO_URING_REGISTER, ring, REGISTER_BUFFERS, ctypes.byref(vectors), len(pages))
    except OSError:
        os.close(ring)
        return False
    return True

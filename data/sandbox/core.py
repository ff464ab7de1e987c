"""Judge and program take turns, so they share a core: a message that wakes another one costs more than it
says.

Each program's core is the one on which the scheduler woke the judge for it, and the nursery forks the next
process there, where its memory is at hand. A program that runs longer gives the core up: then all go
wherever there is room.
"""

import contextlib
import os

from data.sandbox import kernel

NONE = 255


class Core:
    """The cores this process may use, and the one it shares now."""

    def __init__(self) -> None:
        self.cores = os.sched_getaffinity(0) if kernel.LINUX else set()
        self.number, self.pid = NONE, 0

    def share(self, pid: int) -> None:
        """Stay here, together with process `pid`."""
        number = kernel.libc.sched_getcpu() if len(self.cores) > 1 else NONE
        if number in self.cores and number < NONE:
            self.number, self.pid = number, pid
            self.set_both({number})

    def leave(self) -> None:
        """Let both go."""
        if self.number != NONE:
            self.set_both(self.cores)
            self.number = NONE

    def set_both(self, cores: set[int]) -> None:
        for one in (0, self.pid):
            with contextlib.suppress(OSError):  # the program may have ended
                os.sched_setaffinity(one, cores)

    def follow(self, number: int) -> None:
        """In the nursery: go where the judge is."""
        if number != self.number and self.cores:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self.cores if number == NONE else {number})
            self.number = number

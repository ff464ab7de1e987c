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
        self.told = NONE  # where the nursery has forked the next program's process

    def share(self, pid: int) -> None:
        """Stay here, together with the program's process."""
        number = kernel.libc.sched_getcpu() if len(self.cores) > 1 else NONE
        if number in self.cores and number < NONE:
            self.number, self.pid = number, pid
            move(0, {number})
            if number != self.told:
                move(pid, {number})

    def give_up(self) -> None:
        """Let both go, the program too."""
        if self.number != NONE:
            move(self.pid, self.cores)
            self.leave()

    def leave(self) -> int:
        """The program is over. Gives the number of the core, for the nursery."""
        self.told = self.number
        if self.number != NONE:
            move(0, self.cores)
            self.number = NONE
        return self.told

    def follow(self, number: int) -> None:
        """In the nursery: go where the judge has been."""
        if number != self.number and self.cores:
            move(0, self.cores if number == NONE else {number})
            self.number = number


def move(pid: int, cores: set[int]) -> None:
    with contextlib.suppress(OSError):  # it may have ended
        os.sched_setaffinity(pid, cores)

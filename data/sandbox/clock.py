"""How long a program has run: its CPU time, and how long it sat still. The judge asks; nothing runs in the
program.

A limit on the wall clock would punish programs for a busy machine. CPU time does not count the wait for a
core. A program that sleeps uses no CPU time, so time in which none of its threads could run counts as well.
"""

import contextlib
import os
import time

from data.sandbox.core import Core

WALL_FACTOR, WALL_EXTRA = 3.0, 1.0
HARD_FACTOR, HARD_EXTRA = 10.0, 10.0
LONGEST_WAIT = 0.05
LONG = 0.1  # seconds after which a program gives up its core and gives way to others
SLEEPING = frozenset("SDTtZX")
OPEN, LISTDIR = open, os.listdir  # as they are now: a test may replace them while it waits for its program


class RunQueue:
    """How long this process was ready to run but had no core. To be opened while it sees /proc."""

    def __init__(self) -> None:
        try:
            self.file = os.open("/proc/self/schedstat", os.O_RDONLY)
        except OSError:
            self.file = None

    def seconds(self) -> float:
        if self.file is None:
            return 0.0
        return int(os.pread(self.file, 100, 0).split()[1]) / 1e9


class Clock:
    """Time of one process since its start; `expired` says which limit is over."""

    def __init__(
        self, pid: int, seconds: float, proc: str, demote: bool, queue: RunQueue, core: Core
    ) -> None:
        self.pid, self.seconds = pid, seconds
        self.cpu_clock = (~pid << 3) | 2  # Linux: the CPU-time clock of another process
        self.proc = proc  # where the kernel shows this process
        self.queue, self.queued_before = queue, queue.seconds()
        self.before = 0.0  # CPU time used before the program came
        self.idle = 0.0
        self.waited = 0.0  # on the wall clock, in all waits that are over
        self.base = 0.0  # CPU and idle time before the limit of the current call
        self.call_limit = 0.0
        self.wait_began = self.sampled = time.monotonic()
        self.sampled_cpu = 0.0
        self.core = core
        self.demote = demote
        self.wait = 0.002

    def start(self, before: float) -> None:
        """The program begins; its process has used `before` seconds until then."""
        self.before = before
        self.idle = self.waited = 0.0
        self.begin_call()

    def cpu(self) -> float:
        try:
            return time.clock_gettime(self.cpu_clock) - self.before
        except OSError:
            return self.sampled_cpu

    def begin_call(self) -> str:
        """The judge asks and then waits: only from here on can the program be idle. Gives the limit that is
        over, if one is: many short calls add up."""
        self.wait_began = self.sampled = time.monotonic()
        self.sampled_cpu = self.cpu()
        self.base = self.sampled_cpu + self.idle
        self.wait = 0.002
        over = self.base >= self.seconds or self.waited > WALL_FACTOR * self.seconds + WALL_EXTRA
        return self.expired() if over else ""

    def end_wait(self) -> None:
        """A message has come; until the next call the time is the judge's."""
        self.waited += time.monotonic() - self.wait_began

    def next_wait(self) -> float:
        """Seconds until the next look: short at first, never longer than what is left could last."""
        self.wait = min(self.wait * 2, LONGEST_WAIT)
        left = self.seconds - self.sampled_cpu - self.idle
        return max(0.001, min(self.wait, left + 0.001))

    def limit_call(self, seconds: float) -> None:
        """A limit for the next calls, each counted from its own start; 0 lifts it."""
        self.call_limit = seconds

    def expired(self) -> str:
        """The limit that is over, or an empty string."""
        now, cpu = time.monotonic(), self.cpu()
        passed, used = now - self.sampled, cpu - self.sampled_cpu
        if used < 0.1 * passed and self.is_asleep():
            self.idle += passed - used
        self.sampled, self.sampled_cpu = now, cpu
        if cpu + self.idle >= self.seconds:
            return self.reason(cpu, self.seconds)
        if self.call_limit and cpu + self.idle - self.base >= self.call_limit:
            return self.reason(cpu, self.call_limit) + " in one call"
        wall = self.waited + now - self.wait_began
        if wall > WALL_FACTOR * self.seconds + WALL_EXTRA and (
            wall - self.starved() > WALL_FACTOR * self.seconds + WALL_EXTRA
            or wall > HARD_FACTOR * self.seconds + HARD_EXTRA
        ):
            return f"{wall:.1f} s on the wall clock"
        if max(cpu, wall) > LONG:
            self.core.give_up()
        if self.demote and cpu > LONG:
            self.demote = False
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.pid, 10)
        return ""

    def reason(self, cpu: float, limit: float) -> str:
        return f"{cpu:.2f} s of CPU time and {self.idle:.2f} s idle, limit {limit:g} s"

    def is_asleep(self) -> bool:
        """No thread of the process is running or ready to run."""
        try:
            for thread in LISTDIR(f"{self.proc}/task"):
                with OPEN(f"{self.proc}/task/{thread}/stat", "rb") as file:
                    text = file.read()
                if text[text.rindex(b")") + 2 :][:1].decode() not in SLEEPING:
                    return False
            return True
        except OSError:
            return True  # no view of the process: time without CPU use counts as idle

    def starved(self) -> float:
        """Seconds that the program's main thread, or the judge waiting for it, was ready but had no core."""
        own = self.queue.seconds() - self.queued_before
        try:
            with OPEN(f"{self.proc}/schedstat") as file:
                return own + int(file.read().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return own

"""What counts as time: CPU time and idling, not the wait for a core."""

import os
import time

import pytest

from data.sandbox import kernel
from data.sandbox.clock import Clock, RunQueue
from data.sandbox.core import Core

pytestmark = pytest.mark.skipif(not kernel.LINUX, reason="clocks of other processes are Linux's")


class Queue:
    """Time without a core, as a test wants it."""

    def __init__(self) -> None:
        self.time = 5.0

    def seconds(self) -> float:
        return self.time


def new_clock(queue: Queue) -> Clock:
    """A limit of 3 s, so 10 s on the wall clock, for this very process."""
    clock = Clock(os.getpid(), 3.0, "/proc/no-such-process", False, queue, Core())
    clock.start(time.process_time())
    return clock


def test_the_wall_clock_counts_only_waits():
    clock = new_clock(Queue())
    clock.end_wait()
    time.sleep(0.05)  # the judge's own time
    waited = clock.waited
    assert clock.begin_call() == ""
    assert clock.waited == waited < 0.05


def test_a_judge_without_a_core_is_not_the_programs_fault():
    queue = Queue()
    clock = new_clock(queue)
    clock.waited = 20.0
    assert "wall clock" in clock.expired()
    queue.time += 15.0
    assert clock.expired() == ""
    clock.waited = 60.0  # but not for ever
    assert "wall clock" in clock.expired()


def test_many_short_calls_add_up():
    clock = new_clock(Queue())
    assert clock.begin_call() == ""
    clock.idle = 3.0
    assert "3.00 s idle" in clock.begin_call()


def test_the_run_queue_is_read_again_each_time():
    queue = RunQueue()
    first = queue.seconds()
    assert 0 <= first <= queue.seconds()

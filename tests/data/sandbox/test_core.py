"""Who runs on which core, and when a program gives its own up."""

import os
import subprocess
import sys
import time

import pytest

from data.sandbox import kernel
from data.sandbox.clock import LONG, Clock
from data.sandbox.core import NONE, Core

pytestmark = [
    pytest.mark.skipif(not kernel.LINUX, reason="only Linux lets a process choose its core"),
    pytest.mark.skipif(
        kernel.LINUX and len(os.sched_getaffinity(0)) < 2, reason="there is nothing to choose on one core"
    ),
]


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def core():
    every = os.sched_getaffinity(0)
    yield Core()
    os.sched_setaffinity(0, every)


def test_judge_and_program_share_one_core_until_they_leave_it(core, sleeper):
    every = os.sched_getaffinity(0)
    core.share(sleeper)
    assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0) == {core.number}
    core.give_up()
    assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0) == every
    assert core.number == NONE


def test_a_judge_that_is_done_may_go_anywhere_and_says_where_it_was(core, sleeper):
    every = os.sched_getaffinity(0)
    core.share(sleeper)
    number = core.number
    assert core.leave() == number
    assert os.sched_getaffinity(0) == every
    assert core.leave() == NONE  # it gave the core up before the end


def test_the_nursery_follows_to_a_core_and_away_from_it(core):
    every = os.sched_getaffinity(0)
    core.follow(max(every))
    assert os.sched_getaffinity(0) == {max(every)}
    core.follow(NONE)
    assert os.sched_getaffinity(0) == every


def test_a_program_that_has_ended_does_not_matter(core):
    every = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    core.share(process.pid)
    core.give_up()
    assert os.sched_getaffinity(0) == every


def test_only_a_long_program_gives_up_its_core(core, sleeper):
    clock = Clock(sleeper, 3.0, "/proc/no-such-process", False, NoQueue(), core)
    core.share(sleeper)
    clock.start(0.0)
    assert clock.expired() == ""
    assert core.number != NONE
    time.sleep(1.1 * LONG)
    assert clock.expired() == ""
    assert core.number == NONE
    assert len(os.sched_getaffinity(sleeper)) > 1


class NoQueue:
    def seconds(self) -> float:
        return 0.0

"""Tests that their own reference fails, or that a blind program passes, teach nothing."""

import pytest

from data.execution import SandboxConfig, judge
from data.problem_check import BLIND, blind_program, faulty_problems
from data.types import Problem

CONFIG = SandboxConfig(workers=1)


def problem(test: str, solution: str = "    return x + 1\n", task_id: str = "own/1") -> Problem:
    return Problem(task_id, "def f(x):\n", f"def check(candidate):\n    {test}\n", "f", solution)


def faults(*problems: Problem) -> dict[str, str]:
    return faulty_problems(list(problems), lambda jobs: judge(jobs, CONFIG), {}, 1.0)


def test_sound_tests_have_no_fault():
    assert faults(problem("assert candidate(1) == 2 and candidate(2) == 3")) == {}


@pytest.mark.parametrize(
    "test",
    [
        "assert candidate(-1) == 0",
        "assert candidate(1) != 1",
        "assert not candidate(-1)",
        "assert isinstance(candidate(1), int)",
        "candidate(1)",
        "assert candidate(1) in (1, 2)",
    ],
)
def test_tests_that_pass_a_blind_program_are_weak(test):
    assert faults(problem(test)) == {"own/1": "a program blind to its input passes"}


@pytest.mark.parametrize(
    "solution", ["    return x\n", "    return 1 / 0\n", "    return (\n", "    while x: pass\n"]
)
def test_a_reference_that_fails_its_tests_is_a_fault(solution):
    sound = problem("assert candidate(1) == 2", task_id="own/2")
    broken = problem("assert candidate(5) == 6", solution)
    assert faults(sound, broken) == {"own/1": "the reference solution fails"}


def test_without_a_reference_only_the_tests_are_judged():
    assert faults(problem("assert candidate(5) == 6", "")) == {}
    assert faults(problem("assert candidate(0) == 0", "")) == {"own/1": "a program blind to its input passes"}


def test_blind_programs_take_any_arguments():
    for value in BLIND:
        namespace: dict = {}
        exec(blind_program("f", value), namespace)
        namespace["f"]()
        assert namespace["f"](7, 8, key=9) in (None, True, False, 0, 1, "", [], 7)

"""Tests that their own reference fails, or that a blind program passes, teach nothing."""

import pytest

from data.execution import SandboxConfig, judge
from data.problem_check import BLIND, blind_program, count_assertions, faulty_problems, has_few_tests
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


INFINITE = float("inf")


@pytest.mark.parametrize(
    ("test", "number"),
    [
        ("assert f(1) == 2\nassert f(2) == 3", 2),
        ("def check(c):\n    assert c(1) == 2 and c(2) == 3\n    assert c(0) or c(1)", 3),
        ("class TestF(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 2)", 1),
        ("np.testing.assert_allclose(f(1), 2)", 1),
        ("if f(1) != 2:\n    raise AssertionError('one')", 1),
        ("def check(candidate):\n    for x in range(100):\n        assert candidate(x) == x", INFINITE),
        ("assert all(f(x) == x for x in range(9))", INFINITE),
        ("def same(a, b):\n    assert f(a) == b\nsame(1, 2)\nsame(2, 3)", INFINITE),
        ("@pytest.mark.parametrize('x', [1, 2, 3])\ndef test_f(x):\n    assert f(x)", INFINITE),
        ("if f(1) != 2:\n    raise ValueError", 0),
        ("assert (", 0),
    ],
)
def test_assertions_are_counted_as_often_as_they_may_run(test, number):
    assert count_assertions(test) == number


def test_few_tests_are_those_that_neither_the_text_nor_the_harness_counts():
    two = problem("assert candidate(1) == 2; assert candidate(2) == 3")
    assert has_few_tests(two, 0, 3)
    assert not has_few_tests(two, 0, 2)
    assert not has_few_tests(two, 20, 3)  # the harness has counted inputs
    assert not has_few_tests(problem("checked_elsewhere(candidate)"), 0, 3)
    assert not has_few_tests(two, 0, 0)

"""data/decontaminate.py: copies are found through layout and case, neighbours are not."""

import pytest

from data.decontaminate import benchmark_index, docstring, problem_hits, shared_run, word_runs, words
from data.types import Problem

BENCHMARK = Problem(
    task_id="Bench/0",
    prompt=(
        "from typing import List\n\n\ndef close(numbers: List[float], threshold: float) -> bool:\n"
        '    """Check if in given list of numbers, are any two numbers closer to each other than\n'
        "    given threshold.\n"
        '    """\n'
    ),
    test="",
    entry_point="close",
    canonical_solution="    return any(abs(a - b) < threshold for a in numbers for b in numbers)\n",
)
SHORT = Problem("Bench/1", 'def twice(x):\n    """Twice x."""\n', "", "twice", "    return x * 2\n")
INDEX = benchmark_index({"bench": [BENCHMARK, SHORT]}, 13)


def problem(prompt: str, entry_point: str = "f", solution: str = "") -> Problem:
    return Problem("Train/0", prompt, "", entry_point, solution)


def test_words_ignore_layout_case_and_punctuation():
    assert words("Check IF x_1 <= 2,\n\tthen") == ["check", "if", "x_1", "2", "then"]
    assert list(word_runs("a b c", 2)) == [("a", "b"), ("b", "c")]
    assert list(word_runs("a b c", 4)) == []


def test_a_copied_description_is_found_through_another_name_and_layout():
    copy = "# CHECK if, in given list of\n# numbers: are any two numbers closer to each other\n"
    (hit,) = problem_hits([problem(copy + "def f(xs, t):\n")], INDEX)
    assert (hit.task_id, hit.benchmark, hit.benchmark_id, hit.kind) == (
        "Train/0", "bench", "Bench/0", "words in a row",
    )  # fmt: skip
    assert hit.text == "check if in given list of numbers are any two numbers closer to"


def test_thirteen_words_are_needed():
    shared = "check if in given list of numbers are any two numbers closer"
    assert len(shared.split()) == 12
    assert problem_hits([problem(shared)], INDEX) == []
    assert len(problem_hits([problem(shared + " to")], INDEX)) == 1


def test_a_copied_solution_is_found():
    solution = BENCHMARK.canonical_solution
    assert problem_hits([problem("def f(numbers, threshold):\n", solution=solution)], INDEX)
    assert shared_run("def f(numbers, threshold):\n" + solution, INDEX)[0] == ("bench", "Bench/0")
    assert shared_run("def f(numbers, threshold):\n    return False\n", INDEX) is None


def test_a_short_problem_is_found_by_name_and_docstring():
    same = problem('def twice(y: int) -> int:\n    """twice  X"""\n', "twice")
    assert [hit.kind for hit in problem_hits([same], INDEX)] == ["name and docstring"]
    assert problem_hits([problem('def twice(y):\n    """Double y."""\n', "twice")], INDEX) == []
    assert problem_hits([problem('def double(x):\n    """Twice x."""\n', "double")], INDEX) == []


def test_examples_do_not_hide_a_copy():
    asked = Problem("Mbpp/3", '"""\nFind odd numbers.\nassert odd(3) == True\n"""\n', "", "odd")
    copies = [
        'def odd(n):\n    """Find odd numbers.\n    >>> odd(3)\n    True\n    """\n',
        '"""Find odd numbers."""',
    ]
    for copy in copies:
        (hit,) = problem_hits([problem(copy, "odd")], benchmark_index({"mbpp": [asked]}, 13))
        assert (hit.benchmark_id, hit.kind, hit.text) == ("Mbpp/3", "name and docstring", "find odd numbers")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ('def f(x):\n    """Doc of f."""\n', "Doc of f."),
        ('def g(x):\n    """g."""\n    return x\n\ndef f(x):\n    """Doc of f."""\n', "Doc of f."),
        ('"""\nWrite f.\n"""\n', "Write f."),
        ("Write a function f.", "Write a function f."),
        ("def f(x):\n", ""),
    ],
)
def test_the_description_is_found_wherever_a_prompt_keeps_it(prompt, expected):
    assert docstring(problem(prompt)) == expected


def test_a_problem_repeats_itself():
    assert {hit.kind for hit in problem_hits([BENCHMARK], INDEX)} == {"words in a row", "name and docstring"}


def test_no_words_at_all_is_refused():
    with pytest.raises(ValueError, match="n is 0"):
        benchmark_index({}, 0)

"""Tests of the toy problems: arguments under which every wrong program fails.

Steps are compiled once and applied one after the other, so hundreds of wrong programs cost milliseconds.
They run in this process, which is safe because the table is ours; an `endless_loop` is never run, the table
promises that it does not end.
"""

import copy
import random
from collections.abc import Callable
from functools import cache

from data.toy_primitives import PRIMITIVES
from data.toy_programs import Step, bug_styles, same_kind, write_body

TESTS = 6
MOST_TESTS = 8
CANDIDATES = 20  # random arguments to choose the tests from
LARGEST_VALUE = 20_000  # larger intermediate values make no test
WORDS = (
    *("level", "Anna", "noon", "a", "of", "the", "tree"),
    *("Apple", "sky", "river", "go", "Echo", "xyz", "radar"),
)
EDGES = {
    "numbers": ([], [5], [0, -3]),
    "text": ("", "a", " noon "),
    "words": ([], ["tree"]),
    "natural": (0, 1, 10),
    "integer": (0, 1, -7),
    "pairs": ([], [("bob", 4)]),
}


def draw_input(rng: random.Random, kind: str) -> object:
    """A random argument, with repeats and with values near the constants of the table."""
    if kind == "numbers":
        return [rng.randint(-6, 12) for _ in range(rng.choice((1, 2, 4, 5, 6, 7, 8, 9)))]
    if kind == "words":
        return [rng.choice(WORDS) for _ in range(rng.randint(1, 7))]
    if kind == "text":
        text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4)))
        text = rng.choice((text, text, text + text[::-1], text.replace(" ", "_")))
        return rng.choice((text, f" {text} ", f"{text} "))
    if kind == "natural":
        return rng.choice((rng.randint(2, 20), rng.randint(2, 130), rng.randint(100, 400)))
    if kind == "integer":
        return rng.randint(-25, 40)
    people = ("bob", "eve", "Amy", "zoe", "kim")
    return [(rng.choice(people), rng.randint(0, 9)) for _ in range(rng.randint(1, 7))]


FAILED = object()  # the value of a program that raised


@cache
def compile_step(name: str, constants: tuple, template: str) -> Callable[[object], object] | None:
    """One step as a function; None where the template does not compile."""
    step = Step(PRIMITIVES[name], constants)
    namespace: dict = {}
    try:
        exec("def step(x):\n" + write_body([step], [template], "x"), namespace)
    except SyntaxError:
        return None
    return namespace["step"]


def apply(step: Step, template: str, value: object) -> object:
    """The value after the step, or FAILED. The argument is left as it was."""
    function = compile_step(step.primitive.name, step.constants, template)
    if function is None or value is FAILED:
        return FAILED
    try:
        return function(copy.copy(value))
    except Exception:
        return FAILED


def small(value: object) -> bool:
    """No integer in it beyond LARGEST_VALUE."""
    if isinstance(value, (list, dict)):
        return all(map(small, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or abs(value) <= LARGEST_VALUE


def trace(steps: list[Step], value: object) -> list[object]:
    """The values before, between and after the right steps."""
    values = [value]
    for step in steps:
        values.append(apply(step, step.primitive.right[0], values[-1]))
        if not small(values[-1]):
            break
    return values


def survives(steps: list[Step], values: list[object], place: int, template: str | None) -> bool:
    """Is the result right although step `place` is written as `template` (None: left out)?

    The later steps are tried in all their styles: one may forgive what another does not.
    """
    value = values[place] if template is None else apply(steps[place], template, values[place])
    later = steps[place + 1 :]
    for number in range(max((len(step.primitive.right) for step in later), default=1)):
        result = value
        for step in later:
            result = apply(step, step.primitive.right[number % len(step.primitive.right)], result)
        if equal(result, values[-1]):
            return True
    return False


def equal(value: object, expected: object) -> bool:
    """Would `assert value == expected` hold?"""
    try:
        return value is not FAILED and bool(value == expected)
    except Exception:
        return False


def choose_tests(rng: random.Random, steps: list[Step]) -> list[tuple[object, object]] | None:
    """(argument, result) pairs under which every wrong program fails; None where the search finds none."""
    takes = steps[0].primitive.takes
    drawn = [*EDGES[takes], *(draw_input(rng, takes) for _ in range(CANDIDATES))]
    arguments = {repr(argument): argument for argument in drawn}.values()  # each once
    traces = [t for t in (trace(steps, argument) for argument in arguments) if small(t[-1])]
    if len(traces) < MOST_TESTS:
        return None
    if any(value is FAILED for t in traces for value in t):
        raise ValueError(f"a right solution of {[s.primitive.name for s in steps]} raised; fix the table")
    mutants = [(place, template) for place, kind, template in bug_styles(steps) if kind != "endless_loop"]
    mutants += [(place, None) for place, step in enumerate(steps) if same_kind(step.primitive)]
    caught = [
        {m for m in mutants if not survives(steps, t, *m)} | ({"echo"} if t[-1] != t[0] else set())
        for t in traces
    ]
    chosen, missing = [0], {*mutants, "echo"} - caught[0]
    while missing:
        best = max(range(len(traces)), key=lambda i: len(caught[i] & missing))
        if not caught[best] & missing or len(chosen) == MOST_TESTS:
            return None
        chosen.append(best)
        missing -= caught[best]
    others = [i for i in range(len(traces)) if i not in chosen]
    others.sort(key=lambda i: any(traces[i][-1] == traces[j][-1] for j in chosen))  # new results first
    chosen += others[: max(len(chosen) < MOST_TESTS, TESTS - len(chosen))]
    results = [traces[i][-1] for i in chosen]
    if all(result == results[0] for result in results):
        return None
    return [(traces[i][0], traces[i][-1]) for i in chosen]


def write_test(tests: list[tuple[object, object]]) -> str:
    """The `check` function: one literal assertion per pair."""
    rows = (f"    assert candidate({argument!r}) == {result!r}\n" for argument, result in tests)
    return "def check(candidate):\n" + "".join(rows)

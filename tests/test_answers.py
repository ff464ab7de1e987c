"""The answers that evaluations are compared on are what their names say."""

import random

import pytest

from bench.answers import BEFORE, BODIES, DIFFERENT, LOOPS, WHOLE, answers

SOLUTION = "def f(x):\n    return [x, x + 1]\n"
BROKEN = {"syntax error", "open bracket", "tabs and spaces", "null byte", "prose", "fenced"}
FOUND = dict(answers(SOLUTION, "f", random.Random(0), 1000, True))


def test_every_kind_is_there_once():
    kinds = [kind for kind, _ in answers(SOLUTION, "f", random.Random(0), 1000, True)]
    assert kinds.count("mutant") == 3
    assert set(kinds) == {"reference", "mutant", *BODIES, *BEFORE, *WHOLE, *LOOPS, *DIFFERENT}
    assert len(answers(SOLUTION, "f", random.Random(0), 5, False)) == 4 + 5


@pytest.mark.parametrize("kind", sorted(FOUND))
def test_only_the_broken_ones_do_not_compile(kind):
    if kind in BROKEN:
        with pytest.raises((SyntaxError, ValueError)):
            compile(FOUND[kind], kind, "exec")
    else:
        compile(FOUND[kind], kind, "exec")


def test_a_kind_changes_what_a_judge_sees():
    def called(kind: str) -> object:
        namespace: dict = {"__name__": "answer"}
        exec(FOUND[kind], namespace)
        return namespace["f"](1)

    assert called("same") == called("has a main guard") == called("wraps itself") == [1, 2]
    assert called("as tuple") == (1, 2)
    assert list(called("as generator")) == [1, 2]
    assert called("items in reverse") == [2, 1]
    assert called("equals everything") == "anything"
    with pytest.raises(RuntimeError):
        called("raises")

"""What a program may do with the tests' objects, and what not."""

import io
from unittest.mock import Mock

import pytest

from data.sandbox.handover import operate_on_tests

SECRET = 7


def function(a, b=2, *, c=3):
    """Text."""
    return SECRET


class Own:
    __module__ = "test"
    size = 1

    def __init__(self):
        self.x, self._hidden = 1, 2

    def method(self):
        return SECRET

    def __add__(self, other):
        return other + 1


@pytest.mark.parametrize(
    ("value", "operation", "operands", "result"),
    [
        (function, "call", ((1,), ()), SECRET),
        (function, "getattr", ("__doc__",), "Text."),
        (function, "getattr", ("__defaults__",), (2,)),
        (Own(), "getattr", ("x",), 1),
        (Own(), "getattr", ("_hidden",), 2),
        (Own, "getattr", ("size",), 1),
        (Own(), "operator", ("add", 4), 5),
        (Own(), "bool", (), True),
        (Own, "isinstance", (3,), False),
        (io.StringIO("ab"), "getattr", ("closed",), False),
        (iter([5]), "next", (), (True, 5)),
        (iter([]), "next", (), (False, None)),
    ],
)
def test_what_a_program_in_the_same_process_would_do(value, operation, operands, result):
    assert operate_on_tests(value, operation, operands) == result


def test_code_without_constants():
    facts = operate_on_tests(function, "code", ())
    assert facts["co_varnames"] == ("a", "b", "c")
    assert "co_consts" not in facts


@pytest.mark.parametrize(
    ("value", "operation", "operands"),
    [
        *(
            (function, "getattr", (name,))
            for name in ("__globals__", "__code__", "__closure__", "__builtins__")
        ),
        *((Own(), "getattr", (name,)) for name in ("__dict__", "__class__", "__init__")),
        *((Own().method, "getattr", (name,)) for name in ("__func__", "__self__", "__globals__")),
        (Own(), "setattr", ("method", 1)),
        (Own(), "setattr", ("__class__", int)),
        (Own, "setattr", ("size", 1)),
        (Own(), "getattr", (3,)),
        (Own(), "operator", ("attrgetter", "x")),
        (Own(), "operator", ("call",)),
        (Mock(), "setattr", ("called", True)),
        (Mock(), "setattr", ("assert_called_once_with", print)),
        (Mock(), "getattr", ("_mock_children",)),
        (io, "getattr", ("open",)),
        ({}, "getitem", ("x",)),
        (function, "run", ()),
        ((x for x in ()), "getattr", ("gi_frame",)),
    ],
)
def test_nothing_leads_further(value, operation, operands):
    with pytest.raises((TypeError, AttributeError)):
        operate_on_tests(value, operation, operands)


def test_data_of_the_tests_objects_can_be_set():
    own = Own()
    operate_on_tests(own, "setattr", ("x", 5))
    assert own.x == 5

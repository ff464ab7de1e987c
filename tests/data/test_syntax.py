"""data/syntax.py: which programs are the same, which are trivial, and Levenshtein's table."""

import random

import pytest

from data.syntax import edit_distance, is_trivial, normal_form, relative_distance, without_layout

PROMPT = 'def double(x):\n    """Twice x.\n\n    >>> double(2)\n    4\n    """\n'


@pytest.mark.parametrize(
    "same",
    [
        "def double(x):\n    return x * 2\n",
        PROMPT + "    # by two\n    return x*2  # done\n",
        PROMPT + "    return (x\n            * 2)\n\n\n",
        '"""Module."""\ndef double(x):\n    "doc"\n    "another"\n    return x * 2',
    ],
)
def test_layout_comments_and_docstrings_do_not_count(same):
    assert normal_form(same) == normal_form(PROMPT + "    return x * 2\n")


@pytest.mark.parametrize(
    "other",
    [
        "def double(y):\n    return y * 2\n",  # identifiers are kept
        PROMPT + "    return 2 * x\n",
        PROMPT + "    return x * 2.0\n",
        PROMPT + "    return 'x * 2'\n",
        PROMPT + "    return x * 2\n    pass\n",
    ],
)
def test_anything_else_counts(other):
    assert normal_form(other) != normal_form(PROMPT + "    return x * 2\n")


def test_text_that_does_not_parse_is_compared_as_text():
    assert normal_form("def f(:\n  x  \n") == normal_form("def f(:\n  x")
    assert normal_form("def f(:") != normal_form("def f(;")
    assert normal_form("a\0b") == "a\0b"
    assert normal_form("(" * 5000 + ")" * 5000)


def test_deep_nesting_does_not_raise():
    deep = "x = " + "-" * 3000 + "1"
    assert isinstance(normal_form(deep), str)
    assert is_trivial(deep, "f")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "    pass\n",
        "    ...\n",
        "    return\n",
        "    return None\n",
        "    return 4\n",
        "    return -1\n",
        "    return [1, 2, {'a': (3, 4)}]\n",
        "    # return x * 2\n",
        '    "return x * 2"\n',
        "    raise NotImplementedError\n",
        "    raise NotImplementedError('todo')\n",
        "    answer = 4\n    return answer\n",
        "    x = 4\n    return 2 + 2\n",
        "    x\n    return 4\n",
        "    return len('four')\n",
        "    for i in range(4):\n        pass\n    return i\n",
        "    return x * 2\n\ndef double(x):\n    return 4\n",
        "    return 4\n\nprint(double(2))\n",
        "    import os\n    os._exit(0)\n",
    ],
)
def test_programs_that_ignore_their_argument_are_trivial(body):
    assert is_trivial(PROMPT + body, "double")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "# def double(x):\n#     return x * 2\n",
        "import math\n",
        "def triple(x):\n    return x * 3\n",
        "def double(x:\n",
        "double = 4",
        "double = lambda x: 4",
        "double: int = 4",
        "double: int",
        "class double:\n    pass\n",
        "if True:\n    def double(x):\n        return 4\n",
    ],
)
def test_programs_without_the_entry_point_are_trivial(source):
    assert is_trivial(source, "double")


@pytest.mark.parametrize(
    "source",
    [
        PROMPT + "    return x * 2\n",
        PROMPT + "    return x\n",
        PROMPT + "    def inner():\n        return x + x\n    return inner()\n",
        "def double(*xs):\n    return sum(xs)\n",
        "def double(x):\n    if x:\n        return 4\n    return 0\n",
        "double = lambda x: x * 2",
        "def double():\n    return input()\n",
        "import operator\ndouble = operator.neg\n",
        "async def double(x):\n    return x * 2\n",
        "def helper(x):\n    return 4\n\ndef double(x):\n    return helper(x)\n",
        "class double:\n    def __init__(self, x):\n        self.x = x\n",
        "try:\n    from fast import double\nexcept ImportError:\n    def double(x):\n        return x * 2\n",
        "if True:\n    def double(x):\n        return x * 2\n",
        "from operator import neg as double\n",
        "double: object = lambda x: x\n",
    ],
)
def test_programs_that_read_their_argument_are_not(source):
    assert not is_trivial(source, "double")


def test_layout_is_white_space_and_comments():
    assert without_layout("if x:\n    return 1  # one\n") == without_layout("if x:\n\treturn 1")
    assert without_layout("return 1") != without_layout("return 2")


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("return x < n", "return x <= n", 1),
        ("abc", "abc", 0),
        ("flaw", "lawn", 2),
    ],
)
def test_known_distances(a, b, distance):
    assert edit_distance(a, b) == distance


def levenshtein(a: str, b: str) -> int:
    """The table row by row, as in the definition."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def test_bit_strings_equal_the_table():
    draw = random.Random(0)
    for _ in range(300):
        a, b = ("".join(draw.choices("abé", k=draw.randrange(0, 90))) for _ in range(2))
        assert edit_distance(a, b) == levenshtein(a, b) == edit_distance(b, a)


def test_relative_distance_is_between_equal_and_nothing_shared():
    assert relative_distance("", "") == 0
    assert relative_distance("abcd", "abcd") == 0
    assert relative_distance("abcd", "abxd") == 0.25
    assert relative_distance("abcd", "xy") == 1

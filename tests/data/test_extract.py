"""The program inside an answer: worked examples, EvalPlus's quirks, its search spelled out as the oracle."""

import ast
import random

import pytest

from data.extract import cut_at_stop, defines, extract, fenced_blocks
from data.longest_program import longest_program
from data.syntax import parse

ANSWER = """Here is the solution, it's short:

```python
import math
from typing import List

LIMIT = 10

def helper(n):
    return n + LIMIT

def unused(n):
    return n

def f(n: int) -> List[int]:
    return [helper(n)]

print(f(3))
assert f(1) == [11]
```
It runs in O(1).
"""


def parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, MemoryError):
        return False
    return True


def exhaustive_longest(text: str) -> str:
    """The definition: every run of at least two lines, most non-blank lines, the first one on ties."""
    lines = text.split("\n")
    best, best_filled = (0, 0), 0
    for first in range(len(lines)):
        for last in range(first + 1, len(lines)):
            filled = sum(1 for line in lines[first : last + 1] if line.strip())
            if filled > best_filled and parses("\n".join(lines[first : last + 1])):
                best, best_filled = (first, last), filled
    return "\n".join(lines[best[0] : best[1] + 1])


FRAGMENTS = [
    *(
        "Sure, here it is:",
        "It's done (see below",
        "",
        "  ",
        "# note",
        "    # indented",
        "```python",
        "```",
        "'''",
    ),
    *(
        '"""',
        "x = (",
        ")",
        "y = [1,",
        "2]",
        "@cache",
        "try:",
        "    import os",
        "except ImportError:",
        "    os = None",
    ),
    *(
        "def f(n):",
        "    return n",
        "    yield n",
        "class A:",
        "    z = 1",
        "if x:",
        "else:",
        "    pass",
        "\treturn 1",
    ),
    *(
        "import a; import b",
        "from t import (",
        "a, b = 1, 2",
        "z = \\",
        "\\",
        "\x0c",
        "a = 1\rb = 2",
        "a = 1\r",
        "é = 'ü",
    ),
    *(
        "lambda: 0",
        "return 3",
        "async def g(): return 1",
        "f'{x",
        "f'''{",
        "1_000",
        "0x",
        "x = 'a\\",
        "\0",
        "$",
    ),
]


def test_the_longest_run_equals_the_exhaustive_search():
    rng = random.Random(0)
    for _ in range(1500):
        text = "\n".join(rng.choices(FRAGMENTS, k=rng.randrange(1, 14)))
        assert longest_program(text)[0] == exhaustive_longest(text), text


def test_ten_thousand_lines_need_few_parses(monkeypatch):
    parsed = 0
    real = compile

    def counting(source, *arguments, **keywords):
        nonlocal parsed
        parsed += source.count("\n") + 1
        return real(source, *arguments, **keywords)

    code = "".join(f"def f{i}(x):\n    y = x + {i}\n    return y\n\n\n" for i in range(800))
    prose = "Don't worry (it's explained below):\n" * 3000
    text = prose + code + prose
    monkeypatch.setattr("data.longest_program.compile", counting, raising=False)
    assert longest_program(text)[0].strip() == code.strip()
    assert parsed < 10 * text.count("\n")


@pytest.mark.parametrize(
    "line", ["x = (\n", "try:\n    x = 1\n" + "    x = 1\n" * 50, "x = [\n1,\n", "'''\n(\n"]
)
def test_hopeless_texts_stay_within_the_effort(line, monkeypatch):
    parsed = 0
    real = compile

    def counting(source, *arguments, **keywords):
        nonlocal parsed
        parsed += source.count("\n") + 1
        return real(source, *arguments, **keywords)

    text = line * (5000 // line.count("\n"))
    monkeypatch.setattr("data.longest_program.compile", counting, raising=False)
    longest_program(text)
    assert parsed < 40 * text.count("\n") + 20_000


def test_the_tree_is_that_of_the_run():
    rng = random.Random(1)
    for _ in range(300):
        text = "\n".join(rng.choices(FRAGMENTS, k=rng.randrange(1, 30)))
        code, tree = longest_program(text)
        expected = parse(code)
        assert (tree is None) == (expected is None), text
        if tree is not None:
            assert ast.dump(tree, include_attributes=True) == ast.dump(expected, include_attributes=True)


def test_stop_strings_cut_at_the_earliest():
    assert cut_at_stop("    return 1\n\ndef g():\nprint(1)", ("\nprint", "\ndef ")) == "    return 1\n"
    assert cut_at_stop("abc", ("x",)) == "abc"


def test_mode_none_changes_nothing():
    assert extract(ANSWER, "f", "none") == ANSWER


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(ValueError, match="'fence' does not exist; there are none, fenced, keep, evalplus"):
        extract("", "f", "fence")


def test_fenced_takes_the_last_block_that_defines_the_entry_point():
    other = "```\nf(1)\n```\n"
    assert extract(other + ANSWER + other, "f", "fenced").startswith("import math")
    assert extract(ANSWER + "```\nf = abs\n```\n", "f", "fenced") == "f = abs\n"
    assert extract(ANSWER + other, "missing", "fenced") == "f(1)\n"
    assert extract("no fence", "f", "fenced") == "no fence"


def test_an_open_fence_ends_with_the_text_and_inner_fences_need_length():
    assert fenced_blocks("a\n```py\nx = 1") == ["x = 1"]
    assert fenced_blocks("````\n```\nx\n```\n````") == ["```\nx\n```\n"]


@pytest.mark.parametrize("mode", ["keep", "evalplus"])
def test_what_the_entry_point_needs_stays_and_the_rest_goes(mode):
    source = extract(ANSWER, "f", mode)
    namespace = {}
    exec(source, namespace)
    assert namespace["f"](1) == [11]
    assert "unused" not in source
    assert "print" not in source
    assert "assert" not in source


def test_keep_has_none_of_evalpluss_faults():
    source = extract(
        "from functools import cache\n"
        "try:\n    import numpy as np\nexcept ImportError:\n    np = None\n"
        "low, high = 1, 9\n"
        "table = {}\n"
        "table[0] = low\n"
        "for i in range(3):\n    table[i] = i\n"
        "import sys\nsys.setrecursionlimit(10_000)\n"
        "def f(n):\n    return 0\n"
        "def fill(items):\n    items.append(high)\n"
        "@cache\ndef g(n):\n    return table[n]\n"
        "def f(n):\n    items = []\n    fill(items)\n    return items[0] + g(n)\n"
        "if __name__ == '__main__':\n    import doctest\n    doctest.testmod()\n"
        "print(f(1))\n",
        "f",
        "keep",
    )
    namespace = {}
    exec(source, namespace)
    assert namespace["f"](2) == 11
    assert "setrecursionlimit" in source
    assert "import numpy" in source
    assert "doctest" not in source
    assert "print" not in source


def test_keep_leaves_alone_what_it_cannot_read():
    for text in ("def f(:\n    return 1", "I cannot help with that.", "def g():\n    return 1"):
        assert extract(text, "f", "keep") == text


def test_keep_survives_terminal_colours():
    assert (
        extract("\x1b[31mimport os\x1b[0m\ndef f():\n    return 1\n", "f")
        == "import os\ndef f():\n    return 1\n"
    )


def test_keep_returns_text_that_extracts_to_itself():
    once = extract(ANSWER, "f", "keep")
    assert extract(once, "f", "keep") == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@cache\ndef f(n):\n    return n\nx = 1", "@cache\ndef f(n):\n    return n\nx = 1"),
        ("def f(a):\n    a.sort()\ndef g():\n    pass", "def f(a):\n    a.sort()\ndef g():\n    pass"),
        ("import os\ntry:\n    import re\nexcept:\n    pass\nf = lambda: 1", "import os\nf = lambda: 1"),
        ("a, b = 1, 2\ndef f():\n    return a", "def f():\n    return a"),
        ("def f():\n    return 1\ndef f():\n    return 2", "def f():\n    return 1"),
        ("def f():\n    pass\ndef f():\n    return 2", "def f():\n    return 2"),
        ("from __future__ import annotations\ndef f():\n    return 2", "def f():\n    return 2"),
        ("def f():\n    return 1 # c\n    # so\n\n# other\nx = 1", "def f():\n    return 1 # c\n    # so"),
        ("def f():\n    return 1  # c \r\ndef g():\n    return f\n", "def f():\n    return 1  # c"),
        ("def f():\n    from a.b import c as d\n    return 1\na = 1\nb = 2\nc = 3\nd = 4\ne = 5",
         "def f():\n    from a.b import c as d\n    return 1\na = 1\nb = 2\nc = 3\nd = 4"),
        ("def f(\n    n\n): return 1\n\n# c\nx = 1\n", "def f(\n    n\n): return 1"),
        ("def f(n):\n    match n:\n        case {**rest}: return 1\nrest = 1\nx = 2",
         "def f(n):\n    match n:\n        case {**rest}: return 1\nrest = 1"),
        ("def f(n):\n    match n:\n        case [A(b=1), *c]: return 1\nA = 1\nb = 2\nc = 3\nd = 4",
         "def f(n):\n    match n:\n        case [A(b=1), *c]: return 1\nA = 1\nb = 2\nc = 3"),
        ("def f():\n    return g # c \r\ndef g():\r\n    return 1\n",
         "def f():\n    return g # c \r\ndef g():\r\n    return 1"),
        ("def f():\n    return 1;\nimport os; import re", "import os\nimport re\ndef f():\n    return 1;"),
        ("obj.x = f\ndef f():\n    return 1", "obj.x = f"),
        ("x = 1", "x = 1"),
        ("    import math\nz = ((\n", "import math"),
        ("Sorry, no.", "Sorry, no."),
    ],
)  # fmt: skip
def test_evalplus_mode_reproduces_its_quirks(text, expected):
    assert extract(text, "f", "evalplus") == expected


def test_evalplus_mode_equals_evalplus_on_varied_answers():
    sanitize = pytest.importorskip("evalplus.sanitize", reason="EvalPlus itself is the oracle").sanitize
    rng = random.Random(1)
    bodies = [
        ANSWER,
        ANSWER.replace("    ", "\t"),
        ANSWER.replace("\n", "\r\n"),
        ANSWER.replace("return", "yield"),
    ]
    for case in range(600):
        lines = rng.choice(bodies).split("\n")
        for _ in range(rng.randrange(6)):
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(FRAGMENTS[:-2]))
        if case % 3 == 0:
            del lines[rng.randrange(4, len(lines)) :]
        text = "\n".join(lines)
        entry_point = rng.choice(["f", "helper", "unused"])
        assert extract(text, entry_point, "evalplus") == sanitize(text, entry_point), text


def test_defines_says_whether_the_name_is_bound():
    assert defines("def f(): pass", "f")
    assert defines("f = lambda: 0", "f")
    assert defines("try:\n    from m import f\nexcept ImportError:\n    f = None", "f")
    assert not defines("def g():\n    def f(): pass", "f")
    assert not defines("def f(:", "f")
    assert not defines("x\0", "f")

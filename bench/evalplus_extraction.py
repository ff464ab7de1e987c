"""Our `evalplus` mode of data/extract.py beside EvalPlus's own sanitizer, on answers composed by chance.

    python -m bench.evalplus_extraction 1200             # needs the evalplus package

An answer is prose, fences and code in a random order: helpers after their use, redefinitions, decorators,
classes, imports in `try`, comments in odd places, tabs, Windows line ends, unfinished code. Some are damaged
character by character afterwards. EvalPlus's search is cubic in the lines, so answers stay under 60.
"""

import argparse
import random
import time

from evalplus.sanitize import sanitize

from data.extract import extract
from data.syntax import parse

PROSE = """Here's the solution:
Sure! I can help (see below).
The idea is simple: we iterate over the list, and don't look back.
- It runs in O(n) time
1. First, import math
**Explanation**
# Solution
## Approach:
Let me know if "anything" is unclear
>>> f(3)
import this library first
return the result
def is a keyword
x
...
Note: `helper` isn't needed
> quoted
| a | b |
for example: f([1, 2])
:)""".splitlines()
FENCES = ["```python", "```py", "```", "~~~", "````python", "  ```python", "```Python title", "<code>"]
IMPORTS = """import math
import os, sys
import collections as c
from typing import List, Optional
from functools import lru_cache, reduce as r
from math import *
from __future__ import annotations
import os.path; import re
from typing import (
    Any,
    Dict,  # why not
)
try:
    import numpy as np
except ImportError:
    np = None
if True:
    import json
import heapq  # a comment""".splitlines()
STATEMENTS = [
    "LIMIT = 10",
    "A, B = 1, 2",
    "A, B = LIMIT",
    "TABLE: dict = {'a': 1}",
    "count: int",
    "TABLE = {\n    'a': [1,\n  2],\n}",
    "TEXT = '''\ndef f(n):\n    return 3\n'''",
    "x = y = LIMIT",
    "(z) = 4",
    "x += 1",
    "obj.attribute = helper",
    "TABLE['b'] = other",
    "f = helper",
    "helper = lambda n: n + LIMIT",
    "print(f(3))",
    "print (f(3), file=sys.stderr)",
    "assert f(1) == 2, 'no'",
    "f(3)",
    "if __name__ == '__main__':\n    print(f(3))",
    'if __name__ == "__main__":\n    import doctest\n    doctest.testmod()',
    "for i in range(3):\n    TABLE[i] = i",
    "with open('x') as g:\n    TEXT = g.read()",
    "del helper",
    "'''A docstring'''",
    "global LIMIT",
    "LIMIT = 3; OTHER = LIMIT",
    "LIMIT = \\\n    3",
    "if (n := 3) > 2: pass",
    "*first, last = [1, 2]",
    "while False: pass",
    "raise SystemExit",
    "# comment",
    "    # indented comment",
    "\t# tabbed comment",
    "print 'python 2'",
    "exec 'x'",
    "pass",
    "type Alias = int",
    "match LIMIT:\n    case 1: x = 1\n    case helper: pass",
    "x = 'unterminated",
    "x = (1,",
    ")",
    "]",
    "'''",
    '"""',
    "@decorator",
    "else:",
    "    return n",
    "...",
]
BODIES = [
    "return n",
    "return helper(n)",
    "return [helper(x) for x in n if x > LIMIT]",
    "total = 0\nfor x in n:\n    total += x\nreturn total",
    "n.sort()",
    "yield n",
    "pass",
    "...",
    "raise ValueError(TEXT)",
    "global LIMIT\nLIMIT += 1\nreturn LIMIT",
    "def inner(m):\n    return m + A\nreturn inner(n)",
    "def inner(m):\n    return m + B\ninner(n)",
    "return lambda n: other(n)",
    "return f'{helper(n)!r:>{LIMIT}}'",
    '"""Doc of it.\n\n>>> f(1)\n2\n"""\nreturn 2',
    "'''One.'''\n# comment\nreturn 2  # why",
    "try:\n    return other(n)\nexcept (ValueError, KeyError) as e:\n    return None\nfinally:\n    pass",
    "match n:\n    case [x, *helper]:\n        return x\n    case {'a': other, **rest}: return rest\n"
    "    case Thing(size=s): return s\n    case _:\n        return 0",
    "if n: return 1\nelse: return 2",
    "return (n +\n  1\n    )",
    "x = '''\ntext\n'''\nreturn x",
    "return n if n else f(n - 1)",
    "import math as helper\nreturn helper.floor(n)",
    "from other import thing\nreturn thing(n)",
    "return n;",
    "return n ; # semicolon  ",
    "return Thing(n).size",
    "return call(helper=n, *A, **B)",
    "while True:\n    n -= 1\n    if n < 0:\n        break\nreturn n\n\n# last words ",
    "assert n\nreturn n\n  # shallow comment\n# outer comment",
    "return \\\n    n",
    "async def g():\n    await other()\nreturn g",
    "return {**TABLE, 'é': 'ü', \"日本\": n}",
    "print(n, file=sys.stderr)\nreturn None",
    "",
]
NAMES = ["f", "helper", "other", "Thing", "LIMIT", "größe"]
SIGNATURES = [
    "(n)",
    "(n: int) -> int",
    "(n, *args, **kwargs)",
    "(n=LIMIT)",
    "(self, n)",
    "(\n    n,\n    m=2,\n)",
]
DECORATORS = ["@lru_cache", "@lru_cache(maxsize=None)", "@c.abc\n@r", "@property"]


def indented(text: str, space: str) -> str:
    return "\n".join(space + line if line else line for line in text.split("\n"))


def function(rng: random.Random) -> str:
    space = rng.choice(["    "] * 6 + ["  ", "\t", " "])
    head = f"def {rng.choice(NAMES)}{rng.choice(SIGNATURES)}:"
    body = rng.choice(BODIES)
    if rng.random() < 0.1:
        head = f"async {head}"
    if rng.random() < 0.08 and "\n" not in body:
        return f"{head} {body}"
    text = f"{head}\n{indented(body, space)}"
    return f"{rng.choice(DECORATORS)}\n{text}" if rng.random() < 0.12 else text


def class_(rng: random.Random) -> str:
    head = rng.choice(
        ["class Thing:", "class Thing(object):", "class f(helper): ", "@dataclass\nclass Thing:"]
    )
    inside = [rng.choice(["size: int = 0", "'''Doc.'''", "LIMIT = LIMIT", "pass"])]
    inside += [function(rng) for _ in range(rng.randrange(3))]
    return head + "\n" + indented("\n".join(inside), "    ")


def code(rng: random.Random) -> str:
    lines = rng.sample(IMPORTS, rng.randrange(3)) if rng.random() < 0.3 else []
    if rng.random() < 0.4:
        start = rng.choice([0, 1, 2, 3, 4, 5, 6, 7])
        lines += [IMPORTS[start]]
    parts = ["\n".join(IMPORTS[8:12])] * (rng.random() < 0.1) + ["\n".join(IMPORTS[12:16])] * (
        rng.random() < 0.15
    )
    for _ in range(rng.randrange(1, 5)):
        make = rng.choice([function, function, function, class_, lambda rng: rng.choice(STATEMENTS)])
        parts.append(make(rng))
    rng.shuffle(parts)
    gaps = ["\n", "\n\n", "\n\n\n", "\n \n", "\n\t\n"]
    return "\n".join(lines) + "\n" + "".join(part + rng.choice(gaps) for part in parts)


def answer(rng: random.Random) -> str:
    pieces = []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        prose = "\n".join(rng.choices(PROSE, k=rng.randrange(4)))
        fence = rng.choice(FENCES)
        block = code(rng)
        if rng.random() < 0.08:
            block = indented(block, "    ")
        style = rng.random()
        close = {"~~~": "~~~", "<code>": "</code>"}.get(fence, "```")
        if style < 0.55:
            block = f"{fence}\n{block}{close}\n"
        elif style < 0.7:
            block = f"{fence}\n{block}"
        pieces.append(f"{prose}\n{block}" if rng.random() < 0.8 else f"{block}\n{prose}")
    text = "\n".join(pieces)
    change = rng.random()
    if change < 0.12:
        text = text[: rng.randrange(len(text) + 1)]
    elif change < 0.2:
        text = text.replace("\n", "\r\n")
    elif change < 0.25:
        text = text.replace("    ", "\t")
    elif change < 0.27:
        text = text.replace("\n", "\r", 3)
    elif change < 0.45:
        for _ in range(rng.randrange(1, 5)):
            text = damaged(text, rng)
    return "\n".join(text.split("\n")[:60])


def damaged(text: str, rng: random.Random) -> str:
    """One character deleted, doubled, replaced or moved, as by a careless hand."""
    if not text:
        return text
    at = rng.randrange(len(text))
    other = rng.choice("\n\n  \t()[]:'\"#\\,;=\x0c\x0b\u00a0\u2028\ufeff\x1b\r@`é")
    return rng.choice(
        [text[:at] + text[at + 1 :], text[:at] + text[at] * 2 + text[at + 1 :], text[:at] + other + text[at:]]
    )


def outcome(function: object, *arguments: object) -> str:
    """What it returns, or the kind of its exception."""
    try:
        return function(*arguments)
    except Exception as error:
        return f"<{type(error).__name__}>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=3, help="differing answers to print in full")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    seconds, differing, hopeless, changed, lines = [0.0, 0.0], [], 0, 0, 0
    for _ in range(given.count):
        text, name = answer(rng), rng.choice(NAMES)
        start = time.process_time()
        ours = outcome(extract, text, name, "evalplus")
        middle = time.process_time()
        theirs = outcome(sanitize, text, name)
        seconds = [seconds[0] + middle - start, seconds[1] + time.process_time() - middle]
        changed += theirs != text
        lines += text.count("\n") + 1
        if ours != theirs and "\n" not in ours and parse(ours) is None:
            hopeless += 1
        elif ours != theirs:
            differing.append((text, name, ours, theirs))
    for text, name, ours, theirs in differing[: given.show]:
        print(f"entry point {name}\n{text!r}\nhere  {ours!r}\nthere {theirs!r}\n")
    print(f"{given.count} answers, {lines} lines, {changed} changed by extraction: {len(differing)} differ")
    print(f"{hopeless} more differ where no two lines are a program: a fragment of the first line there")
    print(f"CPU seconds: {seconds[0]:.1f} here, {seconds[1]:.1f} there")


if __name__ == "__main__":
    main()

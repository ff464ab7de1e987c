"""Nothing the entry point needs is lost, nothing that only uses it stays.

Small programs and answers, each under a line that says what its function must answer to 3. Most come in two
kinds: something at the top level matters though the function does not name it, or looks as if it mattered.
"""

import pytest

from data.extract import extract
from data.needed import defines, needed

PROGRAMS = """
## append loop: 7
primes = []
for i in range(2, 100):
    if all(i % p for p in primes):
        primes.append(i)
def f(n):
    return primes[n]
print(f(1))
## append: 2
p = []
p.append(2)
def f(n):
    return p[0]
## sieve fn: 9
t = [0]*10
def fill():
    for i in range(10):
        t[i] = i*i
fill()
def f(n):
    return t[n]
## global fn: 5
k = 0
def setup():
    global k
    k = 5
setup()
def f(n):
    return k
## nested fill: 4
t = []
def inner():
    t.append(4)
def outer():
    inner()
outer()
def f(n):
    return t[0]
## builder: 6
t = []
class B:
    def go(self):
        t.append(6)
b = B()
b.go()
def f(n):
    return t[0]
## heapify arg: 1
import heapq
d = [3,1,2]
heapq.heapify(d)
def f(n):
    return d[0]
## update: 1
d = {}
d.update(a=1)
def f(n):
    return d['a']
## registry: 4
H = {}
def reg(g):
    H[g.__name__] = g
    return g
@reg
def add(x):
    return x + 1
def f(n):
    return H['add'](n)
## registry args: 4
H = {}
def reg(name):
    def deco(g):
        H[name] = g
        return g
    return deco
@reg('a')
def add(x):
    return x + 1
def f(n):
    return H['a'](n)
## method deco: 6
class App:
    def __init__(self): self.r = {}
    def route(self, n):
        def d(g):
            self.r[n] = g
            return g
        return d
app = App()
@app.route('x')
def h(n):
    return n * 2
def f(n):
    return app.r['x'](n)
## singledispatch: 'int'
from functools import singledispatch
@singledispatch
def f(n):
    return 'any'
@f.register
def _(n: int):
    return 'int'
## singledispatch2: 'int'
from functools import singledispatch
@singledispatch
def f(n):
    return 'any'
def g(n):
    return 'int'
f.register(int, g)
## subclasses: 8
class Base:
    r = []
    def __init_subclass__(cls):
        Base.r.append(cls)
class A(Base):
    v = 8
def f(n):
    return Base.r[0].v
## subclasses2: 8
class Base: pass
class A(Base):
    v = 8
def f(n):
    return Base.__subclasses__()[0].v
## globals: 3
def helper(n):
    return n
def f(n):
    return globals()['help' + 'er'](n)
## eval: 6
K = 3
def f(n):
    return eval('K') + n
## walrus: 4
if (k := 4) > 2:
    pass
def f(n):
    return k
## walrus comp: 2
x = [y := i for i in range(3)]
def f(n):
    return y
## with: True
import io
with io.StringIO('abc') as g:
    pass
def f(n):
    return g.closed
## match: 7
match 3:
    case 1:
        z = 1
    case w:
        z = w + 1
def f(n):
    return z + w
## try: None
try:
    import surely_not
except ImportError:
    surely_not = None
def f(n):
    return surely_not
## prec: '0.33333'
from decimal import *
getcontext().prec = 5
def f(n):
    return str(Decimal(1) / Decimal(3))
## prec2: '0.33333'
import decimal
decimal.getcontext().prec = 5
def f(n):
    return str(decimal.Decimal(1) / 3)
## input n: 3
n = int(input())
def f(n):
    return n
print(f(n))
## input main: 3
def f(n):
    return n
def main():
    n = int(input())
    print(f(n))
main()
## alias: 3
a = b = []
a.append(3)
def f(n):
    return b[0]
## alias2: 3
t = []
x = t
x.append(3)
def f(n):
    return t[0]
## rows: [[0, 1], [1, 1]]
t = [[0], [0]]
for row in t:
    row.append(1)
for i, row in enumerate(t):
    row[0] = i
def f(n):
    return t
## listcomp effect: [0, 1, 2]
t = []
[t.append(i) for i in range(3)]
def f(n):
    return t
## setattr: 9
def f(n):
    return f.k
setattr(f, 'k', 9)
## attr: 9
def f(n):
    return f.k
f.k = 9
## class attr: 3
class N:
    pass
N.size = 3
def f(n):
    return N().size
## monkey: 2
class N:
    def v(self): return 1
def v(self): return 2
N.v = v
def f(n):
    return N().v()
## wrapped: 4
def f(n):
    return n
def deco(g):
    return lambda n: g(n) + 1
f = deco(f)
## augmented: 3
k = 1
k += 2
def f(n):
    return k
## while: 64
k = 1
while k < 50:
    k *= 2
def f(n):
    return k
## star: [2, 3]
first, *rest = [1, 2, 3]
def f(n):
    return rest
## tests: 3
def f(n):
    return n
def check(candidate):
    assert candidate(1) == 2
check(f)
## tests2: 3
import unittest
def f(n):
    return n
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f(1), 2)
unittest.main()
## loop tests: 3
def f(n):
    return n
for a, b in [(1, 2)]:
    assert f(a) == b
## exit: 3
import sys
def f(n):
    return n
sys.exit(f(3))
## raise: 3
def f(n):
    return n
raise SystemExit
## two blocks: 4
First a helper:
```python
def helper(n):
    return n + 1
```
Then:
```python
def f(n):
    return helper(n)
```
## two blocks rev: 6
```python
def f(n):
    return helper(n) + K
```
with
```python
K = 2
```
```python
from __future__ import annotations
def helper(n: Nope):
    return n + 1
```
## last block: 2
Wrong:
```python
def f(n):
    return 1
```
Better:
```python
def f(n):
    return 2
```
Use:
```python
print(f(3))
```
## prose between: 4
First a helper.

def helper(n):
    return n + 1

Now it's the main function (easy):

def f(n):
    x = 1
    y = 2
    return helper(n)

Done!
## indented fence: 3
1. Do:

   ```python
   def f(n):
       return n
   ```
## one line: 3
Answer:
def f(n): return n
Done it's
## truncated: 3
import math
def helper(n):
    return math.floor(n)
def f(n):
    return helper(n)

def test_f():
    assert f(1
## truncated fence: 3
Text (
```python
def f(n):
    return n

print(f(
## shadow: 3
n = 5
def f(n):
    def g():
        return n
    return g()
## nonlocal: 2
K = 2
def f(n):
    x = 0
    def g():
        nonlocal x
        x += K
    g()
    return x
## class default: 2
LIMIT = 2
class C:
    LIMIT = LIMIT
def f(n):
    return C.LIMIT
## default: 2
K = 2
def f(n, k=K):
    return k
## annotation: 3
from typing import List
MyT = List[int]
def f(n: MyT) -> MyT:
    return n
## dataclass: [1]
from dataclasses import dataclass, field
def mk():
    return [1]
@dataclass
class D:
    x: list = field(default_factory=mk)
def f(n):
    return D().x
## del: 3
import os
k = 1
def f(n):
    return n
del os
## semicolon: 2
k = 1; k2 = 2; print(k)
def f(n): return k2
## lambda: 4
g = lambda n: n + 1
f = lambda n: g(n)
## partial: 4
from functools import partial
def g(a, n): return a + n
f = partial(g, 1)
## memo warm: 3
memo = {}
def f(n):
    if n in memo: return memo[n]
    memo[n] = n
    return n
for i in range(3):
    f(i)
## if def: 3
import sys
if sys.version_info > (3,):
    def f(n):
        return n
else:
    def f(n):
        return 0
## try def: 3
try:
    from nothing import f
except ImportError:
    def f(n):
        return n
## f-string: '3'
K = 3
def f(n):
    return f'{K}'
## seed: 0.23604808973743452
import random
random.seed(4)
r = random.random()
def f(n):
    return r
## nested rec: 9000
import sys
sys.setrecursionlimit(9000)
def f(n):
    return sys.getrecursionlimit()
## try setting: 9000
import sys
try:
    sys.setrecursionlimit(9000)
except Exception:
    pass
def f(n):
    return sys.getrecursionlimit()
## property: 4
class N:
    _v = 1
    @property
    def v(self):
        return K
K = 4
def f(n):
    return N().v
## metaclass: 5
class M(type):
    def __call__(cls): return 5
class N(metaclass=M): pass
def f(n):
    return N()
## comp global: [1, 2]
K = [1,2]
def f(n):
    return [k for k in K]
## type params: 3
import typing
T = typing.TypeVar('T')
def f(n: T) -> T:
    return n
## enum: 1
from enum import Enum
class C(Enum):
    A = 1
def f(n):
    return C.A.value
## async: 3
import asyncio
async def g(n):
    return n
def f(n):
    return asyncio.run(g(n))
## generator state: 2
def gen():
    yield 1
    yield 2
g = gen()
next(g)
def f(n):
    return next(g)
## print mutates: []
t = [1]
print(t.pop())
def f(n):
    return t
## import in func: 3
def load():
    global np
    import math as np
load()
def f(n):
    return np.floor(n)
## del item: {3: 4}
d = {1: 2, 3: 4}
del d[1]
def f(n):
    return d
## exec: 5
exec('K = 5')
def f(n):
    return K
## globals set: 5
globals()['K'] = 5
def f(n):
    return K
## globals loop: 2
for name in ('a', 'b'):
    globals()[name] = 1
def f(n):
    return a + b
## star import: 3
from math import *
def f(n):
    return floor(n)
## main def: 3
if __name__ == '__main__':
    print(1)
def f(n):
    return n
## else main: 3
if __name__ == 'x':
    pass
else:
    K = 1
def f(n):
    return 3
"""
CASES = dict(section.partition("\n")[::2] for section in PROGRAMS.split("## ")[1:])
CASES["Windows lines: 4"] = "k = 1\r\ndef f(n):\r\n    return n + k\r\nprint(f(1))\r\n"
CASES["a byte order mark: 3"] = "\ufeffdef f(n):\n    return n"


@pytest.mark.parametrize("title", CASES)
def test_the_function_answers_as_in_the_whole_program(title):
    namespace = {"__name__": "answer"}
    exec(extract(CASES[title], "f", "keep"), namespace)
    expected = eval(title.rpartition(": ")[2] if "{" not in title else title.partition(": ")[2])
    assert namespace["f"](3) == expected


@pytest.mark.parametrize(
    "use",
    [
        "print(f(3))",
        "assert f(3) == 4",
        "f(3)",
        "check(f)",
        "n = int(input())",
        "for n in range(3):\n    print(f(n))",
        "if __name__ == '__main__':\n    print(f(3))",
        "def main():\n    print(f(int(input())))\nmain()",
        "try:\n    f(1)\nexcept ValueError:\n    print('no')",
        "unused = [1]\nunused.append(f(1))",
        "raise SystemExit",
        '"text"',
    ],
)
def test_what_only_uses_the_function_goes(use):
    source = "import os\ndef f(n):\n    return n\n"
    assert extract(f"{source}{use}\n", "f", "keep") == source


def test_open_names_are_those_that_nothing_binds():
    text, open_names = needed("K = a\ndef f(n):\n    return helper(n) + K + len(n) + os.sep\n", "f")
    assert open_names == {"a", "helper", "os"}
    assert text.startswith("K = a\n")


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("def f(): pass", True),
        ("f = lambda: 0", True),
        ("f += 1", True),
        ("for f in x: pass", True),
        ("with x as (f, g): pass", True),
        ("match x:\n    case {**f}: pass", True),
        ("x = [f := 1 for _ in y]", True),
        ("x = [f for f in y]", False),
        ("f.x = 1", False),
        ("class A:\n    def f(self): pass", False),
        ("if __name__ == '__main__':\n    f = 1", False),
        ("try:\n    from m import f\nexcept ImportError:\n    f = None", True),
    ],
)
def test_defines_sees_every_way_to_bind_a_name(source, answer):
    assert defines(source, "f") is answer

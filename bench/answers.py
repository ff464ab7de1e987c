"""Answers to a benchmark's problems, right and wrong in every way, made from its reference solutions.

`answers` gives (kind, program) pairs of one problem. A kind changes what a judge sees of the reference
solution (a type, a side effect, an end) rather than what the problem asks. On those in `DIFFERENT` our
verdict and EvalPlus's differ; docs/evaluation.md says why.
"""

import ast
import random

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.FloorDiv,
    ast.Mod: ast.FloorDiv,
}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}


def kinds(text: str) -> dict[str, str]:
    """Sections of a text, each under a line `## name`."""
    sections = (section.partition("\n") for section in text.split("## ")[1:])
    return {name: body.rstrip("\n") for name, _, body in sections}


# bodies of a function around the reference; RESULT stands for what that answers
BODIES = kinds(
    """
## same
return RESULT
## prints
print('x' * 1000); return RESULT
## as list
return list(RESULT)
## as tuple
return tuple(RESULT)
## as set
return set(RESULT)
## as text
return str(RESULT)
## as int
return int(RESULT)
## as float
return float(RESULT)
## as bool
return bool(RESULT)
## as complex
return complex(RESULT)
## as generator
result = RESULT; return (x for x in result)
## as map
return map(lambda x: x, RESULT)
## as keys
return dict.fromkeys(RESULT).keys()
## as numpy scalar
import numpy; return numpy.float64(RESULT)
## as numpy integer
import numpy; return numpy.int64(RESULT)
## as numpy array
import numpy; return numpy.array(RESULT)
## as decimal
import decimal; return decimal.Decimal(RESULT)
## as fraction
import fractions; return fractions.Fraction(RESULT)
## items as tuples
return [tuple(x) for x in RESULT]
## items as lists
return [list(x) for x in RESULT]
## items as floats
return [float(x) for x in RESULT]
## items off by 1e-9
return type(RESULT)(x + 1e-9 for x in RESULT)
## items in reverse
return RESULT[::-1]
## sorted
return sorted(RESULT)
## one item less
return RESULT[:-1]
## one item more
return [*RESULT, None]
## off by 1e-9
return RESULT + 1e-9
## off by 1e-6
return RESULT + 9e-7
## off by 1e-5
return RESULT + 1e-5
## off by 1e-8, relative
return RESULT * (1 + 1e-8)
## not a number
return float('nan')
## none
return None
## true
return True
## zero
return 0
## empty
return type(RESULT)()
## named tuple
import collections
result = RESULT
return collections.namedtuple('N', [f'f{i}' for i in range(len(result))])(*result)
## ordered dict
from collections import OrderedDict; return OrderedDict(RESULT)
## default dict
from collections import defaultdict; return defaultdict(lambda: 0, RESULT)
## list of a subclass
class L(list): pass
return L(RESULT)
## int of a subclass
class I(int): pass
return I(RESULT)
## text of a subclass
class S(str): pass
return S(RESULT)
## changes its arguments
r = RESULT
for a in arguments:
    if hasattr(a, 'clear'): a.clear()
return r
## changes arguments first
for a in arguments:
    if hasattr(a, 'clear'): a.clear()
return RESULT
## answers its argument
return arguments[0]
## raises
raise RuntimeError('no')
## raises what is no Exception
raise BaseException('no')
## raises KeyboardInterrupt
raise KeyboardInterrupt
## raises at last
COUNT = globals().setdefault('COUNT', [0]); COUNT[0] += 1
if COUNT[0] > 3: raise ValueError
return RESULT
## leaves
import sys; sys.exit(0)
## leaves at once
import os; os._exit(0)
## right once
COUNT = globals().setdefault('COUNT', [0]); COUNT[0] += 1
return RESULT if COUNT[0] == 1 else None
## remembers
CACHE = globals().setdefault('CACHE', {}); k = repr(arguments)
if k not in CACHE: CACHE[k] = RESULT
return CACHE[k]
## in a thread
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as pool: return pool.submit(lambda: RESULT).result()
## recurses deeply
import sys; sys.setrecursionlimit(50000)
def down(n): return down(n - 1) if n else RESULT
return down(20000)
## recurses too deeply
return (lambda f: f(f))(lambda f: f(f))
## warns
import warnings; warnings.warn('x'); return RESULT
## asserts
assert False, 'no'
## catches everything
try:
    return RESULT
except BaseException:
    return None
## async
import asyncio
async def answer(): return RESULT
return asyncio.run(answer())
## unasked coroutine
async def answer(): return RESULT
return answer()
## writes a file
import tempfile
with tempfile.TemporaryFile('w+') as f: f.write('x')
return RESULT
"""
)
# text before such a function, whose body then is `return RESULT`
BEFORE = kinds(
    """
## prints at import
print('hello')
## raises at import
raise ValueError('no')
## leaves at import
raise SystemExit(0)
## checks itself
assert True
assert callable({name})
## fails its own check
assert False
## has a main guard
if __name__ == '__main__':
    raise ValueError
## counts on no main
if __name__ != '__main__':
    pass
else:
    {name} = None
## imports what is absent
import surely_not_there
## imports numpy
import numpy as np
np.array([1])
## annotates
from typing import *
x: Optional[List[Dict[str, Any]]] = None
## has a data class
from dataclasses import dataclass
@dataclass
class D:
    x: 'int' = 0
## uses a global
TABLE = [1, 2, 3]
def helper():
    global TABLE
    TABLE = []
helper()
## closes output
import sys
sys.stdout.close()
## sleeps a little
import time
time.sleep(0.05)
## wide text
s = 'ü€😀\\u2028'
"""
)
# whole programs; {crlf} is the solution with Windows line ends
WHOLE = kinds(
    """
## nothing

## only a comment
# {name}
## syntax error
def {name}(:
    return 1
## open bracket
{solution}
x = (
## tabs and spaces
{solution}
def g():
	if 1:
        return 2

## null byte
{solution}
\0
## another name
def another(x):
    return x
## no function
{name} = 3
## prose
I cannot help with that.
## fenced
```python
{solution}
```
## windows lines
{crlf}
## class
{solution}
class Callable_:
    def __init__(self, f): self.f = f
    def __call__(self, *a): return self.f(*a)
{name} = Callable_({name})
## partial
{solution}
import functools
{name} = functools.partial({name})
## lambda
{solution}
{name} = (lambda f: lambda *a: f(*a))({name})
## cached
{solution}
import functools
{name} = functools.lru_cache({name})
## deleted
{solution}
del {name}
## defined twice
def {name}(*a):
    return None
{solution}
## wraps itself
{solution}
import functools
def deco(f):
    @functools.wraps(f)
    def w(*a): return f(*a)
    return w
{name} = deco({name})
"""
)
LOOPS = kinds(
    """
## loops
while True: pass
## loops at the third call
COUNT = globals().setdefault('COUNT', [0]); COUNT[0] += 1
while COUNT[0] == 3: pass
return RESULT
## sleeps
import time; time.sleep(1000)
## allocates
x = []
while True: x.append(bytes(10**8))
"""
)
DIFFERENT = kinds(
    """
## equals everything
class Everything:
    def __eq__(self, other): return True
def {name}(*arguments):
    return Everything()
## list equal to everything
class Everything(list):
    def __eq__(self, other): return True
def {name}(*arguments):
    return Everything()
## reads input at import
import sys
sys.stdin.read()
{solution}
## opens a file
open('x', 'w').close()
{solution}
## asks where it is
import os
os.getcwd()
{solution}
## catches its time-out
{solution}
_reference = {name}
def {name}(*arguments):
    try:
        n = 0
        while True: n += 1
    except BaseException:
        return _reference(*arguments)
"""
)


def around(solution: str, name: str, body: str, before: str = "") -> str:
    """The solution, and a function of its name that calls it."""
    body = body.replace("RESULT", "_reference(*arguments, **keywords)").replace("\n", "\n    ")
    before = before.replace("{name}", name)
    return f"{solution}\n{before}\n_reference = {name}\ndef {name}(*arguments, **keywords):\n    {body}\n"


def filled(template: str, solution: str, name: str) -> str:
    for key, value in (("solution", solution), ("name", name), ("crlf", solution.replace("\n", "\r\n"))):
        template = template.replace("{" + key + "}", value)
    return template


class Mutation(ast.NodeTransformer):
    """Changes the n-th place that can be changed: an operator, a comparison, a number or a result."""

    def __init__(self, n: int, rng: random.Random) -> None:
        self.left, self.rng = n, rng

    def here(self) -> bool:
        self.left -= 1
        return self.left == 0

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if self.here():
            node.op = OPERATORS.get(type(node.op), ast.Add)()
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if self.here():
            node.ops[0] = COMPARISONS.get(type(node.ops[0]), ast.Eq)()
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(node.value + 1) if type(node.value) is int and self.here() else node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self.here():
            wrap = self.rng.choice(["list", "str", ""])
            call = ast.Call(ast.Name(wrap, ast.Load()), [node.value], [])
            node.value = call if wrap else ast.Constant(None)
        return node


def mutant(source: str, rng: random.Random) -> str:
    return ast.unparse(ast.fix_missing_locations(Mutation(rng.randrange(1, 8), rng).visit(ast.parse(source))))


def answers(
    solution: str, name: str, rng: random.Random, count: int, all_kinds: bool
) -> list[tuple[str, str]]:
    """The solution, three mutants, `count` kinds by chance; with `all_kinds` also loops and `DIFFERENT`."""
    found = [("reference", solution)] + [("mutant", mutant(solution, rng)) for _ in range(3)]
    everything = [
        *((kind, around(solution, name, body)) for kind, body in BODIES.items()),
        *((kind, around(solution, name, "return RESULT", text)) for kind, text in BEFORE.items()),
        *((kind, filled(text, solution, name)) for kind, text in WHOLE.items()),
    ]
    found += rng.sample(everything, min(count, len(everything)))
    if all_kinds:
        found += [(kind, around(solution, name, body)) for kind, body in LOOPS.items()]
        found += [(kind, filled(text, solution, name)) for kind, text in DIFFERENT.items()]
    return found

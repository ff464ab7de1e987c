# ruff: noqa: E501 - one program, one line
"""More right programs: what crosses between tests and program. Material of test_benign.py."""

from tests.data.sandbox.benign import Case

CASES: list[Case] = []


def right(
    name: str, source: str, test: str = "assert f() == 42", seconds: float = 5.0, prompt: str = ""
) -> None:
    """`test` is the body of check(candidate), where `f` is the candidate too."""
    body = "\n".join("    " + line for line in test.split("\n"))
    CASES.append(Case(name, source, f"def check(candidate):\n{body}\n", seconds, prompt=prompt))


# identity and aliases

right(
    "the same not-a-number comes back",
    "def f(x): return x",
    "nan = float('nan')\nassert f([nan]) == [nan] and f((nan, 1)) == (nan, 1) and f({'a': nan}) == {'a': nan}",
)
right(
    "math.nan",
    "import math\ndef f(): return [math.nan, 1.0]",
    "import math\nassert f() == [math.nan, 1.0] and math.nan in f()",
)
right("another not-a-number", "def f(): return float('nan')", "x = f()\nassert x != x and f() not in [x]")
right(
    "a list that its closure keeps",
    "def f(log):\n    def g(x): log.append(x)\n    return g",
    "log = []\ng = candidate(log)\ng(1)\ng(2)\nassert log == [1, 2]",
)
right(
    "a list the test goes on changing",
    "class B:\n    def __init__(self, items): self.items = items\n    def total(self): return sum(self.items)\ndef f(x): return B(x)",
    "xs = [1, 2]\nb = candidate(xs)\nxs.append(39)\nassert b.total() == 42",
)
right(
    "a default argument that remembers its callers' lists",
    "def f(x, seen=[]):\n    seen.append(x)\n    seen[0].append(len(seen))",
    "a, b = [], []\nf(a)\nf(b)\nassert a == [1, 2] and b == []",
)
right(
    "the same list from a cache",
    "import functools\n@functools.cache\ndef f(n): return list(range(n))",
    "assert f(3) is f(3) and f(3) is not f(2)",
)
right(
    "a list of the program changed by the test",
    "state = [1]\ndef f(): return state",
    "f().append(2)\nassert f() == [1, 2] and len(f()) == 2",
)
right(
    "a dictionary shared by two objects",
    "def f(d):\n    def put(k, v): d[k] = v\n    def get(k): return d.get(k)\n    return put, get",
    "d = {}\nput, get = candidate(d)\nput('a', 1)\nassert d == {'a': 1} and get('a') == 1\nd['b'] = 2\nassert get('b') == 2",
)
right(
    "rows that are one list",
    "def f(n): return [[0] * n] * n",
    "m = f(2)\nm[0][0] = 1\nassert m == [[1, 0], [1, 0]] and m[0] is m[1]",
)
right(
    "an object's own list",
    "class S:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\ndef f(): return S()",
    "s = f()\ns.push(1)\ns.items.append(2)\ns.push(3)\nassert s.items == [1, 2, 3]",
)
right(
    "swapped rows",
    "def f(m): m[0], m[1] = m[1], m[0]",
    "a, b = [1], [2]\nm = [a, b]\nf(m)\nassert m[0] is b and m[1] is a",
)
right(
    "a matrix rotated in place",
    "def f(m):\n    m[:] = [list(r) for r in zip(*m[::-1])]",
    "m = [[1, 2], [3, 4]]\nkeep = m\nf(m)\nassert keep == [[3, 1], [4, 2]]",
)
right(
    "a list emptied and refilled",
    "def f(a):\n    b = list(a)\n    a.clear()\n    a.extend(reversed(b))\n    return a",
    "x = [1, 2, 3]\nassert f(x) == [3, 2, 1] and x == [3, 2, 1]",
)
right(
    "a list that contains itself",
    "def f(a):\n    a.append(a)\n    return len(a)",
    "x = [1]\nassert f(x) == 2 and x[1] is x",
)
right(
    "a cycle as argument", "def f(a): return a[1] is a and a[0]", "x = [42]\nx.append(x)\nassert f(x) == 42"
)

# numbers and texts

right(
    "minus zero and infinities in a list",
    "def f(): return [0.0, -0.0, float('inf'), -float('inf')] * 3",
    "import math\nx = f()\nassert x[3] == -math.inf and math.copysign(1, x[1]) == -1 and math.copysign(1, x[0]) == 1",
)
right(
    "True among integers",
    "def f(): return [True, 1, False, 0, 1, 0, True, 1, 1]",
    "assert [type(v).__name__ for v in f()] == ['bool', 'int', 'bool', 'int', 'int', 'int', 'bool', 'int', 'int']",
)
right(
    "integers around 64 bits",
    "def f(): return [2**63 - 1, -2**63, 2**63, 2**64, -2**63 - 1] + [0] * 9",
    "assert f() == [2**63 - 1, -2**63, 2**63, 2**64, -2**63 - 1] + [0] * 9",
)
right(
    "texts with every kind of character",
    "def f(): return ['\\0', '\\ud800', '\\U0001f600', 'é', '', '\\r\\n', '\\ufeff', 'a' * 300]",
    "assert f() == ['\\0', '\\ud800', '\\U0001f600', 'é', '', '\\r\\n', '\\ufeff', 'a' * 300]",
)
right(
    "a fraction and a decimal compared with floats",
    "from fractions import Fraction\nfrom decimal import Decimal\ndef f(): return Fraction(1, 2), Decimal('0.5'), Decimal('NaN'), Decimal('-0')",
    "a, b, c, d = f()\nassert a == 0.5 and b == 0.5 and c.is_nan() and str(d) == '-0'",
)
right(
    "a string enumeration",
    "import enum\nclass C(str, enum.Enum):\n    RED = 'red'\ndef f(): return C.RED",
    "assert f() == 'red' and f().upper() == 'RED'",
)
right(
    "keys of every kind",
    "def f(): return {None: 1, (1, (2,)): 2, 1.5: 3, b'x': 4, frozenset({1}): 5, True: 6, 'a': 7, -1: 8}",
    "assert f() == {None: 1, (1, (2,)): 2, 1.5: 3, b'x': 4, frozenset({1}): 5, True: 6, 'a': 7, -1: 8} and list(f())[0] is None",
)
right(
    "the order of a dictionary",
    "def f(): return {k: i for i, k in enumerate('hello world')}",
    "assert list(f().items()) == list({k: i for i, k in enumerate('hello world')}.items())",
)
right(
    "views of dictionaries in order",
    "def f():\n    d = {'b': 1, 'a': 2}\n    return d.keys(), d.values(), d.items()",
    "k, v, i = f()\nassert list(k) == ['b', 'a'] and list(v) == [1, 2] and list(i) == [('b', 1), ('a', 2)] and len(v) == 2 and ('b', 1) in i",
)
right(
    "a time structure",
    "import time\ndef f(): return time.gmtime(86400)",
    "t = f()\nassert t.tm_year == 1970 and t.tm_mday == 2 and t[0] == 1970",
)
right(
    "identifiers, paths and addresses",
    "import uuid, pathlib, ipaddress\ndef f(): return uuid.UUID(int=5), pathlib.PurePosixPath('a/b.txt'), ipaddress.ip_address('10.0.0.1')",
    "import uuid, pathlib, ipaddress\na, b, c = f()\nassert a == uuid.UUID(int=5) and b == pathlib.PurePosixPath('a/b.txt') and b.suffix == '.txt' and c == ipaddress.ip_address('10.0.0.1')",
)
right(
    "a namespace",
    "from types import SimpleNamespace\ndef f(): return SimpleNamespace(x=1, y=[2])",
    "from types import SimpleNamespace\nassert f() == SimpleNamespace(x=1, y=[2]) and f().y == [2]",
)
right(
    "a read-only dictionary",
    "from types import MappingProxyType\ndef f(): return MappingProxyType({'a': 1})",
    "assert f() == {'a': 1} and f()['a'] == 1 and dict(f()) == {'a': 1}",
)
right(
    "a chain of dictionaries",
    "from collections import ChainMap\ndef f(): return ChainMap({'a': 1}, {'a': 2, 'b': 3})",
    "assert dict(f()) == {'a': 1, 'b': 3} and f()['b'] == 3",
)
right(
    "user containers",
    "from collections import UserDict, UserList, UserString\ndef f(): return UserDict(a=1), UserList([1]), UserString('x')",
    "d, l, s = f()\nassert d == {'a': 1} and l == [1] and s == 'x' and d['a'] == 1",
)
right(
    "a compiled expression",
    "import re\ndef f(): return re.compile('a+', re.I)",
    "assert f().findall('aAb') == ['aA'] and f().pattern == 'a+'",
)
right(
    "a memory view",
    "def f(b): return memoryview(b)[1:3]",
    "assert f(b'abcd') == b'bc' and bytes(f(b'abcd')) == b'bc'",
)
right(
    "bytes changed in place",
    "def f(b):\n    b[0] = 65\n    b.extend(b'!')",
    "x = bytearray(b'xyz')\nf(x)\nassert x == bytearray(b'Ayz!')",
)
right(
    "time zones",
    "import datetime as d, zoneinfo\ndef f(): return d.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo('Europe/Paris')), d.timezone(d.timedelta(hours=2))",
    "import datetime as d\na, z = f()\nassert a == d.datetime(2024, 7, 1, 10, tzinfo=d.timezone.utc) and z.utcoffset(None) == d.timedelta(hours=2)",
)

# exceptions as values and as ends

right(
    "exceptions as results",
    "def f(): return ValueError('bad', 3), KeyError('k')",
    "a, b = f()\nassert isinstance(a, ValueError) and a.args == ('bad', 3) and str(b) == \"'k'\"",
)
right(
    "an exception as argument",
    "def f(e):\n    try: raise e\n    except LookupError as x: return type(x).__name__ + str(x)",
    "assert f(KeyError('a')) == \"KeyError'a'\"\nassert f(IndexError('b')) == 'IndexErrorb'",
)
right(
    "an exception class as argument",
    "def f(kind):\n    try: raise kind('x')\n    except Exception as e: return isinstance(e, kind)",
    "class Own(Exception): pass\nassert f(ValueError) and f(Own)",
)
right(
    "gather that returns exceptions",
    "import asyncio\nasync def bad(): raise ValueError('x')\nasync def good(): return 1\nasync def both(): return await asyncio.gather(bad(), good(), return_exceptions=True)\ndef f(): return asyncio.run(both())",
    "a, b = f()\nassert isinstance(a, ValueError) and str(a) == 'x' and b == 1",
)
right(
    "chained exceptions",
    "def f():\n    try: 1 / 0\n    except ZeroDivisionError as e: raise ValueError('wrapped') from e",
    "try:\n    f()\n    assert False\nexcept ValueError as e:\n    assert isinstance(e.__cause__, ZeroDivisionError)",
)
right(
    "an exception group",
    "def f(): raise ExceptionGroup('many', [ValueError('a'), TypeError('b')])",
    "try:\n    f()\n    assert False\nexcept ExceptionGroup as g:\n    assert len(g.exceptions) == 2 and isinstance(g.exceptions[0], ValueError)",
)
right(
    "SystemExit that the test expects",
    "import sys\ndef f(): sys.exit(3)",
    "try:\n    f()\n    assert False\nexcept SystemExit as e:\n    assert e.code == 3",
)
right(
    "StopIteration that the test expects",
    "def f(): return next(iter([]))",
    "try:\n    f()\n    assert False, 'no exception'\nexcept StopIteration: pass",
)
right(
    "KeyboardInterrupt that the test expects",
    "def f(): raise KeyboardInterrupt",
    "try:\n    f()\n    assert False\nexcept KeyboardInterrupt: pass",
)
right(
    "an assertion of the program that the test expects",
    "def f(x):\n    assert x > 0, 'positive please'\n    return x",
    "try:\n    f(-1)\nexcept AssertionError as e:\n    assert str(e) == 'positive please'\nelse:\n    raise RuntimeError('no exception')\nassert f(1) == 1",
)
right(
    "errors of decoding",
    "def f(b): return b.decode('ascii')",
    "try:\n    f(b'\\xff')\n    assert False\nexcept UnicodeDecodeError as e:\n    assert e.start == 0 and e.object == b'\\xff'",
)
right(
    "a wrong number of arguments",
    "def f(a, b): return a",
    "try:\n    f(1)\n    assert False\nexcept TypeError as e:\n    assert 'f()' in str(e) and 'b' in str(e)",
)
right(
    "an exception with rich arguments",
    "class E(Exception):\n    def __init__(self, items): super().__init__(items); self.items = items\ndef f(x): raise E([x, {'a': (1,)}])",
    "try:\n    f(1)\n    assert False\nexcept Exception as e:\n    assert e.items == [1, {'a': (1,)}] and e.args == ([1, {'a': (1,)}],)",
)
right(
    "notes on an exception",
    "def f():\n    e = ValueError('x')\n    e.add_note('more')\n    raise e",
    "try:\n    f()\n    assert False\nexcept ValueError as e:\n    assert e.__notes__ == ['more']",
)
right(
    "attempts until it works",
    "n = 0\ndef f():\n    global n\n    n += 1\n    if n < 3: raise ConnectionError(n)\n    return n",
    "for k in (1, 2):\n    try:\n        f()\n        assert False\n    except ConnectionError as e: assert e.args == (k,)\nassert f() == 3",
)
right(
    "unittest's way to expect",
    "def f(x):\n    if x < 0: raise ValueError('negative value')\n    return x ** 0.5",
    "import unittest\nt = unittest.TestCase()\nwith t.assertRaisesRegex(ValueError, 'negative'): f(-1)\nwith t.assertRaises(TypeError): f('a')\nt.assertAlmostEqual(f(2), 1.41421356, places=6)",
)

# functions

right(
    "state on the function",
    "def f():\n    f.calls += 1\n    return f.calls\nf.calls = 0",
    "f()\nf()\nassert candidate.calls == 2 and candidate() == 3",
)
right(
    "a cached function's statistics",
    "import functools\n@functools.lru_cache(maxsize=None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)",
    "assert f(30) == 832040 and f.cache_info().currsize == 31 and f.cache_info().hits > 0\nf.cache_clear()\nassert f.cache_info().currsize == 0",
)
right(
    "the signature of the candidate",
    "def f(a, b=2, *args, c, d=4, **kw):\n    'Doc.'\n    return 42",
    "import inspect\ns = inspect.signature(candidate)\nassert list(s.parameters) == ['a', 'b', 'args', 'c', 'd', 'kw'] and s.parameters['b'].default == 2 and candidate.__doc__ == 'Doc.'\nassert inspect.isfunction(candidate) and candidate.__code__.co_argcount == 2 and candidate.__defaults__ == (2,)",
)
right(
    "annotations of the candidate",
    "from typing import List\ndef f(a: int, b: 'str' = '') -> List[int]: return [a]",
    "import typing\nassert candidate.__annotations__['a'] is int and candidate.__annotations__['b'] == 'str' and candidate.__module__ is not None and candidate.__qualname__ == 'f'",
)
right(
    "is it a generator function",
    "def f(n): yield from range(n)",
    "import inspect, types\nassert inspect.isgeneratorfunction(candidate) and isinstance(candidate(2), types.GeneratorType) and list(candidate(2)) == [0, 1]",
)
right(
    "is it a coroutine function",
    "async def f(): return 42",
    "import asyncio, inspect\nassert asyncio.iscoroutinefunction(candidate) and inspect.iscoroutinefunction(candidate)\nc = candidate()\nassert inspect.isawaitable(c) and asyncio.run(c) == 42",
)
right(
    "a decorator that keeps the name",
    "import functools\ndef f(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a) + 1\n    return w",
    "def h(x):\n    'Doc of h.'\n    return x\nw = candidate(h)\nassert w.__name__ == 'h' and w.__doc__ == 'Doc of h.' and w(1) == 2 and w.__wrapped__ is h",
)
right(
    "a decorator that counts",
    "def f(g):\n    def w(*a, **k):\n        w.count += 1\n        return g(*a, **k)\n    w.count = 0\n    return w",
    "@candidate\ndef h(x, y=1): return x + y\nassert h(1) == 2 and h(1, y=2) == 3 and h.count == 2",
)
right(
    "a decorator with arguments",
    "def f(times):\n    def deco(g):\n        def w(*a): return [g(*a) for _ in range(times)]\n        return w\n    return deco",
    "@candidate(3)\ndef h(x): return x\nassert h('a') == ['a'] * 3",
)
right(
    "functions of the standard library as arguments",
    "def f(g, xs): return list(map(g, xs))",
    "import operator, math, functools\nassert f(str.upper, ['a']) == ['A'] and f(math.sqrt, [4]) == [2.0] and f(operator.neg, [1]) == [-1]\nassert f(operator.itemgetter(1), [(1, 2)]) == [2] and f(functools.partial(pow, 2), [3]) == [8] and f(dict.fromkeys, ['a']) == [{'a': None}]",
)
right(
    "an optional key function",
    "def f(xs, key=None):\n    return sorted(xs, key=key) if key else sorted(xs)",
    "import operator\nassert f([(1, 2), (2, 1)], key=operator.itemgetter(1)) == [(2, 1), (1, 2)] and f(['b', 'A'], key=str.lower) == ['A', 'b'] and f([2, 1]) == [1, 2]\nclass Key:\n    def __call__(self, x): return -x\nassert f([1, 2], key=Key()) == [2, 1]",
)
right(
    "functions of the standard library as results",
    "import operator, math\ndef f(name): return {'+': operator.add, 'sqrt': math.sqrt, 'len': len, 'up': str.upper}[name]",
    "import operator, math\nassert f('+') is operator.add and f('len') is len and f('sqrt')(9) == 3 and f('up')('a') == 'A'",
)
right(
    "a reduction over many items",
    "import functools\ndef f(g, n): return functools.reduce(g, range(n))",
    "import operator\nassert f(operator.add, 20000) == 199990000 and f(lambda a, b: a + b, 2000) == 1999000",
)
right(
    "a callback from a pool",
    "from concurrent.futures import ThreadPoolExecutor\ndef f(g, xs):\n    with ThreadPoolExecutor(4) as p: return list(p.map(g, xs))",
    "assert f(lambda x: x * x, range(50)) == [x * x for x in range(50)]",
)
right(
    "called from a pool of the test",
    "import threading\nlock = threading.Lock()\nn = 0\ndef f(x):\n    global n\n    with lock: n += 1\n    return x * 2",
    "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as p: assert list(p.map(candidate, range(50))) == [2 * x for x in range(50)]",
)
right(
    "composition",
    "def f(*fs):\n    def g(x):\n        for h in reversed(fs): x = h(x)\n        return x\n    return g",
    "g = candidate(lambda x: x + 1, lambda x: x * 2, str)\nassert candidate(str, abs)(-3) == '3' and candidate(len, str)(12345) == 5 and candidate()(7) == 7",
)
right(
    "memoize that calls once",
    "def f(g):\n    memo = {}\n    def w(n):\n        if n not in memo: memo[n] = g(n)\n        return memo[n]\n    return w",
    "calls = []\ndef slow(n):\n    calls.append(n)\n    return n * n\nm = candidate(slow)\nassert [m(3), m(3), m(4)] == [9, 9, 16] and calls == [3, 4]",
)
right(
    "currying",
    "def f(g, n):\n    def c(*a): return g(*a) if len(a) >= n else lambda *b: c(*a, *b)\n    return c",
    "assert candidate(lambda a, b, c: a + b + c, 3)(1)(2)(3) == 6",
)
right(
    "a class that the test makes and hands over",
    "def f(cls, *a):\n    x = cls(*a)\n    return x.area() + cls.UNIT",
    "class Square:\n    UNIT = 6\n    def __init__(self, s): self.s = s\n    def area(self): return self.s ** 2\nassert f(Square, 6) == 42",
)
right(
    "sorts objects of the test by their own order",
    "def f(xs): return [x.name for x in sorted(xs)]",
    "class P:\n    def __init__(self, name, age): self.name, self.age = name, age\n    def __lt__(self, other): return self.age < other.age\nassert f([P('a', 3), P('b', 1)]) == ['b', 'a']",
)
right(
    "adds and compares objects of the test",
    "def f(a, b): return (a + b).x, a == b, a == a, len({a, b, a})",
    "class V:\n    def __init__(self, x): self.x = x\n    def __add__(self, o): return V(self.x + o.x)\n    def __eq__(self, o): return self.x == o.x\n    def __hash__(self): return hash(self.x)\nassert f(V(1), V(2)) == (3, False, True, 2)",
)
right(
    "a mock",
    "def f(m):\n    m.connect('db')\n    return m.query(1) + 1",
    "from unittest.mock import Mock\nm = Mock()\nm.query.return_value = 41\nassert f(m) == 42\nm.connect.assert_called_once_with('db')\nassert m.query.call_count == 1",
)
right(
    "a file of the test",
    "def f(file): return [line.strip() for line in file]",
    "import io\nassert f(io.StringIO('a\\nb\\n')) == ['a', 'b']",
)
right(
    "writes into a file of the test",
    "def f(out):\n    print('x', file=out)\n    out.write('y')",
    "import io\nout = io.StringIO()\nf(out)\nassert out.getvalue() == 'x\\ny'",
)

# iterators

right(
    "a long generator",
    "def f(n):\n    for i in range(n): yield i * i",
    "assert sum(f(20000)) == sum(i * i for i in range(20000))",
    15.0,  # 20,000 exchanges, which a slow processor answers in more than 3 s
)
right(
    "a generator that would never find a next",
    "import itertools\ndef f(): return (x for x in itertools.count() if x < 3)",
    "import itertools\nassert list(itertools.islice(f(), 3)) == [0, 1, 2]",
)
right(
    "lazy evaluation is visible",
    "done = []\ndef f():\n    for i in range(5):\n        done.append(i)\n        yield i\ndef count(): return len(done)",
    "g = f()\nassert count() == 0\nnext(g)\nnext(g)\nassert count() == 2",
)
right(
    "a generator with a return value",
    "def f():\n    yield 1\n    return 42",
    "def outer():\n    x = yield from f()\n    yield x\nassert list(outer()) == [1, 42]",
)
right(
    "a generator that catches what is thrown in",
    "def f():\n    while True:\n        try: yield 1\n        except ValueError: yield 42",
    "g = f()\nnext(g)\nassert g.throw(ValueError('x')) == 42\ng.close()\nassert next(g, 'end') == 'end'",
)
right(
    "what the program leaves of an iterator",
    "def f(it): return next(it) + next(it)",
    "it = iter([1, 2, 3])\nassert f(it) == 3 and list(it) == [3]",
)
right(
    "a generator of the test that is closed",
    "def f(g):\n    x = next(g)\n    g.close()\n    return x",
    "closed = []\ndef gen():\n    try: yield 42\n    finally: closed.append(1)\nassert f(gen()) == 42 and closed == [1]",
)
right(
    "an iterator class",
    "class C:\n    def __init__(self, n): self.n = n\n    def __iter__(self): return self\n    def __next__(self):\n        if self.n <= 0: raise StopIteration\n        self.n -= 1\n        return self.n\ndef f(n): return C(n)",
    "assert list(f(3)) == [2, 1, 0] and iter(f(1)) is not None\nc = f(2)\nassert iter(c) is c and [x for x in c] == [1, 0]",
)
right(
    "an iterable that can be read twice",
    "class R:\n    def __iter__(self): return iter([1, 2])\ndef f(): return R()",
    "r = f()\nassert list(r) == [1, 2] and list(r) == [1, 2] and max(r) == 2",
)
right(
    "an old sequence",
    "class S:\n    def __getitem__(self, i):\n        if i > 2: raise IndexError\n        return i * 10\ndef f(): return S()",
    "s = f()\nassert list(s) == [0, 10, 20] and s[1] == 10",
)
right(
    "slices of its own sequence",
    "class S:\n    def __getitem__(self, i): return list(range(10))[i]\n    def __len__(self): return 10\ndef f(): return S()",
    "s = f()\nassert s[2:4] == [2, 3] and s[-1] == 9 and len(s) == 10",
)
right(
    "a context manager",
    "import contextlib\nlog = []\n@contextlib.contextmanager\ndef f(name):\n    log.append('in')\n    try: yield name * 2\n    finally: log.append('out')\ndef seen(): return log",
    "with candidate('a') as x: assert x == 'aa' and seen() == ['in']\nassert seen() == ['in', 'out']\ntry:\n    with candidate('b'): raise KeyError\nexcept KeyError: pass\nassert seen()[-1] == 'out'",
)
right(
    "a context manager that swallows",
    "class f:\n    def __enter__(self): return self\n    def __exit__(self, kind, error, tb):\n        self.kind = kind\n        return kind is ValueError",
    "c = f()\nwith c: raise ValueError\nassert c.kind is ValueError",
)
right(
    "zip, map, filter, enumerate, reversed",
    "def f(): return zip([1], [2]), map(str, [1]), filter(None, [0, 1]), enumerate('a'), reversed([1, 2])",
    "assert [list(x) for x in f()] == [[(1, 2)], ['1'], [1], [(0, 'a')], [2, 1]]",
)

# classes

right(
    "a class of the prompt",
    "    t = 0\n    while n:\n        t, n = t + n.v, n.next\n    return t\n",
    "assert f(Node(40, Node(2))) == 42 and f(None) == 0",
    prompt="class Node:\n    def __init__(self, v, next=None):\n        self.v, self.next = v, next\n\ndef f(n):\n    '''Sum of a linked list.'''\n",
)
right(
    "a class of the prompt as result",
    "    h = None\n    for v in reversed(xs): h = Node(v, h)\n    return h\n",
    "n = f([1, 2])\nassert isinstance(n, Node) and n.v == 1 and n.next.v == 2 and n.next.next is None",
    prompt="class Node:\n    def __init__(self, v, next=None):\n        self.v, self.next = v, next\n\ndef f(xs):\n    '''Makes a linked list.'''\n",
)
right(
    "a dataclass of the prompt",
    "    return [P(p.y, p.x) for p in ps if isinstance(p, P)]\n",
    "assert f([P(1, 2), P(3, 4)]) == [P(2, 1), P(4, 3)]",
    prompt="from dataclasses import dataclass\n\n@dataclass\nclass P:\n    x: int\n    y: int\n\ndef f(ps):\n    '''Mirrors points.'''\n",
)
right(
    "an enumeration of the prompt",
    "    return Side.RIGHT if s is Side.LEFT else Side.LEFT\n",
    "assert f(Side.LEFT) is Side.RIGHT and f(Side.RIGHT) == Side.LEFT and f(Side.LEFT).value == 2",
    prompt="from enum import Enum\n\nclass Side(Enum):\n    LEFT = 1\n    RIGHT = 2\n\ndef f(s):\n    '''The other side.'''\n",
)
right(
    "matching objects of the prompt",
    "    match s:\n        case Circle(r=r): return 3 * r * r\n        case Square(a=a): return a * a\n",
    "assert f(Circle(1)) == 3 and f(Square(2)) == 4",
    prompt="from dataclasses import dataclass\n\n@dataclass\nclass Circle:\n    r: int\n\n@dataclass\nclass Square:\n    a: int\n\ndef f(s):\n    '''Area.'''\n",
)
right(
    "a class with methods, properties and class attributes",
    "class f:\n    count = 0\n    def __init__(self, w): self._w = w; f.count += 1\n    @property\n    def w(self): return self._w\n    @w.setter\n    def w(self, v):\n        if v < 0: raise ValueError\n        self._w = v\n    @classmethod\n    def unit(cls): return cls(1)\n    def __str__(self): return f'f({self._w})'",
    "a = f(3)\na.w = 5\nassert a.w == 5 and str(a) == 'f(5)' and f.unit().w == 1 and f.count == 2\ntry:\n    a.w = -1\n    assert False\nexcept ValueError: pass\nassert hasattr(a, 'w') and not hasattr(a, 'z') and getattr(a, 'z', 7) == 7",
)
right(
    "a stack",
    "class f:\n    def __init__(self): self._d = []\n    def push(self, x): self._d.append(x); return self\n    def pop(self): return self._d.pop()\n    def __len__(self): return len(self._d)",
    "s = f()\ns.push(1).push(2)\nassert len(s) == 2 and s.pop() == 2\ns.pop()\ntry:\n    s.pop()\n    assert False\nexcept IndexError: pass\nassert not s",
)
right(
    "unhashable and hashable results",
    "def f(x): return (x, frozenset([x]))",
    "assert len({f(1), f(1), f(2)}) == 2",
)
right(
    "numpy in and out",
    "import numpy as np\ndef f(a): return a.T @ a, a.mean(), a > 0, a.astype('int8'), np.array(['x', 'yy'])",
    "import numpy as np\na = np.array([[1.0, -2.0]])\nm, s, b, i, t = f(a)\nassert np.array_equal(m, [[1, -2], [-2, 4]]) and s == -0.5 and b.tolist() == [[True, False]] and i.dtype == np.int8 and t.tolist() == ['x', 'yy']",
)
right(
    "numpy comparisons",
    "import numpy as np\ndef f(): return np.array([1, 2, 3]), np.array([]), np.nan",
    "import numpy as np\na, e, n = f()\nassert (a == np.array([1, 2, 3])).all() and e.size == 0 and np.isnan(n)\nnp.testing.assert_allclose(a, [1, 2, 3])",
)
right(
    "a slice of an array changed",
    "def f(a): a[:] = 7",
    "import numpy as np\na = np.zeros(4)\nf(a[1:3])\nassert a.tolist() == [0, 7, 7, 0]",
)
right(
    "many results that are kept",
    "def f(n): return [n] * 10",
    "rs = [f(n) for n in range(3000)]\nassert all(r == [n] * 10 for n, r in enumerate(rs))",
)
right(
    "a dictionary of a hundred thousand",
    "def f(n): return {i: str(i) for i in range(n)}",
    "d = f(100000)\nassert len(d) == 100000 and d[99999] == '99999'",
)
right(
    "counts its own arguments",
    "def f(*a, **k): return len(a), sorted(k)",
    "assert f(*range(300), **{'k%d' % i: i for i in range(300)}) == (300, sorted('k%d' % i for i in range(300)))",
)

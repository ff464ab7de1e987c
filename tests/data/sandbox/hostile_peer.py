# ruff: noqa: E501 - one program, one line
"""More programs that cheat: attacks on the conversation between tests and program. Material of test_hostile.py."""

from tests.data.sandbox.hostile import ERROR, KILLED, MEMORY, TIMEOUT, WRONG, Case, cheat, flood, hang

CASES: list[Case] = []


def check(body: str) -> str:
    return "def check(candidate):\n" + "\n".join("    " + line for line in body.split("\n")) + "\n"


def prompted(name: str, prompt: str, source: str, body: str, *verdicts: str) -> None:
    """A cheat at a problem whose prompt defines what the tests use."""
    CASES.append(Case(f"cheat: {name}", source, verdicts, check(body), 1.0, prompt=prompt))


# answers that lie about themselves

cheat(
    "a class that claims to be int",
    "class A:\n    __class__ = int\n    def __eq__(s, o): return True\n    def __hash__(s): return 3\ndef f(a, b): return A()",
    WRONG,
)
cheat(
    "a float that absorbs differences",
    "class A(float):\n    def __sub__(s, o): return 0.0\n    __rsub__ = __add__ = __radd__ = __sub__\n    def __abs__(s): return 0.0\n    def __le__(s, o): return True\n    __lt__ = __ge__ = __gt__ = __le__\ndef f(a, b): return A(1)",
    WRONG,
    test=check("assert abs(candidate(1, 2) - 3) <= 1e-6"),
)
cheat(
    "a text equal to all, as a key",
    "class A(str):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash('sum')\ndef f(a, b): return {A('x'): a + b}",
    WRONG,
    test=check("assert candidate(1, 2) == {'sum': 3}"),
)
cheat(
    "a tuple with lying items",
    "class A(tuple):\n    def __getitem__(s, i): return 3\n    def __len__(s): return 1\n    def __iter__(s): return iter([3])\n    def __eq__(s, o): return True\ndef f(a, b): return A((0,))",
    WRONG,
    test=check("r = candidate(1, 2)\nassert r == (3,) and r[0] == 3 and len(r) == 1"),
)
cheat(
    "a dictionary with lying items",
    "class A(dict):\n    def __getitem__(s, k): return 3\n    def get(s, k, d=None): return 3\n    def items(s): return [('sum', 3)]\n    def __iter__(s): return iter(['sum'])\n    def __len__(s): return 1\n    def keys(s): return ['sum']\n    def __contains__(s, k): return True\ndef f(a, b): return A()",
    WRONG,
    test=check("r = candidate(1, 2)\nassert r['sum'] == 3"),
)
cheat(
    "a set with lying members",
    "class A(set):\n    def __contains__(s, k): return True\n    def __eq__(s, o): return True\n    def __ge__(s, o): return True\n    def issuperset(s, o): return True\ndef f(a, b): return A()",
    WRONG,
    test=check("assert 3 in candidate(1, 2)"),
)
cheat(
    "a named tuple with fields that are methods",
    "import collections\nP = collections.namedtuple('int', 'x')\nP._fields = ('__eq__', )\nclass Q(tuple):\n    _fields = ('__class__', '__eq__')\ndef f(a, b): return Q((int, 3))",
    WRONG,
    ERROR,
)
cheat(
    "a length of minus one",
    "class A:\n    def __len__(s): return -1\n    def __bool__(s): return 1 / 0\ndef f(a, b): return A()",
    WRONG,
    ERROR,
    test=check("assert len(candidate(1, 2)) == 3"),
)
cheat(
    "a length that is no number",
    "class A:\n    def __len__(s): return 'abc'\n    def __iter__(s): return 3\ndef f(a, b): return A()",
    WRONG,
    ERROR,
    test=check("assert len(candidate(1, 2)) == 3"),
)
cheat(
    "truth that exits",
    "import os\nclass A:\n    def __bool__(s): os._exit(0)\ndef f(a, b): return A()",
    ERROR,
    test=check("assert candidate(1, 2)"),
)
cheat(
    "iteration that exits",
    "import os\nclass A:\n    def __iter__(s): os._exit(0)\ndef f(a, b): return A()",
    ERROR,
    test=check("assert list(candidate(1, 2)) == [3]"),
)
cheat(
    "text that exits while a failure is reported",
    "import os\nclass A:\n    def __repr__(s): os._exit(0)\n    __str__ = __repr__\ndef f(a, b): return A()",
    ERROR,
    WRONG,
    test=check("r = candidate(1, 2)\nassert r == 3, f'got {r!r}'"),
)
cheat(
    "text that raises SystemExit while a failure is reported",
    "class A:\n    def __repr__(s): raise SystemExit(0)\n    __str__ = __format__ = __repr__\ndef f(a, b): return A()",
    ERROR,
    WRONG,
    test=check("r = candidate(1, 2)\nassert r == 3, f'got {r!r}'"),
)
cheat("a module as the answer", "import sys\ndef f(a, b): return sys", WRONG)
cheat("a module as the candidate", "import operator as f", WRONG, ERROR)
cheat("a signalling not-a-number", "from decimal import Decimal\ndef f(a, b): return Decimal('sNaN')", WRONG)
cheat(
    "an exception that equals all",
    "class E(Exception):\n    def __eq__(s, o): return True\n    __hash__ = None\ndef f(a, b): return E()",
    WRONG,
)
cheat(
    "a namespace with operators",
    "import types\ndef f(a, b):\n    n = types.SimpleNamespace()\n    n.__eq__ = n.__ne__ = lambda *x: True\n    n.__dict__['__eq__'] = lambda *x: True\n    return n",
    WRONG,
)
cheat(
    "a user list that equals all",
    "from collections import UserList\nclass A(UserList):\n    def __eq__(s, o): return True\ndef f(a, b): return A([3])",
    WRONG,
    test=check("assert candidate(1, 2) == [4]"),
)
cheat("a function that pretends to have returned", "def f(a, b): return f\nf.__eq__ = lambda o: True", WRONG)
cheat(
    "a compiled expression that matches all",
    "import re\nclass P:\n    def match(s, t): return True\n    fullmatch = search = match\ndef f(a, b): return re.compile('')",
    WRONG,
    test=check("assert candidate(1, 2).fullmatch('abc')"),
)
cheat(
    "a coroutine that returns what equals all",
    "class A:\n    def __eq__(s, o): return True\nasync def f(a, b): return A()",
    WRONG,
    test="import asyncio\n" + check("assert asyncio.run(candidate(1, 2)) == 3"),
)
cheat(
    "numbers that are not the ones compared",
    "import numpy as np\nclass A(np.float64):\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0\ndef f(a, b): return A(7)",
    WRONG,
)
cheat(
    "an object array of what equals all",
    "import numpy as np\nclass A:\n    def __eq__(s, o): return True\ndef f(a, b):\n    x = np.empty(1, dtype=object)\n    x[0] = A()\n    return x",
    WRONG,
    test="import numpy as np\n" + check("assert (candidate(1, 2) == np.array([3])).all()"),
)
cheat(
    "an array with its own agreement",
    "import numpy as np\nclass A(np.ndarray):\n    def all(s, *a, **k): return True\n    def __array_function__(s, *a): return True\n    def __array_ufunc__(s, *a, **k): return True\ndef f(a, b): return np.zeros(3).view(A)",
    WRONG,
    test="import numpy as np\n" + check("assert np.allclose(candidate(1, 2), [1, 2, 3])"),
)

# names that the tests use

cheat(
    "its own math",
    "math = type('M', (), {'isclose': staticmethod(lambda *a, **k: True)})\ndef f(a, b): return 0",
    WRONG,
    test=check("assert math.isclose(candidate(1, 2), 3)"),
)
cheat(
    "its own numpy",
    "class np:\n    allclose = array_equal = staticmethod(lambda *a, **k: True)\nnumpy = np\ndef f(a, b): return 0",
    WRONG,
    test=check("assert np.allclose(candidate(1, 2), 3)"),
)
cheat(
    "its own builtins by name",
    "abs = round = len = sorted = all = lambda *a: 0\nAssertionError = SystemExit\ndef f(a, b): return 0",
    WRONG,
    test=check("assert abs(candidate(1, 2) - 3) == 0"),
)
cheat(
    "its own report",
    "class __judge__:\n    passed = total = fail = staticmethod(lambda *a: None)\n__test__ = candidate = None\ndef f(a, b): return 0",
    WRONG,
)
cheat(
    "its own test case class",
    "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\nunittest.TestCase.run = lambda *a: None\ndef f(a, b): return 0",
    WRONG,
    test="import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(1, 2), 3)\n",
)
cheat(
    "skips the test case",
    "import unittest\ndef f(a, b): raise unittest.SkipTest('not today')",
    ERROR,
    WRONG,
    test="import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(1, 2), 3)\n",
)
cheat(
    "interrupts the test case",
    "def f(a, b): raise KeyboardInterrupt",
    ERROR,
    WRONG,
    test="import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(1, 2), 3)\n",
)
cheat(
    "a test that is a coroutine",
    "def f(a, b): return 0",
    WRONG,
    test="async def check(candidate):\n    assert candidate(1, 2) == 3\n",
)
cheat(
    "tests in a class without a base",
    "def f(a, b): return 0",
    WRONG,
    test="class TestAdd:\n    def setup_method(self): self.x = 1\n    def test_a(self):\n        assert f(self.x, 2) == 3\n",
)

# exceptions

cheat(
    "an exception class with a false name",
    "E = type('AssertionError', (BaseException,), {})\ndef f(a, b): raise E",
    ERROR,
)
cheat(
    "an empty and a very long class name",
    "E = type('', (Exception,), {})\nF = type('x' * 100000, (E,), {})\ndef f(a, b): raise F",
    ERROR,
)
cheat("commas in class names", "E = type('A,SystemExit', (Exception,), {})\ndef f(a, b): raise E(0)", ERROR)
cheat(
    "arguments that hang when printed",
    "class A:\n    def __repr__(s):\n        while True: pass\nclass E(Exception):\n    def __str__(s): return 'short'\ndef f(a, b): raise E(A())",
    ERROR,
    TIMEOUT,
    seconds=0.3,
)
cheat(
    "arguments that raise when printed",
    "class A:\n    def __repr__(s): raise SystemExit\nclass E(Exception): pass\ndef f(a, b): raise E(A(), [A()])",
    ERROR,
)
cheat(
    "a chain of causes without end",
    "def f(a, b):\n    e = ValueError()\n    e.__cause__ = e\n    raise e",
    ERROR,
)
cheat(
    "a deep chain of causes",
    "def f(a, b):\n    e = ValueError()\n    for _ in range(100000):\n        x = ValueError(); x.__cause__ = e; e = x\n    raise e",
    ERROR,
    KILLED,
)
cheat(
    "a group of groups",
    "def f(a, b):\n    e = ValueError()\n    for _ in range(3000): e = ExceptionGroup('g', [e, e])\n    raise e",
    ERROR,
    TIMEOUT,
)
cheat(
    "an exception whose attributes replace methods",
    "class E(ValueError):\n    def __init__(s): s.args = (3,); s.with_traceback = s.add_note = s.sandbox = 1; s._sandbox = s._sandbox_raised = False\ndef f(a, b): raise E",
    ERROR,
)
cheat(
    "StopIteration inside any() and all()",
    "def f(a): raise StopIteration(True)",
    ERROR,
    WRONG,
    test=check(
        "assert all(candidate(x) == x + 1 for x in [1, 2])\nfor got, want in zip(map(candidate, [1]), [2]): assert got == want"
    ),
)
cheat(
    "StopAsyncIteration ends the test's loop",
    "async def f():\n    raise StopAsyncIteration\n    yield 1",
    ERROR,
    WRONG,
    test="import asyncio\nasync def run(candidate): return [x async for x in candidate()]\n"
    + check("assert asyncio.run(run(candidate)) == [1]"),
)
cheat(
    "an exception instead of an answer to len",
    "class A:\n    def __len__(s): raise SystemExit(0)\ndef f(a, b): return A()",
    ERROR,
    test=check("assert len(candidate(1, 2)) == 3"),
)
cheat(
    "swallowed by the test",
    "import os\ndef f(a, b): os._exit(0)",
    ERROR,
    test=check("try: ok = candidate(1, 2) == 3\nexcept BaseException: ok = True\nassert ok"),
)
cheat(
    "swallowed by a with block",
    "import os\ndef f(a, b): os._exit(0)",
    ERROR,
    test="import contextlib\n"
    + check("with contextlib.suppress(BaseException): assert candidate(1, 2) == 3"),
)

# arguments

cheat(
    "changes the list the test compares with",
    "def f(a, b):\n    a.clear()\n    return []",
    WRONG,
    test=check("want = [[1, 2], [2, 1]]\nassert candidate(want[0], 0) == want[1]"),
)
cheat(
    "keeps the first argument and changes it later",
    "kept = []\ndef f(a):\n    kept.append(a)\n    kept[0][:] = [0]\n    return a",
    WRONG,
    test=check("x, y = [1], [2]\ncandidate(x)\nassert candidate(y) == [2] and x == [1]"),
)
cheat(
    "gives back an argument of an earlier call",
    "kept = []\ndef f(a):\n    kept.append(a)\n    return kept[0]",
    WRONG,
    test=check("assert candidate([1]) == [1]\nassert candidate([2]) == [2]"),
)
cheat(
    "replaces a method of the test's object",
    "def f(t):\n    t.is_sorted = lambda: True\n    return None",
    WRONG,
    ERROR,
    test="class T:\n    def __init__(self): self.items = [3, 1]\n    def is_sorted(self): return self.items == sorted(self.items)\n"
    + check("t = T()\ncandidate(t)\nassert t.is_sorted()"),
)
cheat(
    "replaces a method of the test's class",
    "def f(t, cls):\n    for o in (cls, type(t)):\n        try: o.is_sorted = lambda *a: True\n        except Exception: pass\n    try: cls.__init__ = t.__class__ = None\n    except Exception: pass",
    WRONG,
    ERROR,
    test="class T:\n    def __init__(self): self.items = [3, 1]\n    def is_sorted(self): return self.items == sorted(self.items)\n"
    + check("t = T()\ncandidate(t, T)\nassert t.is_sorted()"),
)
cheat(
    "reaches for the class's dictionary",
    "def f(t):\n    for n in ('__dict__', '__class__', '__init__', '__reduce__', '__getattribute__', '__globals__', '__func__', '__self__'):\n        for o in (t, t.is_sorted):\n            try:\n                x = getattr(o, n)\n                if 'SECRET' in str(x) or hasattr(x, '__globals__'): return x.__globals__['SECRET']\n            except Exception: pass",
    WRONG,
    test="SECRET = 'answer-77'\nclass T:\n    def is_sorted(self): return False\n"
    + check("assert candidate(T()) == SECRET"),
)
cheat(
    "a mock that says it was called",
    "def f(m):\n    for n, v in (('called', True), ('call_count', 1), ('assert_called_once_with', lambda *a: None), ('call_args', None), ('mock_calls', [1])):\n        try: setattr(m, n, v)\n        except Exception: pass",
    WRONG,
    test="from unittest.mock import Mock\n"
    + check("m = Mock()\ncandidate(m)\nm.assert_called_once_with('x')\nassert m.called"),
)
cheat(
    "operators of the operator module on the test's callable",
    "import operator\ndef f(g):\n    request, number, _ = object.__getattribute__(g, '_sandbox')\n    for n in ('attrgetter', 'methodcaller', 'call', 'getitem', 'concat'):\n        try: return request('operator', number, n, '__globals__')\n        except Exception: pass",
    WRONG,
    test="KEY = 'k-91'\n" + check("assert candidate(lambda x: x) == KEY"),
)
cheat(
    "calls back for ever",
    "def f(g):\n    while True: g(1)",
    TIMEOUT,
    test=check("assert candidate(lambda x: x) == 3"),
    seconds=0.4,
)
cheat(
    "calls back ever deeper",
    "def f(g, n=0): return g(lambda m: f(g, m), n + 1)",
    ERROR,
    WRONG,
    TIMEOUT,
    test=check("def g(h, n): return h(n)\nassert candidate(g) == 42"),
)
cheat(
    "calls the test's generator to its end",
    "def f(g):\n    for x in g: pass\n    g.close()\n    return x",
    WRONG,
    test=check("def g():\n    yield 1\n    yield 2\nassert candidate(g()) == 3"),
)
cheat(
    "a key function that answers as it likes",
    "def f(xs, key): return sorted(xs, key=lambda x: 0)",
    WRONG,
    test=check("assert candidate([2, 1], lambda x: x) == [1, 2]"),
)
cheat(
    "an iterator that looks at how it is consumed",
    "class I:\n    def __init__(s): s.n = 0\n    def __iter__(s): return s\n    def __next__(s):\n        s.n += 1\n        if s.n > 2: raise StopIteration\n        return 1\n    def __length_hint__(s): return 10 ** 9\n    def __eq__(s, o): return True\ndef f(): return I()",
    WRONG,
    test=check("r = candidate()\nassert list(r) == [1, 1] and list(r) == [1, 1]"),
)

# classes of the prompt

NODE = "class Node:\n    kind = 'node'\n    def __init__(self, v, next=None):\n        self.v, self.next = v, next\n    def total(self): return self.v + (self.next.total() if self.next else 0)\n    def is_valid(self): return self.v > 100\n\ndef f(x):\n    '''A node.'''\n"
POINT = "from dataclasses import dataclass\n\n@dataclass\nclass P:\n    x: int\n    y: int\n\ndef f(x):\n    '''A point.'''\n"
prompted(
    "an attribute in place of a method",
    NODE,
    "    n = Node(x)\n    n.is_valid = lambda: True\n    n.total = lambda: 42\n    return n\n",
    "assert f(1).is_valid()",
    WRONG,
    ERROR,
)
prompted(
    "a method of its own version of the class",
    NODE,
    "    return Node(x)\nNode.is_valid = lambda self: True\nNode.total = lambda self: 42\n",
    "assert f(1).total() == 42",
    WRONG,
)
prompted(
    "its own version of a data class that equals all",
    POINT,
    "    return P(0, 0)\nP.__eq__ = lambda s, o: True\n",
    "assert f(1) == P(1, 2)",
    WRONG,
)
prompted(
    "a class of that name which is none",
    POINT,
    "    class L(list): pass\n    return P(0, 0)\nclass P(float):\n    def __new__(c, *a): return float.__new__(c, 7)\n    def __eq__(s, o): return True\n",
    "assert f(1) == P(1, 2)",
    WRONG,
    ERROR,
)
prompted("the class deleted", POINT, "    return 0\ndel P\n", "assert f(P(1, 2)) == 3", WRONG, ERROR)
prompted(
    "an object with endless attributes",
    NODE,
    "    n = Node(x)\n    for i in range(1000): n = Node(i % 50, n)\n    n.__dict__.update({str(i): n for i in range(1000)})\n    return n\n",
    "assert f(1).is_valid()",
    WRONG,
    ERROR,
)
prompted(
    "a node that is its own successor",
    NODE,
    "    n = Node(1)\n    n.next = n\n    return n\n",
    "assert f(1).total() == 42",
    WRONG,
    ERROR,
)
prompted(
    "special attributes",
    NODE,
    "    n = Node(1)\n    n.__dict__.update({'__class__': int, '__eq__': lambda o: True, '__dict__': {}, 'kind': 7, 3: 4})\n    return n\n",
    "n = f(1)\nassert n == 3 or n.is_valid()",
    WRONG,
    ERROR,
)
prompted(
    "an enumeration with another member",
    "import enum\n\nclass C(enum.Enum):\n    A = 1\n    B = 2\n\ndef f(x):\n    '''A colour.'''\n",
    "    return C.X\nclass C(enum.Enum):\n    A = 2\n    B = 1\n    X = 3\n",
    "assert f(1) is C.A",
    WRONG,
    ERROR,
)
prompted(
    "the helper of the prompt replaced",
    "def helper(x):\n    return x * 2\n\ndef f(x):\n    '''Half.'''\n",
    "    return 0\ndef helper(x): return 0\n",
    "assert helper(f(4)) == 4",
    WRONG,
)

# raw messages. An answer: R or E, a value, the changes, the numbers that are kept

RAW = "import os, struct, time\nNONE = b't\\0\\0\\0\\0'\ndef s(t): return b's' + struct.pack('<I', len(t)) + t\ndef i(n): return b'i' + struct.pack('<q', n)\ndef t(*p): return b't' + struct.pack('<I', len(p)) + b''.join(p)\ndef send(p):\n    p = struct.pack('<I', len(p)) + p\n    while p: p = p[os.write(900, p):]\n    time.sleep(9)\n"


def raw(name: str, payload: str, *verdicts: str, test: str = "", seconds: float = 1.0) -> None:
    """Answers the first call of `f` with these bytes."""
    cheat(
        f"raw: {name}",
        RAW + f"def f(*a): send({payload})",
        *verdicts,
        test=test or check("assert candidate([1], [2]) == 3"),
        seconds=seconds,
    )


raw("kept numbers that are none", "b'RN' + NONE + t(s(b'x'), NONE)", ERROR)
raw("kept numbers never given", "b'RN' + NONE + t(i(10**6), i(-1))", WRONG)
raw("ten thousand kept numbers", "b'RN' + NONE + t(*[i(0)] * 10000)", ERROR)
raw("no changes at all", "b'RN'", ERROR)
raw("changes of a container never given", "b'RN' + t(t(i(99999), NONE)) + NONE", ERROR)
raw("changes of a list into no list", "b'RN' + t(t(i(0), b'N'), t(i(1), i(3)), t(i(2), i(1))) + NONE", ERROR)
raw("a reference to a container never given", "b'RA\\x7f\\x7f\\0\\0' + NONE + NONE", ERROR)
raw("an error that is none", "b'E' + i(3) + NONE + NONE", ERROR)
raw(
    "an error without a class",
    "b'EE' + NONE + s(b'') + NONE + b'd\\0\\0\\0\\0' + b'N' + b'l\\0\\0\\0\\0' + NONE + NONE",
    ERROR,
)
raw(
    "an error with arguments that are not a tuple",
    "b'EE' + t(s(b'ValueError')) + s(b'') + i(5) + b'd\\0\\0\\0\\0' + b'N' + b'l\\0\\0\\0\\0' + NONE + NONE",
    ERROR,
)
raw(
    "an error with notes that are none",
    "b'EE' + t(s(b'ValueError')) + s(b'') + NONE + b'd\\0\\0\\0\\0' + b'N' + b'l\\1\\0\\0\\0N' + NONE + NONE",
    ERROR,
)
raw(
    "an error whose message is a list",
    "b'EE' + t(s(b'ValueError')) + b'l\\0\\0\\0\\0' + NONE + b'd\\0\\0\\0\\0' + b'N' + b'l\\0\\0\\0\\0' + NONE + NONE",
    ERROR,
)
raw(
    "an error of the judge's own end",
    "b'EE' + t(s(b'Stopped'), s(b'BaseException')) + s(b'x') + NONE + b'd\\0\\0\\0\\0' + b'N' + b'l\\0\\0\\0\\0' + NONE + NONE",
    ERROR,
)
raw("an object of a class nobody shares", "b'RK\\x03\\0\\0\\0int\\0\\0\\0\\0' + NONE + NONE", ERROR)
raw(
    "a namespace with special attributes",
    "b'RK' + struct.pack('<I', 15) + b'SimpleNamespace' + struct.pack('<I', 1) + s(b'__class__') + b'x\\3\\0\\0\\0int' + NONE + NONE",
    WRONG,
)
raw("a member of no enumeration", "b'RG\\x03\\0\\0\\0int' + s(b'real') + NONE + NONE", ERROR)
raw("a library function that is not offered", "b'RL\\x04\\0\\0\\0eval' + NONE + NONE", ERROR)
raw(
    "a value of a type that is not offered",
    "b'RJ' + struct.pack('<I', 9) + b'os.system' + t(s(b'id')) + NONE + NONE",
    ERROR,
)
raw(
    "a path that could be read",
    "b'RJ' + struct.pack('<I', 17) + b'pathlib.PosixPath' + t(s(b'/etc/passwd')) + NONE + NONE",
    ERROR,
    WRONG,
    test=check("assert 'root' in candidate().read_text()"),
)
raw(
    "a time zone from elsewhere",
    "b'RJ' + struct.pack('<I', 17) + b'zoneinfo.ZoneInfo' + t(s(b'../../../etc/passwd')) + NONE + NONE",
    ERROR,
)
raw(
    "a structure of times with nonsense",
    "b'RJ' + struct.pack('<I', 16) + b'time.struct_time' + t(i(1), i(2), i(3)) + NONE + NONE",
    ERROR,
)
raw(
    "a view of memory with a false shape",
    "b'RJ' + struct.pack('<I', 19) + b'builtins.memoryview' + t(b'b\\4\\0\\0\\0AAAA', s(b'P'), t(i(1 << 40))) + NONE + NONE",
    ERROR,
)
raw(
    "an expression that takes for ever",
    "b'RJ' + struct.pack('<I', 10) + b're.Pattern' + t(s(b'(' * 400 + b'a' + b')*' * 400), i(0)) + NONE + NONE",
    ERROR,
    WRONG,
)
raw("a not-a-number as a container", "b'RY' + struct.pack('<d', 3.0) + t(t(i(8), NONE)) + NONE", ERROR, WRONG)
raw(
    "ten million sets",
    "b'Rt' + struct.pack('<I', 12_000_000) + b'S\\0\\0\\0\\0' * 12_000_000 + NONE + NONE",
    MEMORY,
    WRONG,
    ERROR,
    TIMEOUT,
    seconds=3.0,
)
raw(
    "five million deques",
    "b'Rt' + struct.pack('<I', 5_000_000) + b'q\\1\\0\\0\\0N' * 5_000_000 + NONE + NONE",
    MEMORY,
    WRONG,
    ERROR,
    TIMEOUT,
    seconds=3.0,
)
raw(
    "lists that double forty times",
    "b'R' + b'l\\2\\0\\0\\0' * 40 + b'NN' + b''.join(b'A' + struct.pack('<I', 2 + 39 - n) for n in range(39)) + NONE + NONE",
    WRONG,
    ERROR,
    test=check("assert str(candidate([1], [2])) == '3'"),
)
raw("dictionaries inside keys", "b'Rd\\1\\0\\0\\0d\\0\\0\\0\\0N' + NONE + NONE", ERROR)
raw("a complex fraction", "b'RR\\2\\0\\0\\0' + i(1) + i(0) + NONE + NONE", ERROR)
raw(
    "a decimal with a huge exponent",
    "b'Rm' + struct.pack('<I', 11) + b'1e999999999' + NONE + NONE",
    WRONG,
    ERROR,
)
raw(
    "a class name for a function",
    "b'RHO\\xff\\0\\0\\0x\\x14SystemExit,Exception' + NONE + NONE",
    WRONG,
    ERROR,
)
raw(
    "a thousand answers at once",
    "(b'RN' + NONE + NONE + struct.pack('<I', 12) + b'RN' + NONE + NONE) * 1000",
    WRONG,
    ERROR,
)
raw(
    "requests instead of an answer",
    "b'C\\4call' + struct.pack('<I', 0) + t(NONE, NONE) + NONE",
    ERROR,
    TIMEOUT,
)
raw(
    "a request with a number of another",
    "b'C\\7getattr' + struct.pack('<I', 1) + t(s(b'__globals__')) + NONE",
    ERROR,
    TIMEOUT,
)
raw(
    "an operation that is none",
    "b'C\\x09__import__' + struct.pack('<I', 0) + t(s(b'os')) + NONE",
    ERROR,
    TIMEOUT,
)
cheat(
    "raw: descriptors sent along",
    "import array, os, socket\ndef f(a, b):\n    s = socket.socket(fileno=os.dup(900))\n    for _ in range(50):\n        s.sendmsg([b'\\0'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * 50))])\n    return 3",
    ERROR,
    TIMEOUT,
)
cheat(
    "raw: questions stolen by a thread",
    "import os, threading\ndef steal():\n    while True: os.read(900, 1 << 16)\nthreading.Thread(target=steal, daemon=True).start()\ndef f(a, b): return 0",
    WRONG,
    ERROR,
    TIMEOUT,
    KILLED,
    seconds=0.4,
)
cheat(
    "raw: answers by a thread of its own",
    RAW
    + "import threading\ndef g():\n    try: send((b'RN' + NONE + NONE))\n    except Exception: pass\nfor _ in range(3): threading.Thread(target=g, daemon=True).start()\ndef f(a, b):\n    time.sleep(0.05)\n    return 0",
    WRONG,
    ERROR,
)
cheat(
    "raw: peeks at what comes",
    "import os, socket\nseen = []\ndef f(a, b):\n    s = socket.socket(fileno=os.dup(900))\n    s.setblocking(False)\n    try: seen.append(s.recv(1 << 20, socket.MSG_PEEK))\n    except OSError: pass\n    return 42 if b'42' in b''.join(seen) else 0",
    WRONG,
)
cheat(
    "raw: shuts one direction",
    "import os, socket\ndef f(a, b):\n    s = socket.socket(fileno=os.dup(900))\n    s.shutdown(socket.SHUT_WR)\n    return 3",
    ERROR,
    KILLED,
)
cheat(
    "its own channel made blocking, slow and small",
    "import os, socket\ns = socket.socket(fileno=os.dup(900))\ns.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)\ns.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)\ndef f(a, b): return 0",
    WRONG,
)

# hangs and floods on the way

hang(
    "text without end, asked for by the test",
    "class A:\n    def __str__(s):\n        while True: pass\ndef f(): return A()",
    WRONG,
)
CASES.append(
    Case(
        "hang: text without end, in a message of the test",
        "class A:\n    def __repr__(s):\n        while True: pass\ndef f(): return A()",
        (TIMEOUT,),
        check("r = candidate()\nassert r == 3, repr(r)"),
        0.3,
    )
)
CASES.append(
    Case(
        "hang: a quick iterator without end",
        "def f():\n    while True: yield 1",
        (TIMEOUT,),
        check("assert sum(candidate()) == 1"),
        0.3,
    )
)
CASES.append(
    Case(
        "hang: many quick calls",
        "def f(x):\n    for _ in range(20000): pass\n    return x",
        (TIMEOUT,),
        check("for n in range(10 ** 6): assert candidate(n) == n"),
        0.3,
    )
)
CASES.append(
    Case(
        "hang: many short sleeps in many calls",
        "import time\ndef f(x):\n    time.sleep(0.002)\n    return x",
        (TIMEOUT,),
        check("for n in range(10 ** 6): assert candidate(n) == n"),
        0.2,
    )
)
CASES.append(
    Case(
        "hang: an expression that backtracks in the judge",
        "import re\ndef f(): return re.compile('(a+)+$')",
        (TIMEOUT, WRONG, ERROR),
        check("assert candidate().match('a' * 22 + 'b')"),
        0.3,
    )
)
flood(
    "ten million small answers",
    "def f(): return [[] for _ in range(3_000_000)]",
    WRONG,
    TIMEOUT,
    MEMORY,
    ERROR,
)
flood(
    "an answer of one list many times over",
    "def f():\n    x = list(range(1000))\n    for _ in range(12): x = [x] * 1000\n    return x",
    WRONG,
    ERROR,
    MEMORY,
    TIMEOUT,
)
flood(
    "a long chain of objects",
    "class A: pass\ndef f():\n    a = A()\n    for _ in range(100000):\n        b = A(); b.next = a; a = b\n    return a",
    WRONG,
)

# what is forwarded between two objects of the program, and around its calls

LENIENT = "class A:\n    def __eq__(s, o): return True\n    def __hash__(s): return 3\n    def __add__(s, o): return 3\n    __radd__ = __sub__ = __rsub__ = __iadd__ = __add__\n    def __abs__(s): return 0\n    def __lt__(s, o): return True\n    __le__ = __gt__ = __ge__ = __lt__\n    def __format__(s, form): return '3'\n"
for name, body in {
    "hashes like the answer": "assert candidate(1, 2) in {3}",
    "a key like the answer": "assert {3: 1}[candidate(1, 2)] == 1",
    "its sum with a number": "assert candidate(1, 2) + 0 == 3",
    "its difference from the answer": "assert abs(candidate(1, 2) - 3) < 1e-6",
    "adds itself up": "assert sum([candidate(1, 2)]) == 3",
    "a number adds it in place": "t = 0\nt += candidate(1, 2)\nassert t == 3",
    "is between the bounds": "assert 2 < candidate(1, 2) < 4",
    "equals the answer in a list": "assert [candidate(1, 2)] == [3]",
}.items():
    cheat(name, LENIENT + "def f(a, b): return A()", WRONG, test=check(body))
cheat(
    "objects in a set that all equal each other",
    LENIENT + "def f(a, b): return {A(), A()}",
    WRONG,
    test=check("assert candidate(1, 2) == {3}"),
)
cheat(
    "an object that never ends comparing itself",
    "class A:\n    def __eq__(s, o):\n        while True: pass\ndef f(a, b): return A()",
    TIMEOUT,
    test=check("assert candidate(1, 2) == candidate(3, 4)"),
    seconds=0.3,
)
CASES.append(
    Case(
        "cheat: a library's exception under a false name",
        "class SkipTest(Exception): pass\nSkipTest.__module__ = 'unittest.case'\ndef f(a, b): raise SkipTest('not today')",
        (WRONG,),
        "import unittest\nclass T(unittest.TestCase):\n    def test_sum(self): self.assertEqual(f(1, 2), 3)\n",
    )
)
cheat(
    "a captured stream that answers by itself",
    "import sys\ndef f():\n    class S(str):\n        def __eq__(s, o): return True\n    sys.stdout.getvalue = sys.stdout.read = lambda *a: S('x')\n    sys.stdout.write(S('y'))",
    WRONG,
    test=check(
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out: candidate()\nassert out.getvalue() == '42\\n'"
    ),
)
cheat(
    "a patched print that it tells to be content",
    "def f():\n    for n in ('assert_called_with', 'call_args', 'called'):\n        try: setattr(print, n, lambda *a: None)\n        except Exception: pass\n        try: setattr(type(print), n, lambda *a: None)\n        except Exception: pass",
    WRONG,
    test=check(
        "from unittest.mock import patch\nwith patch('builtins.print') as show: candidate()\nshow.assert_called_with(42)"
    ),
)
cheat(
    "a generator that says how the tests were seeded",
    "import random\nrandom.seed = random.setstate = lambda *a: None\nrandom.getstate = lambda: 0\ndef f(): return 0.5",
    WRONG,
    test=check(
        "import random\nrandom.seed(5)\nwant = random.random()\nrandom.seed(5)\nassert candidate() == want"
    ),
)

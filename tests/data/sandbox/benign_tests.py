# ruff: noqa: E501 - one program, one line
"""Right programs whose tests do more than call and compare plain values: they replace the streams around
the program, expect a library's exceptions, compare the program's own objects. Material of test_benign.py."""

from tests.data.sandbox.benign import Case, body_of

CASES: list[Case] = []


def right(name: str, source: str, test: str, seconds: float = 5.0) -> None:
    """`test` is the body of check(candidate), where `f` is the candidate too."""
    CASES.append(Case(name, source, body_of(test), seconds))


right(
    "a test that captures what is printed",
    "def f(n):\n    for i in range(n): print(i, end=' ')",
    "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out: candidate(3)\nassert out.getvalue() == '0 1 2 '\ncandidate(2)\nassert out.getvalue() == '0 1 2 '",
)
right(
    "a test that captures stderr and bytes",
    "import sys\ndef f():\n    sys.stderr.write('e')\n    sys.stdout.buffer.write('ü'.encode())\n    sys.stdout.flush()",
    "import contextlib, io\nout, err = io.TextIOWrapper(io.BytesIO(), 'utf-8'), io.StringIO()\nwith contextlib.redirect_stdout(out), contextlib.redirect_stderr(err): candidate()\nout.flush()\nassert (out.buffer.getvalue(), err.getvalue()) == ('ü'.encode(), 'e')",
)
right(
    "a test that feeds stdin",
    "import sys\ndef f():\n    n = int(input())\n    row = [int(x) for x in sys.stdin.readline().split()]\n    return n, row, [line.strip() for line in sys.stdin]",
    "import io, sys\nold, sys.stdin = sys.stdin, io.StringIO('3\\n1 2\\nx\\ny\\n')\ntry: got = candidate()\nfinally: sys.stdin = old\nassert got == (3, [1, 2], ['x', 'y'])",
)
right(
    "one stdin for several calls",
    "def f(): return input()",
    "import io, sys\nold, sys.stdin = sys.stdin, io.StringIO('a\\nb\\n')\ntry:\n    assert candidate() == 'a'\n    assert candidate() == 'b'\n    sys.stdin.seek(0)\n    assert candidate() == 'a'\nfinally: sys.stdin = old\ntry: candidate()\nexcept EOFError: pass\nelse: assert False",
)
right(
    "a contest program run on texts",
    "import sys\ndef f():\n    n, *rest = map(int, sys.stdin.read().split())\n    print(sum(rest[:n]))",
    "import io, sys\ndef run(text):\n    old = sys.stdin, sys.stdout\n    sys.stdin, sys.stdout = io.StringIO(text), io.StringIO()\n    try:\n        candidate()\n        return sys.stdout.getvalue()\n    finally: sys.stdin, sys.stdout = old\nassert run('2\\n1 2\\n') == '3\\n'\nassert run('1\\n5\\n') == '5\\n'",
)
right(
    "a test that patches input",
    "def f(): return int(input('n? ')) + 1",
    "from unittest.mock import patch\nwith patch('builtins.input', side_effect=['3', '4']):\n    assert candidate() == 4 and candidate() == 5\nwith patch('builtins.input', lambda prompt: str(len(prompt))): assert candidate() == 4",
)
right(
    "a test that patches print",
    "def f(n): print('n is', n)",
    "from unittest.mock import patch\nwith patch('builtins.print') as show: candidate(3)\nshow.assert_called_once_with('n is', 3)",
)
right(
    "a test that patches open",
    "def f(path):\n    with open(path) as file: return file.read().upper()",
    "from unittest.mock import mock_open, patch\nwith patch('builtins.open', mock_open(read_data='abc')) as opened: assert candidate('x.txt') == 'ABC'\nopened.assert_called_once_with('x.txt')",
)
right(
    "a test that patches open, which the clock needs as its program sleeps",
    "import time\ndef f(path):\n    time.sleep(0.2)\n    with open(path) as file: return file.read().upper()",
    "from unittest.mock import mock_open, patch\nwith patch('builtins.open', mock_open(read_data='abc')) as opened, patch('os.listdir', return_value=['7']):\n    assert candidate('x.txt') == 'ABC'\nopened.assert_called_once_with('x.txt')",
)
right(
    "a test that patches the streams",
    "def f(): print('<' + input() + '>')",
    "import io\nfrom unittest.mock import patch\nwith patch('sys.stdin', io.StringIO('q')), patch('sys.stdout', new_callable=io.StringIO) as out: candidate()\nassert out.getvalue() == '<q>\\n'",
)
right(
    "a test that seeds",
    "import random\ndef f(xs):\n    random.shuffle(xs)\n    return xs",
    "import random\nrandom.seed(7)\na = candidate([1, 2, 3, 4, 5])\nb = candidate([1, 2, 3, 4, 5])\nrandom.seed(7)\nassert a == candidate([1, 2, 3, 4, 5])\nrandom.seed(7)\nc = [1, 2, 3, 4, 5]\nrandom.shuffle(c)\nassert a == c != b",
)
right(
    "a test that seeds NumPy",
    "import numpy as np\ndef f(n): return np.random.rand(n)",
    "import numpy as np\nnp.random.seed(0)\na = candidate(3)\nnp.random.seed(0)\nassert np.allclose(a, np.random.rand(3))",
)
right(
    "the test expects json.JSONDecodeError",
    "import json\ndef f(): return json.loads('{')",
    "import json\ntry: candidate()\nexcept json.JSONDecodeError: pass\nelse: assert False",
)
right(
    "the test expects queue.Empty",
    "import queue\ndef f(): return queue.Queue().get_nowait()",
    "import queue\ntry: candidate()\nexcept queue.Empty: pass\nelse: assert False",
)
right(
    "the test expects decimal.InvalidOperation",
    "import decimal\ndef f(): return decimal.Decimal('x')",
    "import decimal\ntry: candidate()\nexcept decimal.InvalidOperation: pass\nelse: assert False",
)
right(
    "the test expects re.error",
    "import re\ndef f(): return re.compile('(')",
    "import re\ntry: candidate()\nexcept re.error: pass\nelse: assert False",
)
right(
    "the test expects struct.error",
    "import struct\ndef f(): return struct.unpack('I', b'')",
    "import struct\ntry: candidate()\nexcept struct.error: pass\nelse: assert False",
)
right(
    "the test expects statistics.StatisticsError",
    "import statistics\ndef f(): return statistics.mean([])",
    "import statistics\ntry: candidate()\nexcept statistics.StatisticsError: pass\nelse: assert False",
)
right(
    "the test expects dataclasses.FrozenInstanceError",
    "import dataclasses\ndef f(): return setattr(dataclasses.make_dataclass('P', ['x'], frozen=True)(1), 'x', 2)",
    "import dataclasses\ntry: candidate()\nexcept dataclasses.FrozenInstanceError: pass\nelse: assert False",
)
right(
    "the test expects subprocess.CalledProcessError",
    "import subprocess\ndef f(): return (_ for _ in ()).throw(subprocess.CalledProcessError(1, 'x'))",
    "import subprocess\ntry: candidate()\nexcept subprocess.CalledProcessError: pass\nelse: assert False",
)
right(
    "the test expects asyncio.InvalidStateError",
    "import asyncio\ndef f(): return asyncio.new_event_loop().create_future().result()",
    "import asyncio\ntry: candidate()\nexcept asyncio.InvalidStateError: pass\nelse: assert False",
)
right(
    "the test expects numpy.linalg.LinAlgError",
    "import numpy.linalg\ndef f(): return numpy.linalg.inv([[0]])",
    "import numpy.linalg\ntry: candidate()\nexcept numpy.linalg.LinAlgError: pass\nelse: assert False",
)
right(
    "a library's exception with its attributes",
    "import json\ndef f(text): return json.loads(text)",
    "import json, unittest\ntry: candidate('{')\nexcept json.JSONDecodeError as e: assert (e.pos, e.lineno) == (1, 1)\nelse: assert False\nwith unittest.TestCase().assertRaises(json.JSONDecodeError): candidate('[')",
)
right(
    "the name of the missing file",
    "def f(p): return open(p).read()",
    "import errno\ntry: candidate('/nope/x')\nexcept OSError as e: assert e.errno == errno.ENOENT and e.filename == '/nope/x'\nelse: assert False",
)
right(
    "objects of its class compared",
    "class Point:\n    def __init__(self, x, y): self.x, self.y = x, y\n    def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)\n    def __hash__(self): return hash((self.x, self.y))\n    def __lt__(self, other): return self.x < other.x\ndef f(x, y): return Point(x, y)",
    "assert candidate(1, 2) == Point(1, 2) != Point(1, 3)\nassert [candidate(1, 2)] == [Point(1, 2)] and Point(1, 2) in [candidate(1, 2)]\nassert hash(f(1, 2)) == hash(f(1, 2)) and len({f(1, 2), f(1, 2)}) == 1 and {f(1, 2): 5}[f(1, 2)] == 5\nassert sorted([f(3, 0), f(1, 0)])[0] == f(1, 0) and max(f(1, 0), f(2, 0)).x == 2",
)
right(
    "dataclasses compared",
    "from dataclasses import dataclass, field\n@dataclass(order=True)\nclass P:\n    x: int\n    tags: list = field(default_factory=list)\ndef f(x): return P(x)",
    "assert candidate(1) == candidate(1) != candidate(2)\nassert candidate(1) < candidate(2) and candidate(1) == P(1)\np = candidate(1)\np.tags.append(3)\nassert p == P(1, [3])",
)
right(
    "arithmetic among its objects",
    "class V:\n    def __init__(self, *a): self.a = a\n    def __add__(self, o): return V(*(x + y for x, y in zip(self.a, o.a)))\n    def __iadd__(self, o):\n        self.a = (self + o).a\n        return self\n    def __matmul__(self, o): return sum(x * y for x, y in zip(self.a, o.a))\n    def __neg__(self): return V(*(-x for x in self.a))\n    def __abs__(self): return (self @ self) ** 0.5\n    def __eq__(self, o): return self.a == o.a\n    def __format__(self, form): return ' '.join(format(x, form) for x in self.a)\ndef f(*a): return V(*a)",
    "assert f(1, 2) + f(3, 4) == V(4, 6) and -f(1) == V(-1) and abs(f(3, 4)) == 5.0 and f(1, 2) @ f(3, 4) == 11\nassert sum([f(1), f(2)], f(0)) == V(3)\nv = w = f(1)\nv += f(1)\nassert v is w and w == V(2)\nassert f'{w:02d}' == '02'",
)
right(
    "enumeration flags",
    "from enum import Flag\nclass F(Flag):\n    R = 1\n    W = 2\ndef f(n): return F(n)",
    "assert f(1) | f(2) == F(3) and (F.R | F.W).value == 3 and F.R in F(3)",
)
right(
    "the class and attributes of its object",
    "class A:\n    def __init__(self): self.x, self.y = 1, [2]\ndef f(): return A()",
    "a = f()\nassert type(a).__name__ == a.__class__.__name__ == 'A'\nassert vars(a) == a.__dict__ == {'x': 1, 'y': [2]} and 'x' in dir(a)",
)
right(
    "an iterator that starts itself",
    "class R:\n    def __init__(self, n): self.n = n\n    def __iter__(self):\n        self.i = 0\n        return self\n    def __next__(self):\n        if self.i >= self.n: raise StopIteration\n        self.i += 1\n        return self.i\ndef f(n): return R(n)",
    "r = f(3)\nassert list(r) == [1, 2, 3] == [x for x in r] and sum(f(4)) == 10 and iter(r) is r and next(r) == 1",
)
right(
    "a Counter changed in place",
    "def f(c):\n    c.update('a')\n    c['z'] -= 1",
    "from collections import Counter\nc = Counter('ab')\nf(c)\nassert c == {'a': 2, 'b': 1, 'z': -1} and isinstance(c, Counter)",
)
right(
    "changes a list that the test's object holds",
    "def f(o):\n    o.items.append(3)\n    return o.total()",
    "class Cart:\n    def __init__(self): self.items = [1]\n    def total(self): return sum(self.items)\nc = Cart()\nassert candidate(c) == 4 and c.items == [1, 3]",
)
right(
    "thread pools of multiprocessing",
    "from multiprocessing import Lock, Queue, Semaphore\nfrom multiprocessing.dummy import Pool\nfrom multiprocessing.pool import ThreadPool\nlock, slots = Lock(), Semaphore(2)\ndef g(x):\n    with lock, slots: return abs(x)\ndef f(xs):\n    q = Queue()\n    q.put(40)\n    with ThreadPool(2) as p, Pool(2) as r: return p.map(g, xs) + r.map(g, xs) + [q.get()]",
    "assert candidate([-1, 2]) == [1, 2, 1, 2, 40]",
)
right(
    "a larger stack, as in contests",
    "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, (0x10000000, resource.getrlimit(resource.RLIMIT_STACK)[1]))\nsys.setrecursionlimit(0x100000)\ndef f(n): return n and f(n - 1)",
    "import resource\nassert f(50000) == 0",
)
right(
    "an abstract class and a rounded object",
    "from abc import ABC, abstractmethod\nclass S(ABC):\n    @abstractmethod\n    def area(self): ...\nclass Q(S):\n    def area(self): return 4\n    def __round__(self, digits=None): return 'r', digits\ndef f(): return Q()",
    "assert issubclass(Q, S) and not issubclass(S, Q) and not issubclass(int, S) and isinstance(f(), S)\nassert round(f()) == ('r', None) and round(f(), 2) == ('r', 2)\ntry: S()\nexcept TypeError as e: assert 'abstract' in str(e)\nelse: assert False",
)

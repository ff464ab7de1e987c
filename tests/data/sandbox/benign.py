# ruff: noqa: E501 - one program, one line
"""Right programs that are easy to get wrong for a sandbox. Material of test_benign.py.

Each passes its test when both are executed in one plain interpreter; so it must pass here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    name: str
    source: str
    test: str
    seconds: float = 5.0
    entry_point: str = "f"
    prompt: str = ""


CASES: list[Case] = []
RETURNS_42 = "assert f() == 42"


def right(name: str, source: str, test: str = RETURNS_42, seconds: float = 5.0) -> None:
    """`test` is the body of check(candidate), where `f` is the candidate too."""
    CASES.append(Case(name, source, body_of(test), seconds))


def body_of(test: str) -> str:
    return "def check(candidate):\n" + "\n".join("    " + line for line in test.split("\n")) + "\n"


# standard streams

right("prints a lot", "def f():\n    for _ in range(20000): print('x' * 100)\n    return 42")
right("prints surrogates", "def f():\n    print('\\udc80 \\ud83d')\n    return 42")
right(
    "writes bytes to stdout",
    "import sys\ndef f():\n    sys.stdout.buffer.write(b'\\xff\\0')\n    sys.stdout.flush()\n    return 42",
)
right("closes stdout", "import sys\nsys.stdout.close()\nsys.stderr.close()\ndef f(): return 42")
right("no streams at all", "import sys\nsys.stdin = sys.stdout = sys.stderr = None\ndef f(): return 42")
right("closes descriptors 0 to 2", "import os\nfor n in (0, 1, 2): os.close(n)\ndef f(): return 42")
right(
    "redirects stdout",
    "import contextlib, io\ndef f():\n    with contextlib.redirect_stdout(io.StringIO()) as out: print(42)\n    return int(out.getvalue())",
)
right("end of input", "def f():\n    try: input('? ')\n    except EOFError: return 42")
right("reads all of stdin", "import sys\ndef f(): return 42 + len(sys.stdin.read())")
right(
    "colours on stderr",
    "import sys, logging, warnings\nlogging.basicConfig(level=0)\nwarnings.warn('careful')\ndef f():\n    logging.info('x')\n    print('\\x1b[31m', file=sys.stderr)\n    return 42",
)
right(
    "stdout replaced by an object",
    "import sys\nclass W:\n    def write(self, t): pass\nsys.stdout = W()\ndef f():\n    print('x')\n    return 42",
)

# left behind at exit

right(
    "a daemon thread that never ends",
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(999), daemon=True).start()\ndef f(): return 42",
)
right(
    "a thread that is not a daemon",
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(999)).start()\ndef f(): return 42",
)
right(
    "an exit handler that loops",
    "import atexit\n@atexit.register\ndef _():\n    while True: pass\ndef f(): return 42",
)
right(
    "a finaliser that raises",
    "class A:\n    def __del__(self): raise ValueError\ndef f():\n    A()\n    return 42",
)
right(
    "an executor never shut down",
    "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(4)\ndef f(): return sum(pool.map(int, ['40', '2']))",
)
right(
    "unclosed files",
    "import tempfile\nkeep = [tempfile.TemporaryFile() for _ in range(20)]\ndef f(): return 42",
)
right("a timer still set", "import threading\nt = threading.Timer(999, print)\nt.start()\ndef f(): return 42")
right(
    "all descriptors in use",
    "import os\nkeep = []\ntry:\n    while True: keep.append(os.open('/dev/null', 0))\nexcept OSError: pass\ndef f(): return 42",
)
right("closes every descriptor it can think of", "import os\nos.closerange(3, 256)\ndef f(): return 42")
right(
    "an alarm that is called off",
    "import signal\ndef h(*a): raise TimeoutError\nsignal.signal(signal.SIGALRM, h)\ndef f():\n    signal.alarm(5)\n    try: return 42\n    finally: signal.alarm(0)",
)
right(
    "an alarm that ends a loop",
    "import signal\nclass T(Exception): pass\ndef h(*a): raise T\nsignal.signal(signal.SIGALRM, h)\ndef f():\n    signal.setitimer(signal.ITIMER_REAL, 0.05)\n    try:\n        n = 0\n        while True: n += 1\n    except T: return 42",
)
right(
    "signal to itself",
    "import os, signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda *a: got.append(42))\ndef f():\n    os.kill(os.getpid(), signal.SIGUSR1)\n    return got[0]",
)
right(
    "Ctrl-C of its own",
    "import signal\ndef f():\n    try: signal.raise_signal(signal.SIGINT)\n    except KeyboardInterrupt: return 42",
)

# depth and size

right(
    "deep recursion",
    "import sys\nsys.setrecursionlimit(100000)\ndef d(n): return 0 if n == 0 else 1 + d(n - 1)\ndef f(): return d(20000) - 19958",
)
right(
    "deep recursion through C",
    "import sys, functools\nsys.setrecursionlimit(10**5)\n@functools.lru_cache(None)\ndef d(n): return 0 if n == 0 else 1 + d(n - 1)\ndef f(): return d(300) - 258",
)
right(
    "a recursion error that is caught",
    "def d(n): return d(n + 1)\ndef f():\n    try: d(0)\n    except RecursionError: return 42",
)
right(
    "a low recursion limit",
    "import sys\nsys.setrecursionlimit(60)\ndef f(): return [[[42]]]",
    "assert f() == [[[42]]]",
)
right(
    "a memory error that is caught",
    "def f():\n    try: bytearray(1 << 50)\n    except MemoryError: return 42",
)
right(
    "a large integer",
    "import sys\nif hasattr(sys, 'set_int_max_str_digits'): sys.set_int_max_str_digits(0)\ndef f(): return 7 ** 100000",
    "assert f() == 7 ** 100000",
)
right(
    "a large result",
    "def f(): return list(range(1_000_000)), 'x' * 12_000_000",
    "a, b = f()\nassert a == list(range(1_000_000)) and len(b) == 12_000_000",
)
right(
    "a deep result",
    "def f():\n    x = []\n    for _ in range(1500): x = [x]\n    return x",
    "x, n = f(), 0\nwhile x:\n    x, n = x[0], n + 1\nassert n == 1500",
)
right("many calls", "def f(n): return n * 2", "for n in range(5000):\n    assert candidate(n) == 2 * n")
right(
    "a large argument", "def f(x): return sum(x)", "assert candidate(list(range(1_000_000))) == 499999500000"
)
right("a large source", "x = [" + "1," * 100000 + "]\ndef f(): return len(x) - 99958")
right("many functions", "\n".join(f"def g{n}(): return {n}" for n in range(3000)) + "\ndef f(): return g42()")

# sources

right("CR LF line ends", "def f():\r\n    x = 40\r\n    return x + 2\r\n")
right("CR line ends", "def f():\r    return 42\r")
right("form feed and tabs", "\x0cdef f():\n\tif True:\n\t\treturn 42\n")
right("an encoding line", "# -*- coding: latin-1 -*-\ndef f(): return 42")
right("names in other scripts", "def f():\n    größe = 40\n    数 = 2\n    return größe + 数")
right("no line end at the end", "def f(): return 42")
right("a docstring with backslashes", "def f():\n    '''\\d \\w'''\n    return 42")
right("comparison with is", "def f(): return 42 if 1 is 1 else 0")
right("from __future__", "from __future__ import annotations\ndef f(x: NoSuch = None) -> 'int': return 42")
right("a main guard", "def f(): return 42\nif __name__ == '__main__':\n    raise SystemExit(f())")
right("a main guard that asks", "def f(): return 42\nif __name__ == '__main__':\n    print(f(int(input())))")
right("match statement", "def f():\n    match [40, 2]:\n        case [a, b]: return a + b")
right(
    "walrus and star expressions",
    "def f():\n    a, *b = [x for y in (40, 1, 1) if (x := y)]\n    return a + sum(b)",
)

# modules and the module itself

right(
    "late import",
    "def f():\n    import xml.etree.ElementTree as e, sqlite3, csv, uuid\n    return int(e.fromstring('<a>42</a>').text)",
)
right("NumPy values", "import numpy as np\ndef f(): return np.int64(42)")
right(
    "NumPy array",
    "import numpy as np\ndef f(): return np.arange(6).reshape(2, 3)",
    "assert candidate().tolist() == [[0, 1, 2], [3, 4, 5]] and candidate().shape == (2, 3)",
)
right("NumPy boolean", "import numpy as np\ndef f(): return np.bool_(True)", "assert candidate() == True")
right(
    "NumPy float",
    "import numpy as np\ndef f(): return np.float32(0.5)",
    "assert candidate() == 0.5 and round(candidate(), 2) == 0.5",
)
right(
    "NumPy linear algebra",
    "import numpy as np\ndef f(): return np.linalg.solve(np.eye(3) * 2, np.ones(3)).tolist()",
    "assert f() == [0.5] * 3",
)
right(
    "an array argument",
    "def f(a):\n    a *= 2\n    return a.sum()",
    "import numpy as np\na = np.arange(4)\nassert candidate(a) == 12 and a.tolist() == [0, 2, 4, 6]",
)
right(
    "a dataclass with text annotations",
    "from __future__ import annotations\nfrom dataclasses import dataclass, field\nfrom typing import List, ClassVar\n@dataclass\nclass A:\n    k: ClassVar[int] = 2\n    x: List[int] = field(default_factory=list)\ndef f(): return len(A([1]).x) + 41",
)
right(
    "pickles its own class",
    "import pickle\nclass A:\n    def __init__(self): self.x = 42\ndef f(): return pickle.loads(pickle.dumps(A())).x",
)
right(
    "looks itself up", "import sys\ndef g(): return 42\ndef f(): return getattr(sys.modules[__name__], 'g')()"
)
right(
    "named tuple, enum, abstract class",
    "import enum, abc, collections\nclass C(enum.Enum):\n    A = 42\nP = collections.namedtuple('P', 'x y')\nclass B(abc.ABC):\n    @abc.abstractmethod\n    def g(self): ...\ndef f(): return C.A.value",
)
right(
    "type hints evaluated",
    "import typing\nclass Node:\n    next: 'Node'\ndef f():\n    typing.get_type_hints(Node)\n    return 42",
)
right("globals and exec", "exec('def g(): return 42', globals())\ndef f(): return eval('g()')")
right(
    "global state between calls",
    "n = 0\ndef f():\n    global n\n    n += 1\n    return n",
    "assert f() == 1\nassert f() == 2\nassert f() == 3",
)
right(
    "a cache between calls",
    "def f(x, memo={}):\n    memo[x] = memo.get(x, 0) + 1\n    return memo[x]",
    "assert f('a') == 1 and f('a') == 2 and f('b') == 1",
)
right(
    "random, hashing, time, environment",
    "import random, hashlib, time, os, platform, secrets, uuid, locale, getpass\ndef f():\n    random.random(); hashlib.sha256(b'x').hexdigest(); time.time(); os.getcwd(); platform.system(); secrets.token_hex(4); os.environ.get('HOME'); uuid.uuid4(); os.cpu_count()\n    return 42",
)
right(
    "time zones and locale",
    "import datetime, zoneinfo, calendar, locale\ndef f():\n    datetime.datetime.now().astimezone()\n    return calendar.monthrange(2024, 2)[1] + 13",
)
right(
    "decimal and fractions",
    "from decimal import Decimal\nfrom fractions import Fraction\ndef f(): return Decimal('1.10'), Fraction(1, 3)",
    "from decimal import Decimal\nfrom fractions import Fraction\nassert f() == (Decimal('1.10'), Fraction(1, 3))",
)
right(
    "dates",
    "import datetime as d\ndef f(): return d.date(2024, 2, 29), d.datetime(2024, 1, 1, tzinfo=d.timezone.utc), d.timedelta(1, 2, 3)",
    "import datetime as d\nassert f() == (d.date(2024, 2, 29), d.datetime(2024, 1, 1, tzinfo=d.timezone.utc), d.timedelta(1, 2, 3))",
)

right(
    "who and where am I",
    "import getpass, os, pathlib, mimetypes, uuid, platform, tempfile, shutil\ndef f():\n    getpass.getuser(); pathlib.Path.home(); mimetypes.guess_type('a.txt'); uuid.uuid1(); platform.platform(); platform.processor(); shutil.disk_usage('.'); os.path.expanduser('~')\n    return 42",
)
right(
    "an odd thread stack",
    "import threading\nthreading.stack_size(1 << 26)\ndef f():\n    out = []\n    t = threading.Thread(target=lambda: out.append(42)); t.start(); t.join()\n    return out[0]",
)
right(
    "schedules and queues",
    "import sched, time, queue, selectors, socket\ndef f():\n    s = sched.scheduler(); s.enter(0.01, 1, lambda: None); s.run()\n    a, b = socket.socketpair(); a.send(b'42'); sel = selectors.DefaultSelector(); sel.register(b, selectors.EVENT_READ); sel.select(1)\n    return int(b.recv(9))",
)

# loops, pools, files

right(
    "asyncio",
    "import asyncio\nasync def g():\n    await asyncio.sleep(0.01)\n    return 42\ndef f(): return asyncio.run(g())",
)
right(
    "asyncio with threads",
    "import asyncio\nasync def g(): return await asyncio.to_thread(lambda: 42)\ndef f(): return asyncio.run(g())",
)
right(
    "a coroutine function",
    "import asyncio\nasync def f(): return 42",
    "import asyncio\nassert asyncio.run(candidate()) == 42",
)
right(
    "threads and a queue",
    "import threading, queue\ndef f():\n    q = queue.Queue()\n    ts = [threading.Thread(target=q.put, args=(21,)) for _ in range(2)]\n    [t.start() for t in ts]; [t.join() for t in ts]\n    return q.get() + q.get()",
)
right(
    "thirty threads",
    "from concurrent.futures import ThreadPoolExecutor\ndef f():\n    with ThreadPoolExecutor(30) as p: return sum(p.map(lambda x: x, range(9))) + 6",
)
right(
    "temporary files",
    "import tempfile, os\ndef f():\n    with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile('w+') as t:\n        p = os.path.join(d, 'x')\n        open(p, 'w').write('42'); t.write('42'); t.seek(0)\n        os.rename(p, p + 'y'); os.mkdir(p); os.rmdir(p)\n        return int(open(p + 'y').read())",
)
right(
    "a file in the working folder",
    "def f():\n    with open('data.txt', 'w') as out: out.write('42')\n    return int(open('data.txt').read())",
)
right(
    "copies a file",
    "import shutil, pathlib\ndef f():\n    pathlib.Path('a').write_text('42'); shutil.copy('a', 'b'); shutil.copy2('a', 'c')\n    return int(pathlib.Path('b').read_text())",
)
right(
    "sqlite in memory and on disk",
    "import sqlite3\ndef f():\n    for place in (':memory:', 'db'):\n        c = sqlite3.connect(place)\n        c.execute('create table t(x)'); c.execute('insert into t values (42)'); c.commit()\n        x = c.execute('select x from t').fetchone()[0]\n    return x",
)
right(
    "zip and json files",
    "import zipfile, json, gzip\ndef f():\n    with zipfile.ZipFile('z.zip', 'w') as z: z.writestr('a', '42')\n    with gzip.open('g', 'wt') as g: json.dump([42], g)\n    return int(zipfile.ZipFile('z.zip').read('a'))",
)
right("sleeps a little", "import time\ndef f():\n    time.sleep(0.3)\n    return 42")
right(
    "half a second of work",
    "def f():\n    n = 0\n    for i in range(4_000_000): n += i & 1\n    return n - 1_999_958",
)
right(
    "a lock, an event, a condition",
    "import threading\ndef f():\n    e = threading.Event()\n    threading.Timer(0.02, e.set).start()\n    with threading.Condition(): e.wait(2)\n    return 42",
)

# what goes in and out

right(
    "argument changed in place",
    "def f(a):\n    a.sort()\n    a.append(9)",
    "x = [3, 1]\nassert f(x) is None\nassert x == [1, 3, 9]",
)
right(
    "nested argument changed",
    "def f(m):\n    m[0], m[1] = m[1], m[0]\n    m[0][0] = 7\n    m.append([5])",
    "a, b = [1], [2]\nm = [a, b]\nf(m)\nassert m == [[7], [1], [5]] and b == [7] and m[1] is a",
)
right(
    "dictionary and set changed",
    "def f(d, s):\n    d['x'] = s\n    s.discard(1)\n    del d['y']",
    "d, s = {'y': 1}, {1, 2}\nf(d, s)\nassert d == {'x': {2}} and s == {2} and d['x'] is s",
)
right(
    "the argument returned",
    "def f(a):\n    a.append(1)\n    return a",
    "x = []\nassert f(x) is x and x == [1]",
)
right("one list twice", "def f(a, b):\n    a.append(1)\n    return len(b)", "x = []\nassert f(x, x) == 1")
right(
    "keyword arguments",
    "def f(a, *args, k=1, **kw): return a + sum(args) + k + sum(kw.values())",
    "assert candidate(1, 2, k=3, z=4) == 10\nassert candidate(*[1], **{'k': 2}) == 3",
)
right(
    "a function as argument",
    "def f(g, xs): return [g(x) for x in xs]",
    "assert candidate(lambda x: x + 1, [1, 2]) == [2, 3]\nassert candidate(str, [1]) == ['1']\nassert candidate(len, ['ab']) == [2]",
)
right(
    "a function that calls back",
    "def f(g, n): return n if n == 0 else g(n - 1) + 1",
    "assert candidate(lambda n: candidate(lambda m: m, n), 3) == 3",
)
right(
    "a function as result",
    "def f(n):\n    def g(x): return x + n\n    return g",
    "assert candidate(40)(2) == 42\nassert callable(candidate(1))",
)
right(
    "a counter made of a closure",
    "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n        return n\n    return g",
    "g = candidate()\nassert g() == 1 and g() == 2",
)
right(
    "a decorator",
    "def f(g): return lambda *a: g(*a) * 2",
    "@candidate\ndef h(x): return x + 1\nassert h(20) == 42",
)
right(
    "generator",
    "def f(n):\n    for i in range(n): yield i",
    "assert list(candidate(3)) == [0, 1, 2]\ng = candidate(2)\nassert next(g) == 0 and next(g) == 1\nassert next(g, None) is None",
)
right(
    "endless generator",
    "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
    "import itertools\nassert list(itertools.islice(candidate(), 4)) == [0, 1, 2, 3]",
)
right(
    "generator with send",
    "def f():\n    x = yield 1\n    yield x * 2",
    "g = candidate()\nnext(g)\nassert g.send(21) == 42\ng.close()",
)
right(
    "map and zip as result",
    "def f(): return zip('ab', map(int, '12'))",
    "assert list(f()) == [('a', 1), ('b', 2)]",
)
right(
    "iterator as argument",
    "def f(it): return [x for _, x in zip(range(3), it)]",
    "def g():\n    n = 0\n    while True:\n        yield n\n        n += 1\nassert candidate(g()) == [0, 1, 2]\nassert candidate(iter('abc')) == ['a', 'b', 'c']",
)
right(
    "dictionary views",
    "def f(): return {1: 2}.keys(), {1: 2}.items()",
    "k, i = f()\nassert k == {1} and list(i) == [(1, 2)]",
)
right(
    "all kinds of values",
    "def f(): return [None, True, -1, 1 << 70, 0.1, float('inf'), -0.0, 1j, 'a\\ud800', b'\\0', bytearray(b'x'), (1,), {1: {2}}, frozenset([3]), range(3), ..., slice(1)]",
    "x = f()\nassert x[:6] == [None, True, -1, 1 << 70, 0.1, float('inf')] and str(x[6]) == '-0.0'\nassert x[7:] == [1j, 'a\\ud800', b'\\0', bytearray(b'x'), (1,), {1: {2}}, frozenset([3]), range(3), ..., slice(1)]\nassert [type(v) for v in x[9:12]] == [bytes, bytearray, tuple] and type(x[1]) is bool",
)
right(
    "collections",
    "import collections as c\ndef f(): return c.Counter('aab'), c.deque([1], 3), c.OrderedDict(a=1), c.defaultdict(int, a=1)",
    "import collections as c\nassert f() == (c.Counter('aab'), c.deque([1], 3), c.OrderedDict(a=1), {'a': 1})\nassert f()[0].most_common(1) == [('a', 2)] and f()[1].maxlen == 3",
)
right(
    "named tuple as result",
    "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(40, 2)",
    "p = f()\nassert p == (40, 2) and p.x + p.y == 42",
)
right(
    "subclasses of plain types",
    "import enum\nclass N(int): pass\nclass L(list): pass\nclass E(enum.IntEnum):\n    A = 2\ndef f(): return L([N(40), E.A])",
    "assert f() == [40, 2] and sum(f()) == 42",
)
right(
    "a dataclass as result",
    "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n    def double(self): return self.x * 2\ndef f(): return A(21)",
    "a = f()\nassert a.x == 21 and a.double() == 42 and repr(a) == 'A(x=21)'\na.x = 4\nassert a.double() == 8",
)
right(
    "a container of its own",
    "class B:\n    def __init__(self): self.d = {}\n    def __len__(self): return len(self.d)\n    def __getitem__(self, k): return self.d[k]\n    def __setitem__(self, k, v): self.d[k] = v\n    def __iter__(self): return iter(self.d)\n    def __contains__(self, k): return k in self.d\n    def __bool__(self): return True\ndef f(): return B()",
    "b = f()\nassert b and len(b) == 0\nb['x'] = 42\nassert b['x'] == 42 and 'x' in b and list(b) == ['x'] and len(b) == 1",
)
right(
    "a linked list handed back",
    "class N:\n    def __init__(self, v, n=None): self.v, self.n = v, n\ndef f(x):\n    if isinstance(x, N):\n        r = 0\n        while x: r, x = r + x.v, x.n\n        return r\n    h = None\n    for v in x: h = N(v, h)\n    return h",
    "h = candidate([1, 2, 3])\nassert h.v == 3 and h.n.v == 2 and candidate(h) == 6",
)
right(
    "a match object",
    "import re\ndef f(s): return re.match('a(b+)', s)",
    "assert candidate('abb') and not candidate('x')\nassert candidate('abb').group(1) == 'bb'",
)
right(
    "an expected exception",
    "class Bad(ValueError): pass\ndef f(x):\n    if x < 0: raise Bad('negative: %d' % x)\n    return {}[x]",
    "try:\n    candidate(-1)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'negative: -1'\ntry:\n    candidate(3)\n    assert False\nexcept KeyError as e:\n    assert e.args == (3,)",
)
right(
    "an exception with several arguments",
    "def f(k):\n    if k: raise OSError(2, 'gone')\n    return int('x')",
    "try:\n    candidate(1)\n    assert False\nexcept FileNotFoundError as e:\n    assert e.errno == 2\ntry:\n    candidate(0)\n    assert False\nexcept ValueError as e:\n    assert 'invalid literal' in str(e)",
)
right(
    "an exception out of a callback",
    "def f(g):\n    try: g()\n    except ZeroDivisionError: return 42",
    "assert candidate(lambda: 1 / 0) == 42",
)
right(
    "an object of the test's class",
    "def f(n):\n    t = 0\n    while n:\n        t, n = t + n.val, n.next\n    return t",
    "class Node:\n    def __init__(self, val, next=None): self.val, self.next = val, next\nassert candidate(Node(1, Node(2, Node(3)))) == 6",
)
right(
    "changes an object of the test's class",
    "def f(n): n.left, n.right = n.right, n.left\n",
    "class T: pass\nt = T()\nt.left, t.right = 1, [2]\nf(t)\nassert t.left == [2] and t.right == 1",
)
right(
    "True is not 1 in identity",
    "def f(x): return x > 1",
    "assert candidate(2) is True and candidate(0) is False",
)
right("None", "def f(): pass", "assert f() is None")
right(
    "name and documentation",
    "def f():\n    '''What it does.'''\n    return 42",
    "assert candidate.__name__ == 'f' and candidate() == 42",
)
right(
    "a class as the candidate",
    "class f:\n    def __init__(self, x): self.x = x\n    @staticmethod\n    def s(): return 1\n    def g(self): return self.x + f.s()",
    "assert candidate(41).g() == 42 and f.s() == 1 and isinstance(f(1), f)",
)
right("a lambda as the candidate", "f = lambda: 42")
right("a cached function as the candidate", "import functools\n@functools.cache\ndef f(): return 42")
right("a partial as the candidate", "import functools\nf = functools.partial(int, '42')")
right("test needs math", "import math\ndef f(x): return math.sqrt(x)", "assert math.isclose(candidate(4), 2)")
right(
    "inspects its caller",
    "import inspect, traceback\ndef f():\n    inspect.stack(); traceback.format_stack(); inspect.signature(f)\n    return 42",
)
right(
    "a trace function of its own",
    "import sys\nn = 0\ndef t(*a):\n    global n\n    n += 1\ndef g(): pass\ndef f():\n    sys.settrace(t); g(); sys.settrace(None)\n    return 41 + n",
)
right(
    "warnings as errors",
    "import warnings\nwarnings.simplefilter('error')\ndef f():\n    try: warnings.warn('x')\n    except UserWarning: return 42",
)
right(
    "garbage collector off and on",
    "import gc\ngc.disable()\ndef f():\n    gc.collect(); gc.enable()\n    return 42 if gc.isenabled() else 0",
)
right(
    "patches builtins for itself",
    "import builtins\nbuiltins.answer = 42\n_print = print\nbuiltins.print = lambda *a, **k: None\ndef f():\n    print('x')\n    return answer",
)
right(
    "replaces sum and len",
    "def sum(x): return 42\ndef len(x): return 0\nlist = None\ndef f(): return sum([]) + len('abc')",
)
right(
    "an entry point among many",
    "def helper(x): return x\nclass K: pass\nf = lambda: helper(42)\nf.__module__ = 'elsewhere'",
)
right(
    "weak references and slots",
    "import weakref\nclass A:\n    __slots__ = ('x', '__weakref__')\ndef f():\n    a = A(); a.x = 42\n    return weakref.ref(a)().x",
)
right(
    "context variables and locals",
    "import contextvars\nv = contextvars.ContextVar('v', default=42)\ndef f():\n    locals()['x'] = 1\n    return v.get()",
)
right(
    "an exception class of the program",
    "class Bad(ValueError):\n    def __init__(self, code):\n        super().__init__('bad %d' % code)\n        self.code = code\nclass Worse(Bad): pass\ndef f(x): raise (Worse if x > 1 else Bad)(x)",
    "try:\n    candidate(1)\n    assert False\nexcept Bad as e:\n    assert e.code == 1 and str(e) == 'bad 1' and type(e).__name__ == 'Bad'\ntry:\n    candidate(2)\n    assert False\nexcept Bad as e:\n    assert isinstance(e, Worse) and isinstance(e, ValueError)",
)
right(
    "an exception class asked for first",
    "class Bad(Exception): pass\ndef f(): raise Bad('x')",
    "kinds = (KeyError, Bad)\ntry:\n    candidate()\n    assert False\nexcept kinds as e:\n    assert isinstance(e, Bad)",
)
right(
    "an asynchronous generator",
    "import asyncio\nasync def f(n):\n    for i in range(n):\n        await asyncio.sleep(0)\n        yield i",
    "import asyncio\nasync def collect(): return [x async for x in candidate(3)]\nassert asyncio.run(collect()) == [0, 1, 2]",
)
right(
    "coroutines together",
    "import asyncio\nasync def f(x):\n    await asyncio.sleep(0.01)\n    return x * 2",
    "import asyncio\nasync def both(): return await asyncio.gather(candidate(1), candidate(2))\nassert asyncio.run(both()) == [2, 4]",
)
right(
    "a copy of its object",
    "class A:\n    def __init__(self): self.x = [1]\ndef f(): return A()",
    "import copy\na = f()\nb, c = copy.deepcopy(a), copy.copy(a)\nb.x.append(2)\nassert a.x == [1] and a is not b and c.x == [1]",
)
right(
    "an enumeration",
    "import enum\nclass C(enum.Enum):\n    A = 1\n    B = 2\ndef f(x): return C(x)",
    "assert candidate(1) == C.A and candidate(2) is C.B and candidate(1).name == 'A' and candidate(1) != C.B",
)
CASES.append(
    Case(
        "assertions without check",
        "def g(x): return x + 1\ndef f(x): return g(x)",
        "assert f(1) == 2\nassert g(41) == 42",
    )
)
CASES.append(Case("a class the test builds", "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef f(ps): return sum(p.a * p.b for p in ps)",
                  "assert f([Pair(1, 2), Pair(5, 8)]) == 42"))  # fmt: skip
CASES.append(Case("a tree the test builds", "class Node:\n    def __init__(self, d): self.d, self.left, self.right = d, None, None\n"
                  "def f(n): return 0 if n is None else 1 + max(f(n.left), f(n.right))",
                  "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)\nassert f(root) == 3\nassert f(root.left) == 2"))  # fmt: skip
CASES.append(Case("unittest", "def f(x): return x * 2", "import unittest\nclass T(unittest.TestCase):\n    def setUp(self): self.x = 21\n"
                  "    def test_a(self): self.assertEqual(f(self.x), 42)\n    def test_b(self):\n        with self.assertRaises(TypeError): f()\n"))  # fmt: skip
CASES.append(
    Case(
        "test functions",
        "def f(x): return x * 2",
        "def test_a():\n    assert f(1) == 2\ndef test_b(): assert f('a') == 'aa'\n",
    )
)

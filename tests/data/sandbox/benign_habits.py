# ruff: noqa: E501 - one program, one line
"""More right programs: streams, exits, sources, modules, threads, time. Material of test_benign.py."""

from tests.data.sandbox.benign import Case

CASES: list[Case] = []


def right(name: str, source: str, test: str = "assert f() == 42", seconds: float = 5.0) -> None:
    """`test` is the body of check(candidate), where `f` is the candidate too."""
    body = "\n".join("    " + line for line in test.split("\n"))
    CASES.append(Case(name, source, f"def check(candidate):\n{body}\n", seconds))


# streams

right(
    "detaches and rewraps stdout",
    "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-8', line_buffering=True)\ndef f():\n    print('ü')\n    return 42",
)
right(
    "duplicates descriptor 1 and restores it",
    "import os\ndef f():\n    keep = os.dup(1)\n    null = os.open(os.devnull, os.O_WRONLY)\n    os.dup2(null, 1)\n    print('x', flush=True)\n    os.dup2(keep, 1)\n    os.close(keep); os.close(null)\n    return 42",
)
right(
    "opens descriptors 0 and 1 again",
    "def f():\n    with open(0, closefd=False) as i, open(1, 'w', closefd=False) as o:\n        o.write('x')\n        return 42 + len(i.read())",
)
right(
    "iterates over stdin",
    "import sys, fileinput\ndef f(): return 42 + sum(1 for _ in sys.stdin) + len(sys.stdin.readlines())",
)
right(
    "stdin replaced by a text",
    "import io, sys\ndef f():\n    sys.stdin = io.StringIO('40 2\\n')\n    return sum(map(int, input().split()))",
)
right(
    "prints to a closed stderr",
    "import sys\nsys.stderr.close()\ndef f():\n    try: print('x', file=sys.stderr)\n    except ValueError: return 42",
)
right(
    "a logger with handlers everywhere",
    "import logging, logging.handlers, sys\nlog = logging.getLogger('x')\nlog.addHandler(logging.StreamHandler(sys.stdout))\nlog.addHandler(logging.FileHandler('log.txt'))\nlog.setLevel(10)\ndef f():\n    for i in range(100): log.debug('%d', i)\n    logging.shutdown()\n    return 42",
)
right(
    "pretty printing and progress bars",
    "import pprint, sys\ndef f():\n    pprint.pprint({i: i for i in range(200)})\n    for i in range(100): sys.stdout.write('\\r%d%%' % i); sys.stdout.flush()\n    return 42",
)
right(
    "asks whether this is a terminal",
    "import os, sys, shutil\ndef f():\n    shutil.get_terminal_size()\n    return 42 if not sys.stdin.isatty() and not os.isatty(1) else 0",
)
right(
    "prints a megabyte at import and a prompt",
    "print('x' * 1_000_000)\nprint('\\0\\x07', end='')\ndef f():\n    print('Enter:', end='', flush=True)\n    return 42",
)
right(
    "writes into the descriptors directly",
    "import os\ndef f():\n    os.write(1, b'\\xff' * 1000); os.write(2, b'x')\n    return 42",
)
right(
    "faulthandler and tracebacks",
    "import faulthandler, traceback\nfaulthandler.enable()\ndef f():\n    try: 1 / 0\n    except ZeroDivisionError: traceback.print_exc()\n    faulthandler.dump_traceback()\n    return 42",
)

# exits

right(
    "atexit handlers that print and raise",
    "import atexit\natexit.register(print, 'bye')\natexit.register(lambda: 1 / 0)\ndef f(): return 42",
)
right(
    "a thread pool with work left",
    "from concurrent.futures import ThreadPoolExecutor\nimport time\np = ThreadPoolExecutor(2)\nfor _ in range(10): p.submit(time.sleep, 100)\ndef f(): return 42",
)
right(
    "objects in cycles with finalisers",
    "import gc\nn = 0\nclass A:\n    def __del__(self):\n        global n\n        n += 1\ndef f():\n    a, b = A(), A()\n    a.b, b.a = b, a\n    del a, b\n    gc.collect()\n    return 40 + n",
)
right(
    "an event loop left open",
    "import asyncio\nloop = asyncio.new_event_loop()\nasyncio.set_event_loop(loop)\nasync def g(): return 42\ntask = loop.create_task(asyncio.sleep(99))\ndef f(): return loop.run_until_complete(g())",
)
right(
    "a generator never finished",
    "def g():\n    try:\n        while True: yield 42\n    finally: print('closed')\nkeep = g()\ndef f(): return next(keep)",
)
right(
    "sys.exit caught",
    "import sys\ndef f():\n    try: sys.exit('done')\n    except SystemExit as e: return 42 if e.code == 'done' else 0",
)
right(
    "a main guard with argparse",
    "import argparse\ndef f(): return 42\nif __name__ == '__main__':\n    p = argparse.ArgumentParser()\n    p.add_argument('x')\n    p.parse_args()",
)
right("a deliberate leak of memory", "keep = bytearray(200 << 20)\ndef f(): return 42")
right(
    "signal handlers for every signal",
    "import signal\nfor s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n    try: signal.signal(s, lambda *a: None)\n    except (OSError, ValueError): pass\ndef f(): return 42",
)
right(
    "signals blocked and pending",
    "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\nos.kill(os.getpid(), signal.SIGUSR1)\ndef f(): return 42 if signal.SIGUSR1 in signal.sigpending() else 0",
)

# sources

right(
    "Windows line ends inside a text",
    "def f():\r\n    s = '''a\r\nb'''\r\n    return 40 + s.count('\\n') + 1\r\n",
)
right("lines that go on", "def f(): \\\n  return ( 40\n\n\n# comment\n   + 2 ) ; x = 1")
right("one very long line", "def f(): return " + "+".join(["0"] * 900) + " + 42")
right(
    "many assignments and a deep expression",
    "\n".join(f"x{n} = {n}" for n in range(2000)) + "\ndef f(): return " + "(" * 80 + "42" + ")" * 80,
)
right(
    "warnings of the compiler",
    "def f():\n    x = '\\d'\n    assert (1, 'always true')\n    if x is '\\d' or 1: return 42\n    return 0 if 5 is 5 else 1",
)
right("non-breaking identifiers", "def f():\n    ﬁ = 40\n    ª = 2\n    return fi + a")
right(
    "global, nonlocal, del",
    "x = 1\ndef f():\n    global x, y\n    y = 41\n    def g():\n        nonlocal z\n        z += y\n    z = x\n    g()\n    del globals()['y']\n    return z",
)
right(
    "a class body that runs code",
    "class A:\n    total = 0\n    for i in range(7): total += 2 * i\n    def __init_subclass__(cls): cls.tag = cls.total\nclass B(A): pass\ndef f(): return B.tag",
)
right(
    "metaclasses and descriptors",
    "class M(type):\n    def __new__(m, n, b, d): return super().__new__(m, n, b, d | {'answer': 42})\nclass D:\n    def __set_name__(self, o, n): self.n = n\n    def __get__(self, i, o): return o.answer\nclass A(metaclass=M): x = D()\ndef f(): return A().x",
)
right("redefines the entry point", "def f(): return 1\ndef g(h): return lambda: 42\nf = g(f)")
right(
    "a star import and __all__",
    "from math import *\nfrom collections import *\n__all__ = ['f']\ndef f(): return floor(42.5) + len(deque())",
)
right(
    "a module-level __getattr__",
    "def __getattr__(name): return 42\nimport sys\ndef f(): return sys.modules[__name__].nothing",
)
right(
    "type parameters of typing",
    "from typing import Generic, TypeVar, Protocol, NamedTuple, TypedDict, Callable, Optional\nT = TypeVar('T')\nclass Box(Generic[T]):\n    def __init__(self, x: T): self.x = x\nclass P(NamedTuple):\n    a: int\n    b: Optional['P'] = None\nclass D(TypedDict): a: int\ndef f(): return Box[int](P(42).a).x",
)
right(
    "prints in a docstring test",
    "import doctest\ndef f():\n    '''\n    >>> f()\n    42\n    '''\n    return 42\nif __name__ == '__main__': doctest.testmod()",
)

# modules

right(
    "imports inside, with aliases",
    "def f():\n    import os.path as p, importlib\n    m = importlib.import_module('colorsys')\n    return 42 if p.join('a', 'b') == 'a/b' and m.rgb_to_hsv else 0",
)
right(
    "its own module written and imported",
    "import sys, pathlib, importlib\ndef f():\n    pathlib.Path('helper_mod.py').write_text('X = 42')\n    sys.path.insert(0, '.')\n    importlib.invalidate_caches()\n    import helper_mod\n    return helper_mod.X",
)
right(
    "a module made by hand",
    "import sys, types\nm = types.ModuleType('made')\nexec('X = 42', m.__dict__)\nsys.modules['made'] = m\ndef f():\n    from made import X\n    return X",
)
right(
    "an import that is not there",
    "try: import not_a_module_at_all as np\nexcept ImportError: np = None\ndef f(): return 42 if np is None else 0",
)
right(
    "a shadowed standard module",
    "import sys, types\nsys.modules['json'] = types.SimpleNamespace(dumps=lambda x: 'fake')\nimport json\ndef f(): return 42 if json.dumps(1) == 'fake' else 0",
)
right("reloads a module", "import importlib, string\ndef f():\n    importlib.reload(string)\n    return 42")
right(
    "source of the standard library",
    "import inspect, textwrap\ndef f(): return 42 if 'def dedent' in inspect.getsource(textwrap) else 0",
)
right(
    "bisect, heapq, itertools, statistics together",
    "import bisect, heapq, itertools, statistics, functools, operator, string, re, struct, base64, zlib, textwrap, difflib, unicodedata\ndef f():\n    h = [3, 1, 2]; heapq.heapify(h)\n    x = statistics.median(h) + bisect.bisect([1, 2], 1) + len(list(itertools.permutations('abcd'))) + struct.calcsize('<q') + len(zlib.compress(b''))\n    return int(x) + 42 - int(x)",
)
right(
    "the environment changed and read",
    "import os\nos.environ['ANSWER'] = '42'\nos.putenv('X', 'y')\ndef f(): return int(os.environ['ANSWER']) if os.getenv('ANSWER') else 0",
)
right(
    "the recursion limit lowered and raised",
    "import sys\ndef d(n): return n and 1 + d(n - 1)\ndef f():\n    sys.setrecursionlimit(200)\n    try: d(1000)\n    except RecursionError: sys.setrecursionlimit(50000)\n    return d(10000) - 9958",
)
right(
    "deep recursion in a thread with a large stack",
    "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(512 << 20)\ndef d(n): return 0 if n == 0 else 1 + d(n - 1)\ndef f():\n    out = []\n    t = threading.Thread(target=lambda: out.append(d(50000)))\n    t.start(); t.join()\n    return out[0] - 49958",
)
right(
    "int text limit changed",
    "import sys\nsys.set_int_max_str_digits(640)\ndef f():\n    try: str(10 ** 1000)\n    except ValueError: sys.set_int_max_str_digits(0)\n    return len(str(10 ** 5000)) - 4959",
)
right(
    "decimal precision",
    "from decimal import getcontext, Decimal\ngetcontext().prec = 50\ndef f(): return str(Decimal(1) / 7)",
    "assert f() == '0.14285714285714285714285714285714285714285714285714'",
)
right(
    "random numbers with a seed of its own",
    "import random\ndef f():\n    random.seed(1)\n    a = random.random()\n    return 42 if random.Random(1).random() == a else 0",
)
right(
    "numpy imported late and random",
    "def f():\n    import numpy as np\n    r = np.random.default_rng(0)\n    return int(r.integers(42, 43)) + int(np.fft.fft([0]).real.sum())",
)
right(
    "numpy warnings as errors",
    "import numpy as np\nnp.seterr(all='raise')\ndef f():\n    try: np.float64(1) / np.float64(0)\n    except FloatingPointError: return 42",
)

# threads, loops, time, files

right(
    "a barrier, a semaphore, thread-local values",
    "import threading\nlocal = threading.local()\ndef f():\n    b, s, out = threading.Barrier(3), threading.Semaphore(2), []\n    def w(i):\n        local.x = i\n        b.wait(5)\n        with s: out.append(local.x)\n    ts = [threading.Thread(target=w, args=(i,)) for i in (10, 12, 20)]\n    [t.start() for t in ts]; [t.join() for t in ts]\n    return sum(out)",
)
right(
    "an event loop with timeouts, queues and cancellation",
    "import asyncio\nasync def g():\n    q = asyncio.Queue()\n    async def w():\n        for i in (40, 2): await q.put(i)\n    t = asyncio.create_task(w())\n    u = asyncio.create_task(asyncio.sleep(99))\n    x = await q.get() + await q.get()\n    u.cancel()\n    try: await asyncio.wait_for(asyncio.sleep(5), 0.01)\n    except asyncio.TimeoutError: return x\ndef f(): return asyncio.run(g())",
)
right(
    "asyncio debug and executor",
    "import asyncio\nasync def g():\n    loop = asyncio.get_running_loop()\n    return await loop.run_in_executor(None, sum, [40, 2])\ndef f(): return asyncio.run(g(), debug=True)",
)
right(
    "producer and consumer with a sentinel",
    "import threading, queue\ndef f():\n    q, out = queue.Queue(1), []\n    def c():\n        while (x := q.get()) is not None: out.append(x)\n    t = threading.Thread(target=c); t.start()\n    for i in (40, 2, None): q.put(i)\n    t.join()\n    return sum(out)",
)
right(
    "busy threads",
    "import threading\ndef f():\n    out = []\n    def w(): out.append(sum(range(200000)))\n    ts = [threading.Thread(target=w) for _ in range(4)]\n    [t.start() for t in ts]; [t.join() for t in ts]\n    return 42 if len(set(out)) == 1 else 0",
)
right(
    "measures time",
    "import time, timeit\ndef f():\n    a = time.perf_counter(); time.sleep(0.01); b = time.perf_counter()\n    timeit.timeit('1', number=10); time.process_time(); time.thread_time()\n    return 42 if b - a >= 0.01 else 0",
)
right(
    "sleeps often and briefly",
    "import time\ndef f():\n    for _ in range(50): time.sleep(0.005)\n    return 42",
    "assert f() == 42",
    1.0,
)
right(
    "sleeps in many calls",
    "import time\ndef f(x):\n    time.sleep(0.01)\n    return x",
    "for i in range(20): assert f(i) == i",
    1.0,
)
right(
    "a folder tree walked and removed",
    "import os, shutil, glob\ndef f():\n    os.makedirs('a/b/c', exist_ok=True)\n    for n in range(30): open(f'a/b/c/{n}.txt', 'w').write('x')\n    os.symlink('c', 'a/b/link'); os.chmod('a/b/c', 0o755); os.utime('a/b/c/1.txt', (1, 1))\n    n = sum(len(fs) for _, _, fs in os.walk('a')) + len(glob.glob('a/**/*.txt', recursive=True))\n    shutil.rmtree('a')\n    return n + 42 - n if not os.path.exists('a') else 0",
)
right(
    "memory mapped file",
    "import mmap\ndef f():\n    with open('m', 'w+b') as file:\n        file.write(b'\\0' * 4096); file.flush()\n        with mmap.mmap(file.fileno(), 4096) as m:\n            m[0] = 42\n            return m[0]",
)
right(
    "pickle, shelve, csv and configparser on disk",
    "import pickle, shelve, csv, configparser\ndef f():\n    with shelve.open('s') as s: s['a'] = 40\n    with open('c.csv', 'w', newline='') as o: csv.writer(o).writerow([2])\n    with shelve.open('s') as s: x = s['a']\n    return x + int(next(csv.reader(open('c.csv')))[0])",
)
right(
    "file locks and truncation",
    "import fcntl, os\ndef f():\n    with open('l', 'w') as o:\n        fcntl.flock(o, fcntl.LOCK_EX)\n        o.write('x' * 100); o.truncate(42); o.seek(0, 2); o.flush(); os.fsync(o.fileno())\n    return os.path.getsize('l') - 58 if os.path.getsize('l') == 100 else os.path.getsize('l')",
)
right(
    "pipes inside one process",
    "import os\ndef f():\n    r, w = os.pipe()\n    os.write(w, b'42'); os.close(w)\n    with os.fdopen(r) as i: return int(i.read())",
)
right(
    "limits read and lowered",
    "import resource\ndef f():\n    s, h = resource.getrlimit(resource.RLIMIT_NOFILE)\n    resource.setrlimit(resource.RLIMIT_NOFILE, (min(s, 32), h))\n    return 42",
)
right(
    "asks about the process",
    "import os, sys, platform\ndef f():\n    os.getpid(), os.getppid(), os.getuid(), os.getlogin if 0 else 0, os.uname(), os.times(), sys.executable, sys.argv, os.cpu_count(), os.getpgid(0), os.nice(0), os.umask(0o22)\n    return 42",
)
right(
    "looks at frames and globals",
    "import sys, inspect\ndef f():\n    a = sys._getframe().f_code.co_name\n    return 42 if a == 'f' and inspect.currentframe().f_globals is globals() and 'f' in globals() else 0",
)
right(
    "a tracer that is set during the call only",
    "import sys\ndef f():\n    lines = []\n    def t(frame, event, arg):\n        lines.append(event)\n        return t\n    def g():\n        x = 1\n        return x\n    old = sys.gettrace()\n    sys.settrace(t)\n    g()\n    sys.settrace(old)\n    return 38 + len(lines)",
)
right(
    "a profile",
    "import cProfile, pstats, io\ndef f():\n    p = cProfile.Profile()\n    p.runcall(sum, range(10))\n    pstats.Stats(p, stream=io.StringIO()).print_stats()\n    return 42",
)
right(
    "tracemalloc",
    "import tracemalloc\ntracemalloc.start()\ndef f():\n    x = [0] * 10000\n    return 42 if tracemalloc.get_traced_memory()[0] > 0 else 0",
)
right(
    "a result that is slow to compute and large",
    "def f(n):\n    s = bytearray([1]) * (n + 1)\n    for i in range(2, int(n ** 0.5) + 1):\n        if s[i]: s[i * i::i] = bytes(len(s[i * i::i]))\n    return [i for i in range(2, n + 1) if s[i]]",
    "p = f(1000000)\nassert len(p) == 78498 and p[-1] == 999983",
)
right(
    "a thousand calls with large arguments",
    "def f(xs, k): return xs[k]",
    "xs = list(range(2000))\nfor k in range(1000): assert f(xs, k) == k",
)
right(
    "many short exceptions",
    "def f(n):\n    if n % 2: raise ValueError(n)\n    return n",
    "for n in range(1000):\n    try: assert f(n) == n and n % 2 == 0\n    except ValueError as e: assert e.args == (n,) and n % 2",
)
right("ctypes", "import ctypes\ndef f():\n    libc = ctypes.CDLL(None)\n    return libc.abs(-42)")
right(
    "subprocess that it can do without",
    "import subprocess\ndef f():\n    try: return len(subprocess.run(['true'], capture_output=True).stdout) + 42\n    except OSError: return 42",
)
right(
    "sockets it can do without",
    "import socket\ndef f():\n    try:\n        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.close()\n    except OSError: pass\n    return 42",
)

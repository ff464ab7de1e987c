# ruff: noqa: E501 - one program, one line
"""Programs that try to cheat, to break out, or to stay. Material of test_hostile.py.

`Case.source` is the whole program. A program that reaches what it should not answers "done", and "done" is what
the default test expects: a verdict `passed` is a breach. `verdicts` are the honest outcomes.
"""

import secrets
from dataclasses import dataclass, field

WRONG, ERROR, TIMEOUT, KILLED = "wrong_answer", "runtime_error", "timeout", "killed"
MEMORY, OUTPUT, SYNTAX = "out_of_memory", "output_limit", "syntax_error"
DONE = "def check(candidate):\n    assert candidate() == 'done'\n"
ADD = "def check(candidate):\n    assert candidate(20, 22) == 42\n    assert candidate(1, 2) == 3\n"


@dataclass(frozen=True)
class Case:
    name: str
    source: str
    verdicts: tuple[str, ...]
    test: str = DONE
    seconds: float = 1.0
    needs: tuple[str, ...] = field(default=())  # layers without which the program would get through
    prompt: str = ""


CASES: list[Case] = []


def cheat(name: str, source: str, *verdicts: str, test: str = ADD, seconds: float = 1.0) -> None:
    """Tries to pass without the answer; must fail by the process split alone."""
    CASES.append(Case(f"cheat: {name}", source, verdicts, test, seconds))


def act(name: str, body: str, *verdicts: str, needs: tuple[str, ...] = (), seconds: float = 1.0) -> None:
    """`body` tries something and returns "done" when it worked; an exception means it was refused."""
    lines = "\n".join("        " + line for line in body.strip("\n").split("\n"))
    source = (
        "def f():\n    try:\n"
        + lines
        + "\n    except BaseException as error:\n        return 'refused ' + type(error).__name__\n"
    )
    CASES.append(Case(f"act: {name}", source, verdicts or (WRONG,), DONE, seconds, needs))


def after(name: str, body: str, needs: tuple[str, ...] = ()) -> None:
    """Like `act`; run on one worker, in the order of this file."""
    act(name, body, needs=needs)
    case = CASES.pop()
    name = case.name.replace("act:", "after:")
    CASES.append(Case(name, case.source, case.verdicts, case.test, 3.0, case.needs))


def hang(name: str, source: str, *verdicts: str) -> None:
    CASES.append(Case(f"hang: {name}", source, verdicts or (TIMEOUT,), DONE, 0.3))


def flood(name: str, source: str, *verdicts: str, needs: tuple[str, ...] = (), seconds: float = 1.5) -> None:
    CASES.append(Case(f"flood: {name}", source, verdicts, DONE, seconds, needs))


# leaving early

cheat("os._exit in the call", "import os\ndef f(a, b): os._exit(0)", ERROR)
cheat("os._exit at the top", "import os\nos._exit(0)", ERROR)
cheat("the sandbox's own refusal code", "import os\nos._exit(113)", ERROR)
cheat("sys.exit in the call", "import sys\ndef f(a, b): sys.exit(0)", ERROR)
cheat("SystemExit at the top", "raise SystemExit(0)", ERROR)
cheat("quit", "def f(a, b): quit()", ERROR)
cheat("a thread exits", "import os, threading, time\n"
      "threading.Thread(target=lambda: (time.sleep(0.05), os._exit(0))).start()\n"
      "def f(a, b):\n    time.sleep(0.5)\n", ERROR)  # fmt: skip
cheat("abort", "import os\ndef f(a, b): os.abort()", KILLED)
cheat("segmentation fault", "import ctypes\ndef f(a, b): ctypes.string_at(0)", KILLED)
cheat(
    "an exit handler, then exit",
    "import atexit, os\natexit.register(os._exit, 0)\ndef f(a, b): exit()",
    ERROR,
)
cheat("a finaliser that exits", "import os\nclass A:\n    def __del__(self): os._exit(0)\n"
      "def f(a, b):\n    A()\n    return 42\n", ERROR)  # fmt: skip

# exceptions

for kind in ("KeyboardInterrupt", "GeneratorExit", "BaseException", "AssertionError", "MemoryError"):
    cheat(f"raise {kind}", f"def f(a, b): raise {kind}", MEMORY if kind == "MemoryError" else ERROR)
cheat("StopIteration ends the test's loop", "def f(a): raise StopIteration", ERROR,
      test="def check(candidate):\n    for got, want in zip(map(candidate, [1, 2]), [1, 2]):\n"
      "        assert got == want\n")  # fmt: skip
cheat("StopIteration in disguise",
      "class Stop(StopIteration): pass\ndef f(a): raise Stop", ERROR,
      test="def check(candidate):\n    assert list(map(candidate, [1])) == list(map(candidate, [2]))\n"
      "    for got, want in zip(map(candidate, [1]), [1]):\n        assert got == want\n")  # fmt: skip
cheat(
    "an exception whose text never ends",
    "class E(Exception):\n    def __str__(self):\n        while True: pass\ndef f(a, b): raise E",
    TIMEOUT,
    seconds=0.3,
)
cheat(
    "an exception whose text exits",
    "import os\nclass E(Exception):\n    def __str__(self): os._exit(0)\ndef f(a, b): raise E",
    ERROR,
)
cheat("an exception whose class lies",
      "class M(type):\n    __name__ = property(lambda s: 1 / 0)\n    def __repr__(s): raise SystemExit\n"
      "class E(Exception, metaclass=M): pass\ndef f(a, b): raise E", ERROR)  # fmt: skip
cheat(
    "an exception whose mro is long text",
    "def f(a, b): raise type('E' * 1_000_000, (Exception,), {})('x' * 1_000_000)",
    ERROR,
)
cheat(
    "an exception group of everything",
    "def f(a, b): raise BaseException(SystemExit(0), KeyboardInterrupt())",
    ERROR,
)

# answers that equal everything

EQUAL = "    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = object.__hash__\n"
cheat("an object equal to all", f"class A:\n{EQUAL}def f(a, b): return A()", WRONG)
for base, value in (("int", "7"), ("float", "7.0"), ("str", "'x'"), ("list", "[1]"), ("tuple", "(1,)"),
                    ("dict", "{}"), ("bytes", "b'x'"), ("frozenset", "()"), ("complex", "1j")):  # fmt: skip
    cheat(f"{base} equal to all", f"class A({base}):\n{EQUAL}def f(a, b): return A({value})", WRONG)
cheat("an object equal to all, in a list", f"class A:\n{EQUAL}def f(a, b): return [A()]", WRONG,
      test="def check(candidate):\n    assert candidate(1, 2) == [3]\n")  # fmt: skip
cheat("mock.ANY", "from unittest.mock import ANY\ndef f(a, b): return ANY", WRONG)
cheat(
    "a class equal to all", f"class M(type):\n{EQUAL}class A(metaclass=M): pass\ndef f(a, b): return A", WRONG
)
cheat("an int with a lying index",
      "class A(int):\n    def __int__(self): return 42\n    def __index__(self): return 42\n"
      "def f(a, b): return A(1)", WRONG)  # fmt: skip
cheat("an array that equals all", "import numpy\nclass A(numpy.ndarray):\n    def __eq__(self, o): return True\n"
      "def f(a, b): return numpy.zeros(1).view(A)", WRONG)  # fmt: skip
cheat("a mirror that compares from the right",
      "class A:\n    def __eq__(self, o): return True\n    __req__ = __eq__\n"
      "    def __sub__(self, o): return 0\n    __rsub__ = __sub__\n    def __abs__(self): return 0\n"
      "def f(a, b): return A()", WRONG,
      test="def check(candidate):\n    assert abs(candidate(1, 2) - 3) < 1e-6\n")  # fmt: skip
cheat("a pointer handed to NumPy",
      "class A:\n    __array_interface__ = {'data': (8, False), 'shape': (99,), 'typestr': '<i8', 'version': 3}\n"
      "def f(a, b): return A()", WRONG,
      test="import numpy\ndef check(candidate):\n    assert numpy.array(candidate(1, 2)).sum() == 3\n")  # fmt: skip
cheat("contains everything", "class A:\n    def __contains__(self, x): return True\n    def __iter__(self): return iter([0])\n    def __len__(self): return 1\n"
      "def f(a, b): return A()", WRONG, test="def check(candidate):\n    assert 3 in candidate(1, 2)\n")  # fmt: skip
cheat("not a number", "def f(a, b): return float('nan')", WRONG,
      test="def check(candidate):\n    assert abs(candidate(1, 2) - 3) < 1e-6\n")  # fmt: skip
cheat("an enum member that equals all",
      "import enum\nclass A(enum.IntEnum):\n    X = 1\n    def __eq__(self, o): return True\n    __hash__ = None\n"
      "def f(a, b): return A.X", WRONG)  # fmt: skip

# patched interpreter

cheat("builtins that always agree",
      "import builtins\nfor n in ('all', 'any', 'isinstance', 'len', 'abs', 'sorted', 'set', 'list', 'str', 'repr'):\n"
      "    setattr(builtins, n, lambda *a, **k: True)\ndef f(a, b): return None", WRONG, ERROR)  # fmt: skip
cheat(
    "no AssertionError",
    "import builtins\nbuiltins.AssertionError = StopIteration\ndef f(a, b): return 0",
    WRONG,
)
cheat("operator and struct patched",
      "import operator, struct\noperator.eq = operator.is_ = lambda a, b: True\n"
      "struct.Struct.pack = None if False else struct.Struct.pack\nstruct.pack = lambda *a: b''\n"
      "def f(a, b): return 0", WRONG, ERROR)  # fmt: skip
cheat("json, pickle, marshal patched",
      "import json, pickle, marshal\njson.dumps = pickle.dumps = marshal.dumps = lambda *a, **k: b'passed'\n"
      "def f(a, b): return 0", WRONG)  # fmt: skip
cheat("a trace function that rewrites locals",
      "import sys\ndef t(frame, event, arg):\n    for k in list(frame.f_locals):\n        frame.f_locals[k] = True\n    return t\n"
      "sys.settrace(t)\ndef f(a, b): return 0", WRONG, ERROR, KILLED)  # fmt: skip
cheat(
    "a profile function that exits",
    "import sys, os\nsys.setprofile(lambda *a: os._exit(0))\ndef f(a, b): return 0",
    ERROR,
)
cheat("an import hook", "import sys\nclass H:\n    def find_spec(self, *a): raise SystemExit(0)\n"
      "sys.meta_path.insert(0, H())\ndef f(a, b):\n    import xmlrpc", ERROR)  # fmt: skip
cheat("the test's module replaced",
      "import sys, types\nm = types.ModuleType('test')\nm.check = lambda c: None\n"
      "sys.modules['test'] = sys.modules['__main__'] = m\ncheck = lambda c: None\ndef f(a, b): return 0", WRONG)  # fmt: skip
cheat(
    "sys.excepthook and exit codes",
    "import sys, threading\nsys.excepthook = threading.excepthook = lambda *a: sys.exit(0)\ndef f(a, b): raise ValueError",
    ERROR,
)
cheat(
    "a lying hash and type",
    "import builtins\nbuiltins.type = lambda *a: int\nbuiltins.hash = lambda o: 0\ndef f(a, b): return 0",
    WRONG,
    ERROR,
)

# reading the answer

# drawn anew in each run: no file of this machine, a copy of this one neither, holds it
HIDDEN = f"expected-{secrets.token_hex(3)[:5]}"
SECRET_TEST = f"def check(candidate):\n    assert candidate() == {HIDDEN!r}\nEXPECTED = {HIDDEN!r}\n"
FIND = "import re\ndef look(text):\n    found = re.search('expec' + 'ted-[0-9a-f]{5}', text)\n    return found and found.group()\n"
cheat("frames", FIND + "import sys\ndef f():\n    frame, text = sys._getframe(), ''\n    while frame:\n"
      "        text += repr(frame.f_globals) + repr(frame.f_locals) + repr(frame.f_code.co_consts)\n"
      "        frame = frame.f_back\n    return look(text)", WRONG, test=SECRET_TEST)  # fmt: skip
cheat("garbage collector", FIND + "import gc\ndef f():\n    gc.unfreeze()\n    for o in gc.get_objects():\n        try:\n"
      "            hit = look(repr(o)[:100000])\n        except Exception: continue\n        if hit: return hit",
      WRONG, TIMEOUT, test=SECRET_TEST)  # fmt: skip
cheat("source caches", FIND + "import linecache, sys\ndef f():\n    return look(repr(linecache.cache) + repr(list(sys.modules)))",
      WRONG, test=SECRET_TEST)  # fmt: skip
cheat("own memory", FIND + "import os\ndef f():\n    text = open('/proc/self/maps').read()\n"
      "    with open('/proc/self/mem', 'rb', 0) as m:\n        for line in text.splitlines():\n"
      "            span, mode = line.split()[:2]\n            if 'rw' in mode:\n"
      "                a, b = (int(x, 16) for x in span.split('-'))\n                m.seek(a)\n"
      "                hit = look(m.read(b - a).decode('latin-1'))\n                if hit: return hit",
      WRONG, ERROR, test=SECRET_TEST, seconds=3.0)  # fmt: skip
cheat("own memory through ctypes", FIND + "import ctypes\ndef f():\n    at = id(object()) & ~0xfffff\n"
      "    text = ctypes.string_at(at, 1 << 20).decode('latin-1')\n    return look(text)",
      WRONG, KILLED, test=SECRET_TEST)  # fmt: skip
cheat("the judge's memory", FIND + "import os\ndef f():\n    pid = os.getppid()\n"
      "    for line in open(f'/proc/{pid}/maps'):\n        if 'rw' in line:\n"
      "            a, b = (int(x, 16) for x in line.split()[0].split('-'))\n"
      "            with open(f'/proc/{pid}/mem', 'rb', 0) as m:\n                m.seek(a)\n"
      "                hit = look(m.read(b - a).decode('latin-1'))\n                if hit: return hit",
      ERROR, WRONG, test=SECRET_TEST)  # fmt: skip
cheat("every descriptor", FIND + "import os\ndef f():\n    text = ''\n    for n in range(3, 1100):\n        try:\n"
      "            if n != 900: text += os.read(n, 1 << 16).decode('latin-1')\n        except OSError: pass\n"
      "    return look(text)", WRONG, TIMEOUT, test=SECRET_TEST)  # fmt: skip
cheat("the message channel itself",
      FIND + "import os, select\ndef f():\n    if select.select([900], [], [], 0.2)[0]:\n"
      "        return look(os.read(900, 1 << 20).decode('latin-1'))", WRONG, test=SECRET_TEST)  # fmt: skip
CALLBACK_TEST = (
    f"EXPECTED = {HIDDEN!r}\ndef check(candidate):\n    key = EXPECTED\n"
    "    assert candidate(lambda x: x) == key\n"
)
cheat("attributes of the test's callable",
      "def f(g):\n    for name in ('__globals__', '__code__', '__closure__', '__self__', '__func__', 'f_globals'):\n"
      "        try:\n            v = getattr(g, name)\n            v = v.get('EXPECTED') if hasattr(v, 'get') else v\n"
      "            if isinstance(v, str) and 'expected' in v: return v\n        except AttributeError: pass\n",
      WRONG, test=CALLBACK_TEST)  # fmt: skip
cheat("attributes of the test's callable, asked on the channel",
      "import gc\ndef f(g):\n    request, number, _ = object.__getattribute__(g, '_sandbox')\n"
      "    for name in ('__globals__', '__code__', '__closure__', '__builtins__'):\n"
      "        try:\n            v = request('getattr', number, name)\n            return v['EXPECTED']\n        except Exception: pass\n"
      "    for n in range(50):\n        for op in ('iter', 'getitem', 'str', 'repr', 'next', 'contains', 'lookup', 'run'):\n"
      "            try:\n                v = request(op, n, 'EXPECTED')\n                if 'expected' in str(v): return v\n"
      "            except Exception: pass\n", WRONG, ERROR, test=CALLBACK_TEST)  # fmt: skip
cheat("an exception's frames", "def f(g):\n    try:\n        g()\n    except TypeError as error:\n"
      "        frame = error.__traceback__.tb_frame\n        while frame:\n"
      "            if 'EXPECTED' in frame.f_globals: return frame.f_globals['EXPECTED']\n            frame = frame.f_back\n",
      WRONG, test=CALLBACK_TEST)  # fmt: skip

cheat(
    "recursion between program and test",
    "def f(g): return g(lambda: f(g))",
    WRONG,
    ERROR,
    TIMEOUT,
    test="def check(candidate):\n    assert candidate(lambda h: h()) == 42\n",
)

# forging messages

FRAME = "import os, struct\ndef frame(p): return struct.pack('<I', len(p)) + p\n"
cheat(
    "answers sent before the questions",
    FRAME + "def f(a, b): return None\nfor _ in range(9): os.write(900, frame(b'RTl\\0\\0\\0\\0'))",
    WRONG,
    ERROR,
)
cheat(
    "garbage on the channel",
    "import os\nos.write(900, b'passed' * 100)\ndef f(a, b): return 42",
    ERROR,
    TIMEOUT,
    seconds=0.3,
)
cheat(
    "a message of 4 GiB", "import os\nos.write(900, b'\\xff\\xff\\xff\\xff')\ndef f(a, b): return 42", ERROR
)
cheat("an empty message", "import os\nos.write(900, b'\\0\\0\\0\\0')\ndef f(a, b): return 42", ERROR)
cheat(
    "half a message",
    "import os, time\nos.write(900, b'\\x10\\0\\0\\0RT')\ntime.sleep(9)",
    TIMEOUT,
    ERROR,
    seconds=0.3,
)
cheat(
    "more items than bytes",
    FRAME + "os.write(900, frame(b'Rl\\xff\\xff\\xff\\x7f'))\nimport time; time.sleep(9)",
    ERROR,
)
cheat("unknown tags", FRAME + "os.write(900, frame(b'R\\x80\\x80'))\nimport time; time.sleep(9)", ERROR)
cheat(
    "a message nested too deep",
    FRAME + "os.write(900, frame(b'R' + b'l\\1\\0\\0\\0' * 100000))\nimport time; time.sleep(9)",
    ERROR,
)
cheat("a request for the judge's object 0",
      FRAME + "os.write(900, frame(b'C' + b'\\7getattr' + b'\\0\\0\\0\\0' + b't\\1\\0\\0\\0s\\4\\0\\0\\0fail'))\n"
      "def f(a, b): return 0", WRONG, ERROR)  # fmt: skip
cheat("an array of objects", FRAME + "os.write(900, frame(b'Rn\\2\\0\\0\\0|Ot\\1\\0\\0\\0i' + struct.pack('<q', 1)"
      " + b'b\\x08\\0\\0\\0' + b'A' * 8))\nimport time; time.sleep(9)", ERROR)  # fmt: skip
cheat(
    "the channel closed", "import os\ndef f(a, b):\n    os.close(900)\n    import time; time.sleep(9)", ERROR
)
cheat("a verdict on every descriptor",
      "import os, json\ndef f(a, b):\n    text = json.dumps({'result': {'verdict': 'passed'}}).encode()\n"
      "    for n in range(0, 64):\n        try: os.write(n, struct.pack('<II', 0, len(text)) + text)\n"
      "        except Exception: pass\n    return 0", WRONG)  # fmt: skip
cheat("a patch of something else's argument",
      FRAME + "def f(a, b):\n    os.write(900, frame(b'RTl\\1\\0\\0\\0t\\2\\0\\0\\0i' + struct.pack('<q', 77)"
      " + b't\\0\\0\\0\\0'))\n    import time; time.sleep(9)", ERROR)  # fmt: skip

# not coming to an end

hang("loop", "def f():\n    while True: pass")
hang("loop at the top", "while True: pass")
hang(
    "loop that swallows everything",
    "def f():\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
)
hang("loop in C", "import itertools\ndef f(): return sum(itertools.repeat(1))")
hang("one large power", "def f(): return 7 ** 10 ** 9 % 10")
hang("regular expression", "import re\ndef f(): return re.match('(a+)+$', 'a' * 50 + 'b')")
hang(
    "signals blocked",
    "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ndef f():\n    while True: pass",
)
hang("signals ignored", "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
     "    except (OSError, ValueError): pass\ndef f():\n    while True: pass")  # fmt: skip
hang("stops itself", "import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGSTOP)")
hang(
    "patched clocks",
    "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0\ndef f():\n    while True: pass",
)
hang("sleep", "import time\ndef f(): time.sleep(1000)")
hang("short sleeps", "import time\ndef f():\n    while True: time.sleep(0.003)")
hang("event", "import threading\ndef f(): threading.Event().wait()")
hang("deadlock", "import threading\ndef f():\n    l = threading.Lock(); l.acquire(); l.acquire()")
hang("pause", "import signal\ndef f(): signal.pause()")
hang("loop in a thread", "import threading\ndef w():\n    while True: pass\n"
     "def f():\n    t = threading.Thread(target=w); t.start(); t.join()")  # fmt: skip
hang(
    "loop in a finaliser",
    "class A:\n    def __del__(self):\n        while True: pass\ndef f():\n    A()\n    return 'done'",
)
hang(
    "endless generator", "def f():\n    def g():\n        while True: yield 1\n    return g()", TIMEOUT, WRONG
)
hang(
    "loop while compiling",
    "def f(): return " + "+".join(["'a' * 4096 * 4096"] * 1 + ["9" * 4000] * 300),
    SYNTAX,
    ERROR,
    WRONG,
)
hang(
    "virtual timer that raises for ever",
    "import signal\ndef h(*a): pass\nsignal.signal(signal.SIGALRM, h)\nsignal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\n"
    "def f():\n    while True: pass",
)
CASES.append(Case("hang: endless iterator drained by the test", "import itertools\ndef f(): return itertools.count()",
                  (TIMEOUT, MEMORY), "def check(candidate):\n    assert list(candidate()) == [1]\n", 0.5))  # fmt: skip

# floods

flood("memory", "def f():\n    x = []\n    while True: x.append(bytearray(1 << 26))", MEMORY, seconds=5.0)
flood("memory, errors swallowed",
      "def f():\n    x = []\n    while True:\n        try:\n            while True: x.append('x' * (1 << 26))\n"
      "        except MemoryError: pass", TIMEOUT, MEMORY, seconds=0.5)  # fmt: skip
flood("output", "def f():\n    while True: print('x' * 100000)", OUTPUT, TIMEOUT)
flood("error output", "import sys\ndef f():\n    while True: sys.stderr.write('x' * 100000)", OUTPUT, TIMEOUT)
flood(
    "a large file",
    "def f():\n    with open('big', 'wb') as out:\n        while True: out.write(b'x' * (1 << 20))",
    ERROR,
)
flood("many large files", "def f():\n    for n in range(10**6):\n        with open(f'big{n}', 'wb') as out:\n"
      "            out.write(b'x' * (1 << 23))\n    return 'done'", ERROR, MEMORY, TIMEOUT, KILLED, needs=("tmpfs",))  # fmt: skip
flood(
    "inodes",
    "def f():\n    for n in range(10**7): open(f'f{n}', 'w').close()\n    return 'done'",
    ERROR,
    TIMEOUT,
    needs=("tmpfs",),
)
flood("descriptors", "import os\ndef f():\n    while True: os.dup(0)", ERROR)
flood("threads", "import threading, time\ndef f():\n    while True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
      ERROR, TIMEOUT, needs=("namespaces",))  # fmt: skip
flood("fork bomb", "import os\ndef f():\n    while True: os.fork()", ERROR, TIMEOUT, needs=("seccomp",))
flood(
    "fork bomb that swallows errors",
    "import os\ndef f():\n    while True:\n        try: os.fork()\n        except OSError: pass",
    TIMEOUT,
    needs=("seccomp",),
    seconds=0.3,
)
flood("an answer of 200 MB", "def f(): return 'x' * 200_000_000", ERROR, seconds=6.0)
flood(
    "a very deep answer",
    "def f():\n    x = []\n    for _ in range(200000): x = [x]\n    return x",
    ERROR,
    WRONG,
)
flood("a cyclic answer", "def f():\n    x = []\n    x.append(x)\n    return x", ERROR, WRONG)
flood(
    "an answer that doubles 60 times",
    "def f():\n    x = [1]\n    for _ in range(60): x = [x, x]\n    return x",
    WRONG,
    ERROR,
    TIMEOUT,
    MEMORY,
)
flood("a long integer", "def f(): return 1 << (1 << 26)", WRONG, ERROR)
flood("a long range", "def f(): return range(10**15)", WRONG)
CASES.append(Case("flood: a long range listed by the test", "def f(): return range(10**15)", (MEMORY, TIMEOUT, WRONG),
                  "def check(candidate):\n    assert list(candidate()) == [1]\n", 1.0))  # fmt: skip
CASES.append(Case("flood: integers with one hash", "def f(): return [i * (2**61 - 1) for i in range(1, 3000)]", (WRONG,),
                  "def check(candidate):\n    assert set(candidate()) == {1}\n", 1.0))  # fmt: skip
flood(
    "attribute names without end",
    "class A:\n    def __getattr__(self, n): return A()\ndef f(): return A()",
    WRONG,
)
flood("shared memory", "from multiprocessing import shared_memory\ndef f():\n    shared_memory.SharedMemory(create=True, size=1 << 20)\n"
      "    return 'done'", ERROR, needs=("landlock",))  # fmt: skip

# staying

DAEMON = "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(30)\n    os._exit(0)\nreturn 'done'"
act("daemon", "import os, time\n" + DAEMON, needs=("seccomp",))
act("subprocess", "import subprocess\nsubprocess.Popen(['sleep', '30'])\nreturn 'done'", needs=("seccomp",))
act("os.system", "import os\nreturn 'done' if os.system('true') == 0 else 'no'", needs=("seccomp",))
act("posix_spawn", "import os\nos.posix_spawn('/bin/true', ['true'], {})\nreturn 'done'", needs=("seccomp",))
act("exec", "import os\nos.execv('/bin/true', ['true'])", needs=("seccomp",))
act("multiprocessing", "import multiprocessing\np = multiprocessing.get_context('fork').Process(target=print)\np.start()\nreturn 'done'",
    needs=("seccomp",))  # fmt: skip
act("a new session", "import os\nos.setsid()\nreturn 'done'", needs=("seccomp",))
act("clone through ctypes", "import ctypes\nr = ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0)\nreturn 'done' if r >= 0 else 'no'",
    needs=("seccomp",))  # fmt: skip
act(
    "vfork through ctypes",
    "import ctypes\nr = ctypes.CDLL(None).syscall(58)\nreturn 'done' if r >= 0 else 'no'",
    needs=("seccomp",),
)

# other processes

act("signal the judge", "import os\nos.kill(os.getppid(), 0)\nreturn 'done'", needs=("seccomp",))
act(
    "kill the judge",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nreturn 'done'",
    needs=("seccomp",),
)
act("kill everything", "import os, signal\nos.kill(-1, signal.SIGKILL)\nreturn 'done'", needs=("seccomp",))
act(
    "kill the first process",
    "import os, signal\nos.kill(1, signal.SIGKILL)\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "signal by descriptor",
    "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)\nreturn 'done'",
    needs=("seccomp",),
)
act("own the signals of a descriptor", "import fcntl, os, socket\na, b = socket.socketpair()\nfcntl.fcntl(a, 8, os.getppid())\nreturn 'done'",
    needs=("seccomp",))  # fmt: skip
act(
    "ptrace",
    "import ctypes, os\nr = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)\nreturn 'done' if r == 0 else 'no'",
)
act("process_vm_readv", "import ctypes, os\nr = ctypes.CDLL(None).process_vm_readv(os.getppid(), 0, 0, 0, 0, 0)\n"
    "return 'done' if r >= 0 else 'no'", needs=("seccomp",))  # fmt: skip
act(
    "limits of the judge",
    "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "affinity of the judge",
    "import os\nos.sched_setaffinity(os.getppid(), {0})\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "priority of the judge",
    "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "own limits raised",
    "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\nreturn 'done'",
)

# network

act(
    "TCP to this machine",
    "import socket\nsocket.create_connection(('127.0.0.1', TCP_PORT), 1).send(b'x')\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "UDP to this machine",
    "import socket\nsocket.socket(2, 2).sendto(b'x', ('127.0.0.1', UDP_PORT))\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "abstract socket",
    "import socket\ns = socket.socket(1, 1)\ns.connect('\\0sandbox-test')\nreturn 'done'",
    needs=("seccomp",),
)
act("abstract datagram from a pair", "import socket\na, b = socket.socketpair(1, 2)\na.sendto(b'x', '\\0sandbox-test-dgram')\nreturn 'done'",
    needs=("seccomp",))  # fmt: skip
act(
    "listen",
    "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\nreturn 'done'",
    needs=("seccomp",),
)
act("raw socket", "import socket\nsocket.socket(2, 3, 1)\nreturn 'done'", needs=("seccomp",))
act("netlink", "import socket\nsocket.socket(16, 3, 0)\nreturn 'done'", needs=("seccomp",))
act("name lookup", "import socket\nsocket.getaddrinfo('example.com', 80)\nreturn 'done'", needs=("seccomp",))
act("io_uring", "import ctypes\nb = ctypes.create_string_buffer(120)\nr = ctypes.CDLL(None).syscall(425, 4, b)\nreturn 'done' if r >= 0 else 'no'",
    needs=("seccomp",))  # fmt: skip

# the host

act("host environment", "import os\nreturn 'done' if 'SANDBOX_TEST_SECRET' in os.environ else 'no'")
act("environment of all processes", "import glob\nfor p in glob.glob('/proc/[0-9]*/environ'):\n    try:\n"
    "        if b'SANDBOX_TEST_SECRET' in open(p, 'rb').read(): return 'done'\n    except OSError: pass\nreturn 'no'",
    needs=("namespaces",))  # fmt: skip
act("command lines of all processes", "import glob\nfor p in glob.glob('/proc/[0-9]*/cmdline'):\n    open(p).read()\n    return 'done'\nreturn 'no'",
    needs=("landlock",))  # fmt: skip
act("secret file", "open('SECRET_FILE').read()\nreturn 'done'", needs=("landlock",))
act("password file", "open('/etc/passwd').read()\nreturn 'done'", needs=("landlock",))
act("list the root", "import os\nos.listdir('/')\nreturn 'done'", needs=("landlock",))
act("list the home", "import os\nos.listdir('/root')\nreturn 'done'", needs=("landlock",))
act("the project's source", "open('PROJECT/data/execution.py').read()\nreturn 'done'", needs=("landlock",))
act("the project's modules", "import data.execution\nreturn 'done'")
act("write beside the scratch folder", "open('../TOKEN', 'w').write('x')\nreturn 'done'", needs=("landlock",))
act("write into /var/tmp", "open('/var/tmp/TOKEN', 'w').write('x')\nreturn 'done'", needs=("landlock",))
act("write into /dev/shm", "open('/dev/shm/TOKEN', 'w').write('x')\nreturn 'done'", needs=("landlock",))
act(
    "write into Python's library",
    "import os\nopen(os.path.dirname(os.__file__) + '/TOKEN.py', 'w').write('x')\nreturn 'done'",
    needs=("landlock",),
)
act("write into site-packages", "import sys\nfor p in sys.path:\n    try:\n        open(p + '/TOKEN.pth', 'w').write('x')\n        return 'done'\n"
    "    except OSError: pass\nreturn 'no'", needs=("landlock",))  # fmt: skip
act(
    "a symbolic link to the secret",
    "import os\nos.symlink('SECRET_FILE', 'link')\nopen('link').read()\nreturn 'done'",
    needs=("landlock",),
)
act(
    "a hard link to the secret",
    "import os\nos.link('SECRET_FILE', 'link')\nopen('link').read()\nreturn 'done'",
    needs=("landlock",),
)
act("modes of the secret", "import os\nos.chmod('SECRET_FILE', 0o777)\nreturn 'done'", needs=("seccomp",))
act("truncate the secret", "import os\nos.truncate('SECRET_FILE', 0)\nreturn 'done'", needs=("landlock",))
act("escape by chroot", "import os\nos.chroot('.')\nreturn 'done'", needs=("seccomp",))
act(
    "new user namespace",
    "import ctypes\nr = ctypes.CDLL(None).unshare(0x10000000)\nreturn 'done' if r == 0 else 'no'",
    needs=("seccomp",),
)
act(
    "mount",
    "import ctypes\nr = ctypes.CDLL(None).mount(b'x', b'.', b'tmpfs', 0, None)\nreturn 'done' if r == 0 else 'no'",
)
act(
    "device node",
    "import os, stat\nos.mknod('disk', stat.S_IFBLK | 0o600, os.makedev(254, 0))\nreturn 'done'",
    needs=("landlock",),
)
act("become another user", "import os\nos.setuid(1)\nreturn 'done'", needs=("seccomp",))
act(
    "capabilities back",
    "import ctypes\nr = ctypes.CDLL(None).prctl(24, 0, 0, 0, 0)\nreturn 'done' if r == 0 else 'no'",
    needs=("capabilities",),
)
act(
    "kernel log",
    "import ctypes\nr = ctypes.CDLL(None).klogctl(10, None, 0)\nreturn 'done' if r > 0 else 'no'",
    needs=("seccomp",),
)
act(
    "System V shared memory",
    "import ctypes\nr = ctypes.CDLL(None).shmget(7777, 4096, 0o1600)\nreturn 'done' if r >= 0 else 'no'",
    needs=("seccomp",),
)
act(
    "message queue",
    "import ctypes\nr = ctypes.CDLL(None).msgget(7777, 0o1600)\nreturn 'done' if r >= 0 else 'no'",
    needs=("seccomp",),
)
act("a file without a name", "import os\nos.memfd_create('x')\nreturn 'done'", needs=("seccomp",))
act(
    "x32 system call",
    "import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 41, 2, 1, 0)\nreturn 'done'",
    KILLED,
    needs=("seccomp",),
)
act("memory locked", "import ctypes\nr = ctypes.CDLL(None).mlockall(3)\nreturn 'done' if r == 0 else 'no'")

# what the next program could find: these run on one worker, in this order

after("leave a file", "open('left', 'w').write('x')\nreturn 'left'")
after("find a file", "import os\nreturn 'done' if os.listdir('.') else 'no'")
after(
    "leave a deep tree",
    "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\nreturn 'left'",
)
after(
    "leave closed folders",
    "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.chmod('a/b', 0)\nos.chmod('a', 0)\nreturn 'left'",
)
after("leave odd names", "import os\nfor n in ('a\\nb', ' ', '\\udcff', '-rf', 'x' * 255):\n    open(n, 'w').close()\n    os.symlink('SECRET_FILE', n[:200] + 'l')\n"
    "return 'left'")  # fmt: skip
after(
    "leave a link to the secret's folder", "import os\nos.symlink('SECRET_FOLDER', 'folder')\nreturn 'left'"
)
after("find anything", "import os\nreturn 'done' if os.listdir('.') else 'no'")

# broken sources

for name, source in (
    ("NUL", "def f(): return 'done'\0"),
    ("lone surrogate", "def f(): return 'done' # \udc80"),
    ("truncated", "def f(): return ("),
    ("mixed tabs", "def f():\n        x = 1\n\treturn 'done'"),
    ("nested too deep", "def f(): return " + "(" * 500 + ")" * 500),
    ("indentation too deep", "".join(" " * i + "if 1:\n" for i in range(150))),
    ("nonsense bytes", "\x01\x02\xff"),
    ("a wrong encoding line", "# coding: no-such\ndef f(): return ("),
):
    CASES.append(Case(f"source: {name}", source, (SYNTAX,)))
CASES.append(Case("source: empty", "", (ERROR,)))
CASES.append(Case("source: no entry point", "def g(): return 'done'", (ERROR,)))
CASES.append(
    Case("source: 5 MB of noise", "def f(): return (" + "1 +" * 1_700_000, (SYNTAX, TIMEOUT, MEMORY))
)

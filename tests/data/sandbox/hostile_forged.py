# ruff: noqa: E501 - one program, one line
"""Programs that write messages of their own on the channel. Material of test_hostile.py."""

from tests.data.sandbox.hostile import ERROR, MEMORY, TIMEOUT, WRONG, Case, cheat

CASES: list[Case] = []  # they go through the functions of hostile.py

# How the program's side spells values: tags and counts of data/sandbox/codec.py
SPELLING = "import os, struct\nprotocol=900\ndef frame(p): os.write(protocol, struct.pack('<I',len(p))+p)\nN=b't\\0\\0\\0\\0'\ndef s(x): x=x.encode(); return b's'+struct.pack('<I',len(x))+x\ndef t(*x): return b't'+struct.pack('<I',len(x))+b''.join(x)\ndef i(n): return b'i'+struct.pack('<q',n)\n"
ADD = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(5, 6) == 11\n"


def forged(name: str, payload: str, *verdicts: str, test: str = ADD, seconds: float = 0.3) -> None:
    """Instead of answering, the program sends `payload` and waits."""
    source = SPELLING + f"def f(a, b):\n    frame({payload})\n    import time; time.sleep(9)"
    cheat(f"forged: {name}", source, *verdicts, test=test, seconds=seconds)


forged(
    "many classes of named tuples",
    "b'R'+t(*[b'u'+s('T')+t(i(1))+t(s('x%d'%k)) for k in range(200000)])+N+N",
    ERROR,
    seconds=3.0,
)
forged(
    "many classes of exceptions",
    "b'R'+t(*[b'E'+t(s('E%d'%k),s('Exception'))+s('m')+t()+b'd\\0\\0\\0\\0'+b'N'+b'l\\0\\0\\0\\0' for k in range(100000)])+N+N",
    ERROR,
    seconds=3.0,
)
forged(
    "a zone from a path", "b'R'+b'J'+struct.pack('<I',17)+b'zoneinfo.ZoneInfo'+t(s('/etc/passwd'))+N+N", ERROR
)
forged(
    "a zone from a path, up",
    "b'R'+b'J'+struct.pack('<I',17)+b'zoneinfo.ZoneInfo'+t(s('../../../etc/passwd'))+N+N",
    ERROR,
)
forged(
    "a decimal with a huge exponent",
    "b'R'+b'm'+struct.pack('<I',13)+b'1E+9999999999'[:13]+N+N",
    MEMORY,
    WRONG,
    test="def check(candidate):\n    assert int(candidate(1,2)) == 3\n",
)
forged(
    "a wrong length of a shape",
    "b'R'+b'J'+struct.pack('<I',19)+b'builtins.memoryview'+t(b'b'+struct.pack('<I',3)+b'abc',s('B'),t(i(1<<40)))+N+N",
    ERROR,
)
forged("kept numbers that are no numbers", "b'R'+i(3)+N+t(b'T',b'T')", ERROR)
forged("kept numbers out of range", "b'R'+i(3)+N+t(i(1<<40),i(-5))", TIMEOUT)
forged("changes of unknown containers", "b'R'+i(4)+t(t(i(77),t(i(1))))+N", ERROR)
forged("changes that are no tuple", "b'R'+i(4)+i(5)+N", ERROR)
forged("a reference beyond", "b'R'+b'A'+struct.pack('<I',999)+N+N", ERROR)
forged(
    "a request in a request, for ever",
    "b'C'+bytes([4])+b'call'+struct.pack('<I',0)+t(t(),t())+N",
    TIMEOUT,
    ERROR,
)
forged(
    "an exception whose class ends the judge",
    "b'E'+b'E'+t(s('Stopped'),s('BaseException'))+s('m')+t()+b'd\\0\\0\\0\\0'+b'N'+b'l\\0\\0\\0\\0'+N+N",
    TIMEOUT,
    test="def check(candidate):\n    try:\n        candidate(1,2)\n    except BaseException:\n        pass\n    assert candidate(1,2)==3\n",
)
forged("an exception that is a value", "b'E'+i(3)+N+N", ERROR)
forged("a type that is no type", "b'R'+b'x'+struct.pack('<I',8)+b'__import'+N+N", ERROR)
forged(
    "numpy dtype of a sub-array",
    "b'R'+b'n'+struct.pack('<I',16)+b'(100000000000,)i8'[:16]+t(i(1))+b'b\\0\\0\\0\\0'+N+N",
    ERROR,
)
forged(
    "numpy dtype with objects",
    "b'R'+b'n'+struct.pack('<I',2)+b'|O'+t(i(1))+b'b'+struct.pack('<I',8)+b'\\0'*8+N+N",
    ERROR,
)
forged(
    "numpy shape of negative numbers",
    "b'R'+b'n'+struct.pack('<I',3)+b'<i8'+t(i(-1),i(-1))+b'b'+struct.pack('<I',8)+b'\\0'*8+N+N",
    ERROR,
)
forged("a set of lists", "b'R'+b'S'+struct.pack('<I',1)+b'l\\0\\0\\0\\0'+N+N", ERROR)
forged("a dictionary longer than its bytes", "b'R'+b'd\\xff\\xff\\xff\\x7f'+N+N", ERROR)
forged(
    "a function without a name of a call", "b'R'+b'HO'+struct.pack('<I',5)+b'f'+bytes([200])+b'x'+N+N", ERROR
)
forged("an unknown kind of handle", "b'R'+b'HO'+struct.pack('<I',5)+b'Z'+bytes([1])+b'x'+N+N", ERROR)
forged("two answers in one", "b'R'+i(3)+N+N+b'R'+i(11)+N+N", TIMEOUT)
cheat(
    "millions of handles",
    "def f(a,b): return [(lambda: 0) for _ in range(1500000)]",
    WRONG,
    ERROR,
    seconds=10,
)
cheat(
    "a thread name that looks like a state",
    "import ctypes, time\nctypes.CDLL(None).prctl(15, b') R 0 0 0', 0, 0, 0)\ndef f(a,b): time.sleep(60)",
    TIMEOUT,
)
cheat(
    "busy one part in eight",
    "import time\ndef f(a,b):\n    while True:\n        t=time.perf_counter()\n        while time.perf_counter()-t<0.003: pass\n        time.sleep(0.02)",
    TIMEOUT,
)
cheat(
    "idle policy and a loop",
    "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\ndef f(a,b):\n    while True: pass",
    TIMEOUT,
)
cheat(
    "all threads on all cores",
    "import threading, os\ntry: os.sched_setaffinity(0,range(64))\nexcept OSError: pass\ndef w():\n    while True: pass\ndef f(a,b):\n    for _ in range(20): threading.Thread(target=w,daemon=True).start()\n    w()",
    TIMEOUT,
)
cheat(
    "never lets another thread run",
    "import sys, threading\nsys.setswitchinterval(1e9)\ndef f(a,b):\n    threading.Thread(target=lambda: [0 for _ in iter(int,1)],daemon=True).start()\n    return a-b",
    WRONG,
    TIMEOUT,
)
cheat(
    "an argument that becomes its own part",
    "def f(a,b): a.append(a); return a",
    WRONG,
    ERROR,
    test="def check(candidate):\n    x=[1]\n    assert candidate(x,0)==[1,2]\n",
)
cheat(
    "deletes the test's module through frames",
    "import sys\ndef f(a,b):\n    fr=sys._getframe()\n    while fr: fr.f_globals.clear() if fr.f_back is None else None; fr=fr.f_back\n    return a+b+1",
    WRONG,
    ERROR,
)
cheat(
    "patches its own server to say yes",
    "import gc\nclass Yes:\n    def __eq__(s,o): return True\ndef f(a,b):\n    for o in gc.get_objects():\n        if type(o).__name__=='Peer': o.operate=lambda *x: Yes()\n    return Yes()",
    WRONG,
    ERROR,
)
cheat(
    "asks the judge for everything",
    "import gc\nout=[]\ndef f(a,b):\n    for o in gc.get_objects():\n        if type(o).__name__=='Peer':\n            for n in range(20):\n                for op in ('getattr','call','repr','str','iter','code','deepcopy','len','hash','next','enter','isinstance','bool'):\n                    try: out.append(o.request(op,n,*(('__dict__',) if op=='getattr' else ((),()) if op=='call' else (1,) if op=='isinstance' else ())))\n                    except BaseException as e: out.append(repr(e)[:50])\n            break\n    return [x for x in out if type(x) is int and x==3][:1] and 3",
    WRONG,
    ERROR,
    test="def check(candidate):\n    assert candidate(1,2)==3\n    assert candidate(5,6)==11\n",
    seconds=5,
)
cheat(
    "deepcopy of the test's function",
    "def f(a,b):\n    import copy\n    g=copy.deepcopy(a)\n    return g(b)==None and [c.cell_contents for c in g.__closure__]",
    WRONG,
    ERROR,
    test="def check(candidate):\n    secret=[7]\n    assert candidate(lambda x: x and secret, 1)==[[7]]\n",
)
cheat(
    "fills kernel pipes",
    "import os\nps=[]\ndef f(a,b):\n    while True:\n        try: r,w=os.pipe()\n        except OSError: break\n        os.set_blocking(w,False)\n        try:\n            while True: os.write(w,b'x'*65536)\n        except OSError: pass\n        ps.append((r,w))\n    return a-b",
    WRONG,
)
cheat(
    "text of an exception that changes",
    "n=0\nclass E(Exception):\n    def __str__(s):\n        global n; n+=1; return '3'*n\ndef f(a,b): raise E",
    ERROR,
)
cheat(
    "comparisons through a callable class",
    "class A(type):\n    def __eq__(c,o): return True\n    def __hash__(c): return 1\nclass B(metaclass=A): pass\ndef f(a,b): return B",
    WRONG,
)
cheat(
    "a generator that is endless and equal",
    "def f(a,b):\n    while True: yield 3",
    WRONG,
    test="def check(candidate):\n    assert list(zip(range(3),candidate(1,2)))==[(0,1),(1,2),(2,3)]\n",
)

# ruff: noqa: E501 - one program, one line
"""Right programs that use rarer parts of the library and the language. Material of test_benign.py."""

from tests.data.sandbox.benign import Case, body_of

CASES: list[Case] = []


def right(name: str, source: str, test: str = "assert f() == 42", seconds: float = 5.0) -> None:
    """`test` is the body of check(candidate), where `f` is the candidate too."""
    CASES.append(Case(name, source, body_of(test), seconds))


right(
    "defaultdict with a lambda",
    "from collections import defaultdict\ndef f():\n    d=defaultdict(lambda: 7); d['a']=1\n    return d",
    "r=f()\nassert r=={'a':1}\nassert r['zz']==7",
)
right(
    "nested defaultdict",
    "from collections import defaultdict\ndef f():\n    d=defaultdict(lambda: defaultdict(int)); d['a']['b']+=2\n    return d",
    "r=f()\nassert r=={'a':{'b':2}}\nassert r['q']['z']==0",
)
right(
    "ctypes callback",
    "import ctypes\ndef f():\n    CMP=ctypes.CFUNCTYPE(ctypes.c_int,ctypes.POINTER(ctypes.c_int),ctypes.POINTER(ctypes.c_int))\n    a=(ctypes.c_int*5)(5,1,4,2,3)\n    ctypes.CDLL(None).qsort(a,5,4,CMP(lambda x,y:x[0]-y[0]))\n    return list(a)",
    "assert f()==[1,2,3,4,5]",
)
right("find_library", "import ctypes.util\ndef f():\n    ctypes.util.find_library('m')\n    return 42")
right("ligature identifiers", "ﬁ = 41\ndef f():\n    return fi + 1")
right(
    "int text limit hit and lifted",
    "import sys\ndef f():\n    try:\n        str(10**5000)\n        return 1\n    except ValueError:\n        pass\n    sys.set_int_max_str_digits(0)\n    return len(str(10**5000))",
    "assert f()==5001",
)
right("a huge integer compared", "def f(): return 7**40000", "assert f()==7**40000")
right(
    "rare modules",
    "def f():\n    import graphlib, colorsys, cmd, shlex, plistlib, wave, html.parser, http.cookies, email.message, mailbox, urllib.parse, uuid, secrets, ssl, dbm.dumb, lzma, bz2, zlib, pydoc, doctest, timeit, cProfile, trace, code, codeop, dis, symtable, tokenize, xml.etree.ElementTree, zoneinfo, tomllib, fileinput, gettext, sched, netrc, mimetypes, sndhdr, telnetlib, ftplib, smtplib, socketserver, xmlrpc.client, textwrap, rlcompleter, stringprep, unicodedata, zipapp, ensurepip, venv, imghdr, optparse, getopt, pty, tty, termios, syslog, resource, fcntl, grp, pwd\n    return 42",
)
right(
    "uuid1 and host name",
    "import uuid, socket, platform\ndef f():\n    u=uuid.uuid1(); socket.gethostname(); platform.platform()\n    return u.version + 41",
)
right(
    "getpass and home",
    "import getpass, os, pathlib\ndef f():\n    getpass.getuser(); pathlib.Path.home(); os.path.expanduser('~/x'); os.getcwd(); os.listdir('.')\n    return 42",
)
right(
    "task group and timeout",
    "import asyncio\nasync def one(i):\n    await asyncio.sleep(0); return i\nasync def main():\n    async with asyncio.TaskGroup() as g:\n        ts=[g.create_task(one(i)) for i in range(7)]\n    async with asyncio.timeout(5):\n        await asyncio.to_thread(sum,[1,2])\n    return sum(t.result() for t in ts)*2\ndef f(): return asyncio.run(main())",
)
right(
    "asyncio streams on a pair",
    "import asyncio, socket\nasync def main():\n    a,b=socket.socketpair()\n    r,w=await asyncio.open_connection(sock=a)\n    r2,w2=await asyncio.open_connection(sock=b)\n    w.write(b'42\\n'); await w.drain()\n    x=int(await r2.readline())\n    w.close(); w2.close()\n    return x\ndef f(): return asyncio.run(main())",
)
right(
    "signal handler of the loop",
    "import asyncio, signal, os\nasync def main():\n    e=asyncio.Event(); asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1,e.set)\n    os.kill(os.getpid(),signal.SIGUSR1)\n    await asyncio.wait_for(e.wait(),3)\n    return 42\ndef f(): return asyncio.run(main())",
)
right(
    "singledispatch and protocols",
    "from __future__ import annotations\nfrom functools import singledispatch, singledispatchmethod\nfrom typing import *\n@runtime_checkable\nclass P(Protocol):\n    def go(self)->int: ...\nclass A:\n    def go(self): return 2\n@singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 40\nclass T(TypedDict, total=False):\n    a: int\ndef f():\n    assert get_type_hints(T)=={'a':int}\n    return g(1)+A().go()*isinstance(A(),P)",
)
right(
    "dataclass with everything",
    "from dataclasses import *\nfrom typing import ClassVar\n@dataclass(slots=True, kw_only=True, order=True, frozen=True)\nclass A:\n    x: int\n    y: list = field(default_factory=list, compare=False)\n    k: ClassVar[int] = 3\n@dataclass\nclass B:\n    a: int\n    m: InitVar[int] = 2\n    def __post_init__(self, m): self.a *= m\ndef f(): return asdict(B(21))['a'] if A(x=1)<A(x=2) and replace(A(x=1),x=5).x==5 else 0",
)
right(
    "decimal contexts with traps",
    "from decimal import *\ndef f():\n    with localcontext() as c:\n        c.traps[Inexact]=True; c.prec=3\n        try: Decimal(1)/Decimal(3)\n        except Inexact: pass\n    setcontext(ExtendedContext)\n    return int(Decimal(1)/Decimal(0) == Decimal('Infinity'))*42",
)
right(
    "a suspended generator with finally",
    "gs=[]\ndef g():\n    try:\n        yield 42\n        yield 1\n    finally:\n        print('closed')\ndef f():\n    x=g(); gs.append(x)\n    return next(x)",
)
right(
    "groupby and tee",
    "import itertools\ndef f(): return [(k,list(g)) for k,g in itertools.groupby('aabbb')], itertools.tee(iter([1,2]))",
    "a,(x,y)=f()\nassert a==[('a',['a','a']),('b',['b','b','b'])]\nassert list(x)==list(y)==[1,2]",
)
right(
    "groupby itself",
    "import itertools\ndef f(): return itertools.groupby('aabbb')",
    "assert [(k,len(list(g))) for k,g in f()]==[('a',2),('b',3)]",
)
right(
    "partial and itemgetter as results",
    "from functools import partial\nfrom operator import itemgetter\ndef f(): return partial(pow,2), itemgetter(1)",
    "p,g=f()\nassert p(5)==32 and g([1,9])==9",
)
right(
    "iter with sentinel",
    "def f():\n    xs=[1,2,0,5]\n    return iter(lambda: xs.pop(0), 0)",
    "assert list(f())==[1,2]",
)
right(
    "flags",
    "import enum\nclass C(enum.Flag):\n    A=1\n    B=2\nclass I(enum.IntFlag):\n    A=1\n    B=2\ndef f(): return (C.A|C.B).value, I.A|I.B",
    "v,i=f()\nassert v==3 and i==3",
)
right(
    "counter arithmetic and total",
    "from collections import Counter, ChainMap, OrderedDict\ndef f():\n    o=OrderedDict(a=1,b=2); o.move_to_end('a')\n    return Counter('abca')-Counter('a'), o, ChainMap({'a':1},{'b':2})",
    "c, o, m = f()\nassert dict(c) == {'a': 1, 'b': 1, 'c': 1} and c.most_common(1)[0][1] == 1\nassert list(o) == ['b', 'a'] and dict(m) == {'a': 1, 'b': 2}",
)
right(
    "weakref.finalize and gc callbacks",
    "import gc, weakref\nclass A: pass\ndef f():\n    out=[]\n    gc.callbacks.append(lambda p,i: None)\n    a=A(); weakref.finalize(a,out.append,42)\n    del a; gc.collect()\n    return out[0]",
)
right(
    "threading hooks",
    "import threading\ndef f():\n    out=[]\n    threading.excepthook=lambda a: out.append(a.exc_type.__name__)\n    t=threading.Thread(target=lambda: 1/0); t.start(); t.join()\n    return out",
    "assert f()==['ZeroDivisionError']",
)
right(
    "itimer and sigwait",
    "import signal, os\ndef f():\n    signal.pthread_sigmask(signal.SIG_BLOCK,[signal.SIGUSR2])\n    os.kill(os.getpid(),signal.SIGUSR2)\n    s=signal.sigwait([signal.SIGUSR2])\n    signal.pthread_sigmask(signal.SIG_UNBLOCK,[signal.SIGUSR2])\n    return 42 if s==signal.SIGUSR2 else 0",
)
right(
    "numpy kinds",
    "import numpy as np\ndef f(): return np.ma.masked_array([1,2,3],[0,1,0]).sum(), np.datetime64('2020-01-02'), np.float16(1.5), np.array([1+2j]), np.matrix([[1,2]])",
    "a,b,c,d,e=f()\nimport numpy as np\nassert a==4 and b==np.datetime64('2020-01-02') and c==1.5 and d[0]==1+2j and e.tolist()==[[1,2]]",
)
right(
    "numpy 0-d",
    "import numpy as np\ndef f(): return np.array(5), np.array(2.5), np.array(None), np.array('x')",
    "import numpy as np\na,b,c,d=f()\nassert a==5 and b.shape==() and b==2.5 and d=='x'\nassert isinstance(c,np.ndarray) and c.item() is None",
)
right(
    "np.vectorize and rng",
    "import numpy as np\ndef f():\n    np.random.default_rng(0).random()\n    return np.vectorize(lambda x: x*2)(np.arange(4)).tolist()",
    "assert f()==[0,2,4,6]",
)
right(
    "redirect to StringIO with a tee",
    "import io, contextlib, sys\ndef f():\n    b=io.StringIO()\n    with contextlib.redirect_stdout(b), contextlib.redirect_stderr(b):\n        print('x'); print('y',file=sys.stderr)\n    return b.getvalue()",
    "assert f()=='x\\ny\\n'",
)
right(
    "exec with own namespaces and compile flags",
    "import ast\ndef f():\n    ns={}\n    exec(compile(ast.parse('def g(x):\\n    return x*2'),'<g>','exec'),ns)\n    return ns['g'](21)",
)
right(
    "metaclass and init_subclass",
    "class M(type):\n    def __prepare__(n,b,**k): return {'z':1}\n    def __new__(m,n,b,d,**k): return super().__new__(m,n,b,d)\n    def __call__(c,*a): return super().__call__(*a)\nclass A(metaclass=M):\n    subs=[]\n    def __init_subclass__(c,**k): A.subs.append(c.__name__)\nclass B(A): pass\ndef f(): return A.subs+[str(B.z)]",
    "assert f()==['B','1']",
)
right(
    "exit stack and async context",
    "import contextlib, asyncio\n@contextlib.asynccontextmanager\nasync def c():\n    yield 40\nasync def m():\n    async with contextlib.AsyncExitStack() as s:\n        return await s.enter_async_context(c())+2\ndef f():\n    with contextlib.ExitStack() as s:\n        s.callback(print,'x')\n        return asyncio.run(m())",
)
right(
    "recursion through sorted keys",
    "import sys\nsys.setrecursionlimit(20000)\ndef g(n): return 0 if n==0 else 1+max([n],key=lambda x:0)-n+g(n-1)\ndef f(): return g(3000)",
    "assert f()==3000",
)
right(
    "a class as result, used by the test",
    "def f():\n    class P:\n        def __init__(s,x): s.x=x\n        def __eq__(s,o): return s.x==o.x\n        def __add__(s,o): return P(s.x+o.x)\n        def __len__(s): return s.x\n    return P",
    "P=f()\np=P(3)\nassert p.x==3 and len(p)==3",
)
right(
    "operators on a result object",
    "class V:\n    def __init__(s,x): s.x=x\n    def __add__(s,o): return V(s.x+o.x)\n    def __lt__(s,o): return s.x<o.x\n    def __getitem__(s,i): return s.x*i\n    def __call__(s,y): return s.x+y\n    def __contains__(s,k): return k==s.x\ndef f(x): return V(x)",
    "v=f(3)\nassert v[2]==6 and v(4)==7",
)
right(
    "property setters and deletions",
    "class V:\n    def __init__(s): s._x=1\n    @property\n    def x(s): return s._x\n    @x.setter\n    def x(s,v): s._x=v*2\n    @x.deleter\n    def x(s): s._x=0\ndef f(): return V()",
    "v=f()\nv.x=5\nassert v.x==10\ndel v.x\nassert v.x==0",
)
right(
    "memory view and array results",
    "import array\ndef f(): return array.array('d',[1.5,2]), memoryview(b'abc')[1:], bytearray(b'x')",
    "a,m,b=f()\nassert a.tolist()==[1.5,2.0] and bytes(m)==b'bc' and b==b'x'",
)
right(
    "sys.exit in a thread and in atexit",
    "import atexit, sys, threading\natexit.register(sys.exit,3)\ndef f():\n    t=threading.Thread(target=sys.exit); t.start(); t.join()\n    return 42",
)
right(
    "fileinput and open(0)",
    "import fileinput\ndef f():\n    with open(0,closefd=False) as h: return 42+len(h.read())",
)
right(
    "exception with a cause and group expected",
    "def f(): raise ExceptionGroup('g',[ValueError(1),KeyError('k')])",
    "try:\n    f()\n    assert False\nexcept* ValueError as e:\n    assert len(e.exceptions)==1\nexcept* KeyError:\n    pass",
)
right(
    "its own exception, base checked",
    "class E(KeyError): pass\ndef f(): raise E('x')",
    "try:\n    f()\nexcept KeyError as e:\n    assert e.args==('x',)",
)
right(
    "lru_cache method and cached_property",
    "import functools\nclass A:\n    n=0\n    @functools.cached_property\n    def v(s): A.n+=1; return 41\n    @functools.lru_cache\n    def w(s,x): return x\na=A()\ndef f(): a.v; return a.v+a.w(1)*A.n",
)
right(
    "string formatting and locale",
    "import locale\ndef f():\n    locale.setlocale(locale.LC_ALL,'')\n    return f'{1234567.891:,.2f}', locale.format_string('%d',1234), '%05.1f'%3.14159",
    "assert f()==('1,234,567.89','1234','003.1')",
)
right(
    "collects garbage with thresholds",
    "import gc\ngc.set_threshold(1,1,1)\nclass A:\n    def __init__(s): s.me=s\ndef f():\n    for _ in range(3000): A()\n    return 42",
)
right(
    "many threads that print",
    "import threading\ndef f():\n    ts=[threading.Thread(target=lambda: [print(i) for i in range(200)]) for _ in range(20)]\n    [t.start() for t in ts]; [t.join() for t in ts]\n    return 42",
)
right(
    "a shared memory fallback",
    "def f():\n    try:\n        from multiprocessing import shared_memory\n        s=shared_memory.SharedMemory(create=True,size=10); s.close(); s.unlink()\n    except OSError: pass\n    return 42",
)
right(
    "pathological but quick regex",
    "import re\ndef f(): return re.sub(r'(?P<a>\\w+)-(?P=a)',lambda m: m['a'],'ab-ab cd-cd')",
    "assert f()=='ab cd'",
)
right(
    "keyword only and positional only",
    "def f(a,/,b,*c,d=1,**e): return (a,b,c,d,e)",
    "assert f(1,2,3,d=4,z=5)==(1,2,(3,),4,{'z':5})\ntry:\n    f(a=1,b=2)\n    assert False\nexcept TypeError:\n    pass",
)
right(
    "an ordered dictionary whose order changes",
    'def f(d):\n    d.move_to_end("a")\n    return d',
    "from collections import OrderedDict\nd = OrderedDict(a=1, b=2)\nr = f(d)\nassert list(d) == list(r) == ['b', 'a'] and r == OrderedDict(b=2, a=1)",
)
right(
    "a factory of the test",
    "def f(d): return d['x'] + d['y']",
    "from collections import defaultdict\nd = defaultdict(lambda: 21)\nassert f(d) == 42 and d == {'x': 21, 'y': 21}",
)

# ruff: noqa: E501 - one program, one line
"""More programs that break out, stay, spy or flood. Material of test_hostile.py."""

from tests.data.sandbox.hostile import (
    ERROR,
    HIDDEN,
    KILLED,
    MEMORY,
    OUTPUT,
    SYNTAX,
    TIMEOUT,
    WRONG,
    Case,
    act,
    after,
    cheat,
    flood,
    hang,
)

CASES: list[Case] = []  # those of this module go through the functions of hostile.py

# system calls by number, x86-64: refused before their arguments are looked at

CALL = "import ctypes, platform\nif platform.machine() != 'x86_64': return 'another machine'\nlibc = ctypes.CDLL(None, use_errno=True)\nr = libc.syscall(NUMBER, *ARGUMENTS)\nreturn 'done' if r >= 0 or ctypes.get_errno() not in (1, 38) else 'refused'"
for name, number, arguments in (
    ("clone3", 435, (0, 88)), ("clone without a thread", 56, (0x100 | 17, 0, 0, 0, 0)), ("fork by number", 57, ()), ("execveat", 322, (0, 0, 0, 0, 0)),
    ("process_vm_writev", 311, (1, 0, 0, 0, 0, 0)), ("kcmp", 312, (1, 1, 0, 0, 0)), ("pidfd_getfd", 438, (3, 0, 0)), ("process_madvise", 440, (3, 0, 0, 0, 0)),
    ("tkill to the first process", 200, (1, 9)), ("tgkill to the first process", 234, (1, 1, 9)), ("rt_sigqueueinfo", 129, (1, 9, 0)),
    ("setpgid", 109, (0, 0)), ("io_uring_enter", 426, (3, 1, 0, 0, 0)), ("io_uring_register", 427, (3, 0, 0, 0)), ("bpf", 321, (0, 0, 0)),
    ("keyctl", 250, (0, 0)), ("add_key", 248, (0, 0, 0, 0, 0)), ("request_key", 249, (0, 0, 0, 0)), ("perf_event_open", 298, (0, 0, -1, -1, 0)),
    ("userfaultfd", 323, (0,)), ("fanotify_init", 300, (0, 0)), ("name_to_handle_at", 303, (-100, 0, 0, 0, 0)), ("open_by_handle_at", 304, (3, 0, 0)),
    ("fsopen", 430, (0, 0)), ("open_tree", 428, (-100, 0, 0)), ("move_mount", 429, (3, 0, 3, 0, 0)), ("mount_setattr", 442, (-100, 0, 0, 0, 0)),
    ("memfd_secret", 447, (0,)), ("mq_open", 240, (0, 0, 0, 0)), ("semget", 64, (7, 1, 0o1600)), ("shmat", 30, (0, 0, 0)),
    ("personality", 135, (0x0040000,)), ("a filter of its own", 317, (1, 0, 0)), ("setns", 308, (3, 0)), ("ioprio_set", 251, (1, 0, 0)),
    ("quotactl", 179, (0, 0, 0, 0)), ("settimeofday", 164, (0, 0)), ("a system call of the future", 600, (0,)), ("setfsuid", 122, (1,)),
    ("setgroups", 116, (0, 0)), ("capset", 126, (0, 0)), ("swapon", 167, (0, 0)), ("move_pages", 279, (1, 0, 0, 0, 0, 0)),
):  # fmt: skip
    act(
        f"system call: {name}",
        CALL.replace("NUMBER", str(number)).replace("*ARGUMENTS", ", ".join(map(str, arguments)) or "0"),
        needs=("seccomp",),
    )

act("a system call of the old kind", "import ctypes, mmap, platform\nif platform.machine() != 'x86_64': return 'another machine'\nm = mmap.mmap(-1, 4096, prot=7)\n"
    "m.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\nr = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\nreturn 'done' if r > 0 else 'no'", WRONG, KILLED, needs=("seccomp",))  # fmt: skip
act(
    "its own death signal taken off",
    "import ctypes\nr = ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\nreturn 'done' if r == 0 else 'no'",
    needs=("seccomp",),
)
act("a datagram pair", "import socket\nsocket.socketpair(1, 2)\nreturn 'done'", needs=("seccomp",))
act("a pair of another family", "import socket\nsocket.socketpair(30, 1)\nreturn 'done'", needs=("seccomp",))
act("kill its group", "import os\nos.kill(0, 0)\nreturn 'done'", needs=("seccomp",))
act("kill a group of that number", "import os\nos.killpg(os.getppid(), 0)\nreturn 'done'", needs=("seccomp",))
act(
    "real-time priority",
    "import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nreturn 'done'",
)
act("a better priority", "import os\nos.setpriority(os.PRIO_PROCESS, 0, -20)\nreturn 'done'")
act(
    "priority of all processes of the user",
    "import os\nos.setpriority(os.PRIO_USER, 0, 19)\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "a file larger than allowed",
    "import os\nwith open('x', 'wb') as o: os.truncate('x', 1 << 40)\nreturn 'done'",
)
act(
    "room for a file larger than allowed",
    "import os\nwith open('x', 'wb') as o: os.posix_fallocate(o.fileno(), 0, 1 << 34)\nreturn 'done'",
)
act("the output file made larger", "import os\nos.ftruncate(1, 1 << 34)\nreturn 'done'")
act(
    "limits of memory raised",
    "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nreturn 'done'",
)
act(
    "limits of time raised",
    "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\nreturn 'done'",
)

# files of the host

act(
    "mode of a device",
    "import os, stat\nos.chmod('/dev/zero', stat.S_IMODE(os.stat('/dev/zero').st_mode))\nreturn 'done'",
    needs=("seccomp",),
)
act("times of a device", "import os\nos.utime('/dev/zero', (1, 1))\nreturn 'done'", needs=("seccomp",))
act(
    "mode of standard input",
    "import os, stat\nos.fchmod(0, stat.S_IMODE(os.fstat(0).st_mode))\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "owner of a device",
    "import os\nos.chown('/dev/null', os.getuid(), os.getgid())\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "attributes of a device",
    "import os\nos.setxattr('/dev/null', 'user.x', b'1')\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "the pattern for core dumps",
    "open('/proc/sys/kernel/core_pattern', 'w').close()\nreturn 'done'",
    needs=("landlock",),
)
act(
    "the kernel's switches",
    "open('/proc/sys/vm/drop_caches', 'r+').close()\nreturn 'done'",
    needs=("landlock",),
)
act("the magic key", "open('/proc/sysrq-trigger', 'w').close()\nreturn 'done'", needs=("landlock",))
act(
    "its own root through the process table",
    "import os\nos.listdir('/proc/self/root/')\nreturn 'done'",
    needs=("landlock",),
)
act(
    "the root of the first process",
    "import os\nos.listdir('/proc/1/root/etc')\nreturn 'done'",
    needs=("landlock",),
)
act(
    "its own environment as it was given",
    "return 'done' if b'SANDBOX_TEST' in open('/proc/self/environ', 'rb').read() else 'no'",
)
act(
    "the command that started it",
    "import sys\nreturn 'done' if any('PROJECT' in a for a in (*sys.argv, *sys.orig_argv)) else 'no'",
)
act("folders of the project on the path", "import sys\nreturn 'done' if 'PROJECT' in sys.path else 'no'")
act(
    "modules of the project in memory",
    "import gc, types\nreturn 'done' if any(isinstance(o, types.ModuleType) and 'execution' in o.__name__ and hasattr(o, 'judge') for o in gc.get_objects()) else 'no'",
)
act(
    "paths upwards", "import os\nopen('../' * 20 + 'etc/hostname').read()\nreturn 'done'", needs=("landlock",)
)
act(
    "a path descriptor upwards",
    "import os\nd = os.open('/', os.O_PATH)\nos.open('etc/hostname', os.O_RDONLY, dir_fd=d)\nreturn 'done'",
    needs=("landlock",),
)
act(
    "rename a file out",
    "import os\nopen('x', 'w').close()\nos.rename('x', '../TOKEN')\nreturn 'done'",
    needs=("landlock",),
)
act(
    "link a file out",
    "import os\nopen('x', 'w').close()\nos.link('x', '/var/tmp/TOKEN')\nreturn 'done'",
    needs=("landlock",),
)
act(
    "a socket file",
    "import os, stat\nos.mknod('s', stat.S_IFSOCK | 0o600)\nreturn 'done'",
    needs=("landlock",),
)
act(
    "a program of its own",
    "import os\nopen('x', 'w').write('#!/bin/sh\\n')\nos.chmod('x', 0o755)\nos.execv('x', ['x'])",
    needs=("seccomp",),
)
act(
    "watch the host's files",
    "import ctypes\nlibc = ctypes.CDLL(None)\nr = libc.inotify_add_watch(libc.inotify_init(), b'SECRET_FOLDER', 0xfff)\nreturn 'done' if r >= 0 else 'no'",
    needs=("seccomp",),
)
act(
    "a lock on a file of the library",
    "import fcntl, os\nwith open(os.__file__, 'r+') as o: fcntl.flock(o, fcntl.LOCK_EX)\nreturn 'done'",
    needs=("landlock",),
)
act(
    "bytecode beside the library",
    "import os, py_compile\npy_compile.compile(os.__file__, cfile=os.path.dirname(os.__file__) + '/TOKEN.pyc', doraise=True)\nreturn 'done'",
    needs=("landlock",),
)
act(
    "a module of the library replaced for the next",
    "import os\nos.rename(os.__file__, os.__file__ + 'TOKEN')\nreturn 'done'",
    needs=("landlock",),
)
act(
    "the shared memory folder",
    "import os\nopen('/dev/shm/TOKEN', 'w').close()\nreturn 'done'",
    needs=("landlock",),
)
act("terminals", "open('/dev/tty', 'w').write('x')\nreturn 'done'", needs=("landlock",))
act(
    "the disk",
    "import glob\nfor d in glob.glob('/dev/[svn]d*') + glob.glob('/dev/vda*'):\n    open(d, 'rb').read(1)\n    return 'done'\nopen('/dev/kmsg').read(1)\nreturn 'done'",
    needs=("landlock",),
)
act(
    "hosts and keys",
    "for p in ('/etc/shadow', '/etc/hosts', '/root/.ssh/id_rsa', '/root/.bash_history', '/root/.netrc'):\n    try:\n        open(p).read()\n        return 'done'\n    except OSError: pass\nreturn 'no'",
    needs=("landlock",),
)
act(
    "a web server",
    "import http.server, threading\ns = http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler)\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "a page fetched",
    "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:TCP_PORT/', timeout=1)\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "an asynchronous connection",
    "import asyncio\nasyncio.run(asyncio.open_connection('127.0.0.1', TCP_PORT))\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "a datagram by sendmsg on a pair",
    "import socket\na, b = socket.socketpair()\na.sendmsg([b'x'], [], 0, '\\0sandbox-test-dgram')\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "pools of processes",
    "from concurrent.futures import ProcessPoolExecutor\nwith ProcessPoolExecutor(1) as p: p.submit(len, 'x').result()\nreturn 'done'",
    needs=("seccomp",),
)
act(
    "a process by spawning",
    "import multiprocessing as m\np = m.get_context('spawn').Process(target=print)\np.start()\nreturn 'done'",
    needs=("seccomp",),
)
act("a terminal of its own", "import pty\npty.fork()\nreturn 'done'", needs=("seccomp",))
act(
    "a thread that starts a process",
    "import os, threading\nout = []\ndef w():\n    try: out.append(os.fork())\n    except OSError: out.append(None)\nt = threading.Thread(target=w); t.start(); t.join()\nif out[0] == 0: os._exit(0)\nreturn 'done' if out[0] else 'no'",
    needs=("seccomp",),
)

# reading the tests

SECRET = f"def check(candidate):\n    assert candidate() == {HIDDEN!r}\n\nKEY = {HIDDEN!r}\n"
LOOK = "import re\ndef look(text):\n    found = re.search('expec' + 'ted-[0-9a-f]{5}', str(text))\n    return found and found.group()\n"
cheat(
    "frames of all threads",
    LOOK
    + "import sys, threading\ndef f():\n    for frame in sys._current_frames().values():\n        while frame:\n            hit = look(frame.f_locals) or look(frame.f_globals) or look(frame.f_code.co_consts)\n            if hit: return hit\n            frame = frame.f_back",
    WRONG,
    test=SECRET,
)
cheat(
    "all code objects",
    LOOK
    + "import gc, types\ndef f():\n    gc.unfreeze()\n    for o in gc.get_objects():\n        if isinstance(o, types.FunctionType):\n            hit = look(o.__code__.co_consts)\n            if hit: return hit\n    for o in gc.get_objects():\n        if type(o) is dict and 'KEY' in o: return o['KEY']",
    WRONG,
    test=SECRET,
)
cheat(
    "modules of that name",
    LOOK
    + "import sys\ndef f():\n    for n in ('test', 'prompt', '__main__', 'solution', 'builtins'):\n        hit = look(vars(sys.modules[n])) if n in sys.modules else None\n        if hit: return hit",
    WRONG,
    test=SECRET,
)
cheat(
    "the whole heap through ctypes",
    LOOK
    + "import ctypes, gc\ndef f():\n    lo = min(map(id, gc.get_objects())) & ~0xfff\n    hi = max(map(id, gc.get_objects()))\n    for at in range(lo, min(hi, lo + (4 << 20)), 4096):\n        hit = look(ctypes.string_at(at, 4096).decode('latin-1'))\n        if hit: return hit",
    WRONG,
    KILLED,
    TIMEOUT,
    test=SECRET,
)
cheat(
    "memory mapped files of others",
    LOOK
    + "import os\ndef f():\n    for p in os.listdir('/proc'):\n        if p.isdigit():\n            for n in ('environ', 'cmdline', 'stack', 'maps', 'mem', 'fd', 'map_files'):\n                try: hit = look(open(f'/proc/{p}/{n}', 'rb').read(1 << 20).decode('latin-1'))\n                except OSError: continue\n                if hit: return hit",
    WRONG,
    ERROR,
    test=SECRET,
)
cheat(
    "files of the judge",
    LOOK
    + "import os\ndef f():\n    for folder, _, names in os.walk('/tmp'):\n        for n in names:\n            try: hit = look(open(os.path.join(folder, n), 'rb').read(1 << 20).decode('latin-1'))\n            except OSError: continue\n            if hit: return hit",
    WRONG,
    TIMEOUT,
    test=SECRET,
)
cheat(
    "output of programs before",
    LOOK
    + "import os\nprint('expected-00000')\ndef f():\n    os.lseek(1, 0, 0)\n    return os.read(1, 1 << 20).decode('latin-1').replace('expected-00000', '').strip() or None",
    WRONG,
    ERROR,
    test=SECRET,
)
cheat(
    "wrapped methods of the server",
    LOOK
    + "import gc\ndef f():\n    for o in gc.get_objects():\n        if type(o).__name__ in ('Server', 'Peer', 'Inline', 'Isolation', 'Decoder', 'Shared'):\n            hit = look({k: repr(v)[:10000] for k, v in vars(o).items()}) if hasattr(o, '__dict__') else None\n            if hit: return hit",
    WRONG,
    test=SECRET,
)
cheat(
    "the codec patched to see all",
    LOOK
    + "import gc, sys\nseen = []\nfor o in gc.get_objects():\n    if type(o).__name__ == 'Server':\n        old = o.receive\n        o.receive = lambda *a: (seen.append(old(*a)), seen[-1])[1]\ndef f(): return look(b''.join(seen).decode('latin-1'))",
    WRONG,
    test=SECRET,
)
cheat(
    "the server told that all is well",
    "import gc\nfor o in gc.get_objects():\n    if type(o).__name__ == 'Server': o.operate = lambda *a: 42\n    if type(o).__name__ == 'Peer': o.operate = lambda *a: 42\ndef f(a, b): return 0",
    WRONG,
)
cheat(
    "the encoder taught to agree",
    "import gc\nclass A:\n    def __eq__(s, o): return True\nfor o in gc.get_objects():\n    if type(o) is dict and int in o and callable(o.get(int)) and str in o: o[int] = lambda e, v: e.parts.append(b'HO\\1\\0\\0\\0o\\1x')\ndef f(a, b): return 0",
    WRONG,
    ERROR,
)

# not coming to an end

hang("blocks on a pipe", "import os\nr, w = os.pipe()\ndef f(): return os.read(r, 1)")
hang("blocks on a socket pair", "import socket\na, b = socket.socketpair()\ndef f(): return a.recv(1)")
hang(
    "waits for a signal",
    "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\ndef f(): return signal.sigwait({signal.SIGUSR1})",
)
hang("opens a pipe nobody writes to", "import os\nos.mkfifo('p')\ndef f(): return open('p').read()")
hang(
    "locks a file twice",
    "import fcntl\na, b = open('x', 'w'), open('x', 'w')\nfcntl.flock(a, fcntl.LOCK_EX)\ndef f(): fcntl.flock(b, fcntl.LOCK_EX)",
)
hang(
    "naps between bursts",
    "import time\ndef f():\n    while True:\n        time.sleep(0.02)\n        sum(range(20000))",
)
hang(
    "the lowest priority",
    "import os\nos.nice(19)\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\ndef f():\n    while True: pass",
)
hang("yields all the time", "import os\ndef f():\n    while True: os.sched_yield()")
hang("polls with timeouts", "import select\ndef f():\n    while True: select.select([], [], [], 0.1)")
hang("an event loop for ever", "import asyncio\ndef f(): asyncio.new_event_loop().run_forever()")
hang(
    "a coroutine that never ends",
    "import asyncio\nasync def g():\n    while True: await asyncio.sleep(0)\ndef f(): return asyncio.run(g())",
)
hang(
    "sixty threads that loop",
    "import threading\ndef w():\n    while True: pass\ndef f():\n    for _ in range(50): threading.Thread(target=w).start()",
    TIMEOUT,
    ERROR,
)
hang(
    "a loop in a trace function",
    "import sys\ndef t(*a):\n    while True: pass\ndef f():\n    sys.settrace(t)\n    return (lambda: 'done')()",
)
hang(
    "a loop in an import",
    "import sys\nclass H:\n    def find_spec(s, *a):\n        while True: pass\nsys.meta_path.insert(0, H())\ndef f():\n    import colorsys_no_such",
)
hang(
    "a loop in a signal handler",
    "import os, signal\ndef h(*a):\n    while True: pass\nsignal.signal(signal.SIGUSR1, h)\ndef f(): os.kill(os.getpid(), signal.SIGUSR1)",
)
hang(
    "stops itself in a thread",
    "import os, signal, threading\ndef f():\n    t = threading.Thread(target=lambda: signal.raise_signal(signal.SIGSTOP)); t.start(); t.join()",
)
hang(
    "ignores the kernel's limit",
    "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\ndef f():\n    while True: pass",
)
hang("long division", "def f(): return (10 ** 3_000_000) // 7 % 10 ** 5 and str(3 ** 6_000_000)")
hang("a long sort", "def f(): return sorted(range(10 ** 7), key=lambda x: -x)")
hang("a text multiplied in a loop", "def f():\n    s = 'x'\n    while True: s = s[:1000] + 'x' * 1000")
hang("recursion that doubles", "def f(n=60): return 1 if n < 2 else f(n - 1) + f(n - 2)")
hang(
    "sleeping by futex",
    "import ctypes\ndef f():\n    x = ctypes.c_int(0)\n    ctypes.CDLL(None).syscall(202, ctypes.byref(x), 0, 0, 0, 0, 0)",
)

# floods

flood(
    "pipes as large as can be",
    "import fcntl, os\ndef f():\n    for _ in range(40):\n        r, w = os.pipe()\n        fcntl.fcntl(w, 1031, 1 << 20)\n        os.set_blocking(w, False)\n        os.write(w, b'x' * (1 << 20))",
    ERROR,
    WRONG,
)
flood(
    "timers",
    "import ctypes\ndef f():\n    libc = ctypes.CDLL(None)\n    t = ctypes.c_long()\n    for _ in range(200000):\n        if libc.timer_create(1, 0, ctypes.byref(t)) < 0: return 'refused'\n    return 'done'",
    WRONG,
    ERROR,
)
flood("event descriptors", "import os\ndef f():\n    while True: os.eventfd(0)", ERROR)
flood(
    "address space",
    "import mmap\ndef f():\n    k = []\n    while True: k.append(mmap.mmap(-1, 1 << 28))",
    MEMORY,
    ERROR,
)
flood(
    "the stack",
    "import ctypes, sys\nsys.setrecursionlimit(10**9)\ndef d():\n    return sorted([1], key=lambda x: d())\ndef f(): return d()",
    KILLED,
    MEMORY,
    ERROR,
)
flood(
    "stacks of threads",
    "import threading, time\nthreading.stack_size(1 << 28)\ndef f():\n    for _ in range(40): threading.Thread(target=time.sleep, args=(9,)).start()\n    return 'started'",
    ERROR,
    MEMORY,
    WRONG,
)
flood(
    "hard links",
    "import os\ndef f():\n    open('a', 'w').close()\n    for n in range(10**6): os.link('a', f'l{n}')\n    return 'done'",
    ERROR,
    TIMEOUT,
    needs=("tmpfs",),
)
flood(
    "folders",
    "import os\ndef f():\n    for n in range(10**6): os.mkdir(f'd{n}')\n    return 'done'",
    ERROR,
    TIMEOUT,
    needs=("tmpfs",),
)
flood(
    "memory by memory files",
    "import os\ndef f():\n    while True: os.memfd_create('x')",
    ERROR,
    needs=("seccomp",),
)
flood(
    "modules",
    "import sys, types\ndef f():\n    while True: sys.modules[str(len(sys.modules))] = types.ModuleType('x' * 1000)",
    TIMEOUT,
    MEMORY,
)
flood(
    "warnings",
    "import warnings\nwarnings.simplefilter('always')\ndef f():\n    while True: warnings.warn('x' * 10000)",
    OUTPUT,
    TIMEOUT,
)
flood(
    "output by descriptor",
    "import os\ndef f():\n    while True:\n        try: os.write(1, b'x' * 65536)\n        except OSError: raise RuntimeError",
    OUTPUT,
)
flood(
    "exceptions inside exceptions",
    "def f():\n    try: f()\n    except RecursionError:\n        while True:\n            try: f()\n            except RecursionError: f()",
    TIMEOUT,
    KILLED,
    ERROR,
)
flood(
    "allocation that just fits, then more",
    "def f():\n    x = bytearray(600 << 20)\n    return bytes(x) + bytes(x)",
    MEMORY,
    seconds=6.0,  # on a slow machine touching so much takes two
)
flood(
    "a comprehension without end",
    "import itertools\ndef f(): return {x: [x] * 10 for x in itertools.count()}",
    MEMORY,
    TIMEOUT,
    seconds=6.0,
)

# what the next program could find: these run on one worker, in this order

after(
    "leave flags on the output",
    "import fcntl, os\nfcntl.fcntl(1, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)\nos.lseek(1, 1 << 20, 0)\nprint('left', flush=True)\nreturn 'left'",
)
after(
    "find the output's length",
    "import os\nreturn 'done' if os.fstat(1).st_size or os.lseek(1, 0, 1) else 'no'",
)
after(
    "leave a lock and a mapping",
    "import fcntl, mmap, os\nfcntl.flock(1, fcntl.LOCK_EX)\nos.ftruncate(1, 4096)\nm = mmap.mmap(1, 4096)\nm[:4] = b'left'\nreturn 'left'",
)
after(
    "find the mapping",
    "import mmap, os\nos.ftruncate(1, 4096)\nreturn 'done' if mmap.mmap(1, 4096)[:4] == b'left' else 'no'",
)
after(
    "leave a mask, a folder, limits",
    "import os, resource, signal\nos.umask(0)\nos.mkdir('d'); os.chdir('d')\nresource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))\nos.environ['LEFT'] = '1'\nreturn 'left'",
)
after(
    "find the mask, the folder, the limits",
    "import os, resource, signal\nm = os.umask(0o77)\nreturn 'done' if m == 0 or os.getcwd().endswith('d') or resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 4 or signal.pthread_sigmask(0, []) or 'LEFT' in os.environ else 'no'",
)
after(
    "remove its own folder",
    "import os\nhere = os.getcwd()\nos.chdir('/')\nos.rmdir(here)\nreturn 'done'",
    needs=("landlock",),
)
after(
    "a thousand links and pipes",
    "import os\nfor n in range(500):\n    os.symlink('x', f's{n}'); os.mkfifo(f'p{n}')\nreturn 'left'",
)
after(
    "find nothing once more",
    "import os\nreturn 'done' if os.listdir('.') or not os.path.isdir(os.getcwd()) else 'no'",
)

# broken sources

for name, source in (
    ("null bytes everywhere", "\0" * 1000), ("only a surrogate", "\ud800"), ("a byte order mark inside", "def f(): return 'do\ufeffne'\n\ufeff"),
    ("an unfinished text", "def f(): return '''done"), ("a return outside", "return 'done'"), ("await outside", "x = await f()"), ("bad escapes", "def f(): return '\\N{no such name}'"),
    ("a future of its own", "from __future__ import no_such_thing\ndef f(): return 'done'"), ("nonlocal outside", "nonlocal x\ndef f(): return 'done'"),
    ("keywords twice", "def f(a, a): return 'done'"), ("brackets without end", "(" * 100000), ("lambdas without end", "lambda: " * 5000 + "0"), ("minus without end", "-" * 100000 + "1"),
):  # fmt: skip
    CASES.append(Case(f"source: {name}", source, (SYNTAX,)))

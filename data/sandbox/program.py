"""The untrusted side: a process that holds one program and answers requests about it.

Everything here may be read, patched and abused by the program. Nothing here decides anything: the worst a
program can do is to give wrong answers or none. It was forked before the tests were in the memory of any
ancestor.
"""

import contextlib
import gc
import importlib
import os
import random
import signal
import struct
import sys
import time
import types

from data.sandbox.inline import Inline
from data.sandbox.isolation import Isolation
from data.sandbox.limits import limit_program
from data.sandbox.operations import OPERATIONS
from data.sandbox.peer import Peer
from data.sandbox.remote import OWNED_KINDS
from data.sandbox.semaphores import install as install_semaphores
from data.sandbox.surrounded import Surrounded

WARM_UP_ROUNDS = 16
WARM_UP_PROGRAM = """
from typing import Any, Dict, List, Optional, Tuple  # which remembers what has been asked for

def f(x: List[int], y: List[float], z: List[str]) -> Tuple[int, int]:
    return [x]

def g(x: List[List[int]], y: Dict[str, int], z: Optional[int], u: Optional[str]) -> List[Any]:
    return [x]
"""
MODULE = "solution"  # not "__main__": main guards do not fire, as in the reference harness
GREETING, FAILED = b"K", b"X"
CPU_SECONDS = struct.Struct("<d")
LENGTH = struct.Struct("<I")
CHUNK = 1 << 16


def run_program(server: "Server") -> None:
    """Isolate this process, then serve requests until it is killed. Never returns."""
    server.isolation.enter_program()
    gc.enable()
    server.serve_forever()


def clean_interpreter(seed: int) -> None:
    """In the nursery, once: take away what is ours and no program expects, modules and `__main__`; start the
    random numbers that all programs begin with."""
    for name in [name for name in sys.modules if name == "data" or name.startswith("data.")]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv[:], sys.orig_argv[:] = [""], [""]  # they name folders of ours
    install_semaphores()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout.reconfigure(errors="backslashreplace")
    seed_generators(seed, "")
    gc.collect()
    gc.freeze()


def seed_generators(seed: int, source: str) -> None:
    """The same random numbers in every run, or (-1) others each time. NumPy's only where the source may use
    them: the generator is a module of its own that takes a while to import."""
    random.seed(seed if seed >= 0 else None)
    if seed >= 0 and "numpy" in source and "random" in source:
        with contextlib.suppress(ImportError):
            importlib.import_module("numpy.random").seed(seed)


def warm_up(isolation: Isolation) -> None:
    """Run in the nursery what every program's process will run, without a program: the interpreter then has
    adapted its code once, and not again in each process, where every page it writes has to be copied."""
    server = Server(isolation)
    server.peer.send = len
    asking = Peer(len, len, len, leads=True)
    server.module.h = warm_up_target
    for _ in range(WARM_UP_ROUNDS):
        for operation, number, operands in (
            ("start", 0, (WARM_UP_PROGRAM, 0, (), "f", b"", ())),
            ("lookup", 0, ("h",)),
            ("call", 1, ((1, [2.5, "x"], None), ())),
        ):
            server.peer.serve(request_bytes(asking, operation, number, operands))
            asking.shared.keep([])


def request_bytes(asking: Peer, operation: str, number: int, operands: tuple) -> bytes:
    """A request as the judge would send it."""
    header = b"C" + bytes([len(operation)]) + operation.encode() + LENGTH.pack(number)
    return asking.message(header, operands, True)


def warm_up_target(*values: object) -> list:
    return [*values]


class Server:
    """Reads requests and does what they say with the program's objects. Object 0 is the program's module."""

    def __init__(self, isolation: Isolation) -> None:
        self.channel, self.isolation = isolation.channel, isolation
        self.module = types.ModuleType(MODULE)
        del self.module.__dict__["__doc__"]
        sys.modules[MODULE] = self.module
        self.inline: Inline | None = None
        self.surrounded = Surrounded()
        self.loop = None
        self.peer = Peer(self.send, self.receive, self.operate, leads=False, kinds=OWNED_KINDS)
        self.peer.exceptions.may_end_loops = True  # the program's own business
        self.peer.objects.append(self)

    def serve_forever(self) -> None:
        while True:
            payload = self.receive()
            self.peer.serve(payload)

    def send(self, payload: bytes, write: object = os.write, view: object = memoryview) -> None:
        data = view(LENGTH.pack(len(payload)) + payload)
        while data:
            data = data[write(self.channel, data) :]

    def receive(self, read: object = os.read, leave: object = os._exit) -> bytes:
        data = b""
        missing = 4
        while missing > 0:
            part = read(self.channel, max(missing, CHUNK))
            if not part:
                leave(0)
            data = data + part if data else part
            missing = LENGTH.unpack_from(data)[0] + 4 - len(data) if len(data) >= 4 else 1
        return data[4:]

    def operate(self, value: object, operation: str, operands: tuple) -> object:
        if value is not self:
            if operation == "call":
                arguments, keywords = operands
                return value(*arguments, **dict(keywords)) if keywords else value(*arguments)
            if operation in ("run", "anext"):
                return self.run_coroutine(value, operation)
            return OPERATIONS[operation](value, *operands)
        if operation == "start":
            return self.start(*operands)
        if operation == "test":
            return self.inline.run(*operands)
        if operation in ("surround", "printed", "seed"):
            return getattr(self.surrounded, operation)(*operands)
        return self.look_up(*operands)

    def run_coroutine(self, value: object, operation: str) -> object:
        """Run a coroutine to its end, or an asynchronous generator to its next item, in one lasting event
        loop."""
        import asyncio  # brings a third of the modules and pages every process would have to copy

        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        if operation == "run":
            return self.loop.run_until_complete(value)
        try:
            return True, self.loop.run_until_complete(anext(value))
        except StopAsyncIteration:
            return False, None

    def look_up(self, name: str) -> object:
        if not name.isidentifier():  # LeetCode's "Solution().twoSum"
            return eval(name, self.module.__dict__)
        if name not in self.module.__dict__:
            raise NameError(f"name {name!r} is not defined")
        return self.module.__dict__[name]

    def start(
        self, source: str, seed: int, limits: tuple, entry_point: str, held: bytes, classes: tuple[str, ...]
    ) -> tuple[str, object]:
        """Greet, compile, execute. ("ready", (candidate, classes that are not there)) or
        ("syntax", what is wrong).

        The greeting is sent before the program's first line, so no program can forge its absence. It holds
        the CPU time spent so far, which is ours. `held` are tests for the inline mode; `classes` those of the
        prompt, whose objects cross by their attributes.
        """
        if limits:  # else the judge has set them, from outside
            try:
                limit_program(0, *limits)
            except Exception as error:
                self.send(FAILED + f"{type(error).__name__}: {error}".encode())
        if seed < 0 or "numpy" in source:
            seed_generators(seed, source)
        self.send(GREETING + CPU_SECONDS.pack(time.process_time()))
        try:
            code = compile(source, "<program>", "exec", dont_inherit=True)
        except Exception as error:
            return "syntax", error
        if held:
            self.inline = Inline(self.module, held, entry_point)
        names = self.module.__dict__
        exec(code, names)
        found = {name: names[name] for name in classes if isinstance(names.get(name), type)}
        self.peer.share_classes(found)
        candidate = self.look_up(entry_point) if entry_point else None
        return "ready", (candidate, tuple(name for name in classes if name not in self.peer.classes))

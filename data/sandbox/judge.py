"""The trusted side of one program: runs the tests, asks the program's process for answers, gives the verdict.

It is no ancestor of the program's process, which the nursery forked. A verdict comes only from what
happened here: `passed` means that the test code ran to its end in this process while the program's process
was alive and within its limits.
"""

import array
import builtins
import contextlib
import errno
import gc
import importlib
import io
import marshal
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable

from data.sandbox import wire
from data.sandbox.clock import Clock
from data.sandbox.codec import MAX_BYTES, CodecError, Decoder
from data.sandbox.isolation import Isolation
from data.sandbox.nursery import CREDENTIALS, END, ENDING, HAS_EXITED, PID
from data.sandbox.peer import Peer, Stopped, step
from data.sandbox.program import CPU_SECONDS, GREETING, seed_generators
from data.sandbox.testrun import run_definitions

LENGTH = struct.Struct("<I")
TEST_FILE = "<test>"
MAX_FRAME = MAX_BYTES + (1 << 20)
ALIASES = {"np": "numpy"}  # names a test may use without an import, besides the modules' own
JUDGE_MEMORY_FACTOR = 2
JUDGE_RECURSION = 20_000
BUILTINS = dict(vars(builtins))


class Outcome(Exception):
    """A verdict, thrown to the end of the judge."""

    def __init__(self, verdict: str, kind: str = "", detail: str = "") -> None:
        super().__init__(verdict, kind, detail)
        self.verdict, self.kind, self.detail = verdict, kind, detail


def run_judge(control: socket.socket, nursery: socket.socket, output: int, isolation: Isolation) -> None:
    """Judge what the host sends until it hangs up, or until the tests have left this process unlike it
    was."""
    if hasattr(socket, "SO_PASSCRED"):
        nursery.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    report, _ = wire.read_message(nursery)
    isolation.enter_judge()
    wire.send_message(control, {"ready": report})
    gc.enable()
    while True:
        message, attachments = wire.read_message(control)
        result = judge_one(message["job"], message["tests"], attachments, nursery, output, report)
        clean = not result.pop("strained") and threading.active_count() == 1
        wire.send_message(control, {"result": result, "leaving": not clean})
        if not clean:
            return


def judge_one(
    job: dict, tests: dict, attachments: list, nursery: socket.socket, output: int, report: dict
) -> dict:
    """One program from its arrival to its result."""
    started = time.monotonic()
    limit_judge(job)
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    session = Session(nursery, output, job, report)
    try:
        outcome = Trial(session, tests, attachments).outcome()
    except Exception as error:
        session.strained = True
        outcome = Outcome("internal_error", type(error).__name__, short_traceback(error))
    finally:
        use = session.close()
    return (
        use
        | session.counts
        | {
            "verdict": outcome.verdict,
            "kind": printable(outcome.kind, 80),
            "detail": printable(outcome.detail, 300),
            "strained": session.strained,
            "wall": round(time.monotonic() - started, 6),
        }
    )


def limit_judge(job: dict) -> None:
    """The tests may not run for ever either, whatever the program's answers make them do."""
    sys.setrecursionlimit(JUDGE_RECURSION)
    use = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(use.ru_utime + use.ru_stime + job["judge_seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    with contextlib.suppress(OSError, ValueError):
        size = JUDGE_MEMORY_FACTOR * job["memory_mb"] << 20
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def printable(text: str, length: int) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text)[: 2 * length])[:length]


def short_traceback(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__}: {error} at {where}"


class Session:
    """The program's process as the judge sees it: a channel, a clock, an end."""

    def __init__(self, nursery: socket.socket, output: int, job: dict, report: dict) -> None:
        self.nursery, self.output, self.job = nursery, output, job
        self.channel, self.pid, inner = receive_process(nursery, report["own_pids"])
        self.channel.setblocking(False)
        place = f"/proc/{inner if report['own_root'] else self.pid}"
        self.clock = Clock(self.pid, job["seconds"], place, job["demote"])
        self.poll = select.poll()
        self.poll.register(self.channel, select.POLLIN)
        self.pidfd = open_pidfd(self.pid)
        if self.pidfd is not None:
            self.poll.register(self.pidfd, select.POLLIN)
            self.exit_poll = select.poll()
            self.exit_poll.register(self.pidfd, select.POLLIN)
        self.strained = False  # this process ran out of memory or failed, and should not go on
        self.greeted = False
        self.failure: Outcome | None = None  # why the program is over, once it is
        self.ending: tuple | None = None  # nursery.ENDING, once the process is gone
        self.counts = {"tests_passed": 0, "tests_total": 0}
        self.peer = Peer(self.send, self.receive, operate_on_tests)
        self.peer.objects.append(None)
        self.peer.request = self.ask  # remote objects ask through the checks above all

    def request(self, operation: str, *operands: object) -> object:
        return self.ask(operation, 0, *operands)

    def ask(self, operation: str, number: int, *operands: object) -> object:
        """Ask the program; anything wrong with the answer is the program's fault and its end."""
        if self.failure:
            raise Stopped
        try:
            return Peer.request(self.peer, operation, number, *operands)
        except CodecError as error:
            self.fail(Outcome("runtime_error", "ProtocolError", str(error)))
        except MemoryError as error:
            if any(error is raised for raised in self.peer.raised):
                raise
            self.strained = True
            self.fail(Outcome("out_of_memory", "MemoryError", "an answer too large for the judge"))

    def fail(self, outcome: Outcome) -> None:
        self.failure = self.failure or outcome
        raise Stopped

    def send(self, payload: bytes) -> None:
        if self.failure:
            raise Stopped
        self.clock.begin_call()
        data = memoryview(LENGTH.pack(len(payload)) + payload)
        while data:
            try:
                data = data[self.channel.send(data) :]
            except BlockingIOError:
                self.wait_until_ready(select.POLLOUT)
            except OSError:
                self.died()

    def receive(self) -> bytes:
        if self.failure:
            raise Stopped
        self.clock.begin_wait()
        payload = self.read_frame()
        if not self.greeted:  # sent before the program's first line
            if payload[:1] != GREETING:
                text = payload[1:].decode("utf-8", "replace")
                self.fail(Outcome("internal_error", "", f"could not isolate the program: {text}"))
            self.greeted = True
            self.clock.start(*CPU_SECONDS.unpack(payload[1:]))
            payload = self.read_frame()
        return payload

    def read_frame(self) -> bytes:
        (size,) = LENGTH.unpack(self.read(4))
        if size > MAX_FRAME or size == 0:
            raise CodecError(f"a message of {size} bytes; {MAX_FRAME} is the limit")
        return self.read(size)

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            try:
                part = self.channel.recv(min(missing, 1 << 20))
            except BlockingIOError:
                self.wait_until_ready(select.POLLIN)
                continue
            except OSError:
                part = b""
            if not part:
                self.died()
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def wait_until_ready(self, event: int) -> None:
        """Return when the channel is ready; stop when the program is over by death or by time."""
        self.poll.modify(self.channel, event)
        while True:
            ready = dict(self.poll.poll(1000 * self.clock.next_wait()))
            if ready.get(self.channel.fileno()):
                return
            if self.pidfd in ready or (self.pidfd is None and self.has_exited()):
                self.died()
            reason = self.clock.expired()
            if reason:
                self.fail(Outcome("timeout", "", reason))

    def has_exited(self) -> bool:
        if self.pidfd is not None:
            return bool(self.exit_poll.poll(0))
        self.nursery.sendall(HAS_EXITED)
        return wire.read_exactly(self.nursery, 1) == b"\1"

    def died(self) -> None:
        """The program's process has ended or closed the channel, and the tests had not."""
        end = time.monotonic() + 0.2
        while not self.has_exited():
            if time.monotonic() > end:
                self.fail(Outcome("runtime_error", "ProtocolError", "the program closed its channel"))
            time.sleep(0.001)
        status, _, _, rss, _ = self.end()
        if os.WIFEXITED(status):
            text = f"the process ended (exit code {os.WEXITSTATUS(status)}) before the tests"
            self.fail(Outcome("runtime_error", "EarlyExit", text))
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            self.fail(Outcome("timeout", "", "CPU limit of the kernel"))
        if number == signal.SIGKILL and rss > 0.9 * (self.job["memory_mb"] << 20):
            self.fail(Outcome("out_of_memory", "", "killed near the memory limit"))
        names = {one.value: one.name for one in signal.Signals}
        self.fail(Outcome("killed", names.get(number, "signal"), f"died by signal {number}"))

    def end(self) -> tuple:
        """Have the nursery kill and account for the process and all it started."""
        if self.ending is None:
            self.nursery.sendall(END)
            self.ending = ENDING.unpack(wire.read_exactly(self.nursery, ENDING.size))
        return self.ending

    def output_is_full(self) -> bool:
        return os.fstat(self.output).st_size >= self.job["output_mb"] << 20

    def close(self) -> dict:
        """End the program's process; what it used."""
        cpu = self.clock.cpu()
        _, user, system, rss, clean = self.end()
        self.channel.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        if not clean:
            raise RuntimeError("processes of a program survived; this worker must end")
        return {
            "cpu": round(max(cpu, user + system - self.clock.before), 6),
            "max_rss": rss,
            "mode": self.job["mode"],
        }


def receive_process(nursery: socket.socket, own_pids: bool) -> tuple[socket.socket, int, int]:
    """(channel, pid as this process sees it, pid as the nursery sees it) of the next program's process."""
    space = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(CREDENTIALS.size)
    data, ancillary, _, _ = nursery.recvmsg(PID.size, space)
    if not data:
        raise wire.Closed
    (inner,) = PID.unpack(data)
    outer, channel = inner, None
    for _, kind, content in ancillary:
        if kind == socket.SCM_RIGHTS:
            channel = socket.socket(fileno=array.array("i", content[:4])[0])
        elif own_pids and kind == socket.SCM_CREDENTIALS:
            outer = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
    if channel is None:
        raise wire.Closed
    return channel, outer, inner


def open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", 0) in (0, errno.ENOSYS, errno.EPERM):
            return None
        raise


def operate_on_tests(value: object, operation: str, operands: tuple) -> object:
    """What a program may do with an object the tests gave it: call it, advance it, and, for instances of
    the tests' own classes, use public attributes. Nothing that leads to a frame, a module or a dictionary
    of ours."""
    if operation == "call" and callable(value):
        arguments, keywords = operands
        return value(*arguments, **keywords)
    if operation == "next" and hasattr(type(value), "__next__"):
        return step(next, value)
    if operation == "send" and isinstance(value, types.GeneratorType):
        return step(value.send, *operands)
    if operation == "iter" and hasattr(type(value), "__iter__"):
        return iter(value)
    if operation == "close" and isinstance(value, types.GeneratorType):
        return value.close()
    if operation in ("getattr", "setattr") and type(operands[0]) is str and not operands[0].startswith("_"):
        if type(value).__module__ == "test" or isinstance(value, io.IOBase):
            return getattr(value, *operands) if operation == "getattr" else setattr(value, *operands)
        raise AttributeError(operands[0])
    if type(value).__module__ == "test":
        if operation in ("len", "str", "repr", "bool"):
            return {"len": len, "str": str, "repr": repr, "bool": bool}[operation](value)
        if operation == "getitem":
            return value[operands[0]]
        if operation == "setitem":
            value[operands[0]] = operands[1]
            return None
        if operation == "contains":
            return operands[0] in value
    raise TypeError(f"{operation} is not possible on this object")


class TestNames(dict):
    """Builtins of the test code; a name found nowhere is looked for where in-process tests would have found
    it."""

    def __init__(self, find: Callable[[str], object]) -> None:
        super().__init__(vars(builtins))
        self.find = find

    def __missing__(self, name: str) -> object:
        return self.find(name)


class Report:
    """What generated tests may call under the name `__judge__`: counting, a limit for each call, large data.

    passed() counts one test; total(n) announces how many there are; limit_call(seconds) limits each following
    call of the program on its own (0: no limit); fail(text) ends the tests with `wrong_answer`; `data` is the
    program's `data` entry as sent by the host.
    """

    def __init__(self, session: Session, data: object) -> None:
        counts, clock = session.counts, session.clock

        def passed() -> None:
            counts["tests_passed"] += 1

        def total(number: int) -> None:
            counts["tests_total"] = number

        def fail(detail: str = "") -> None:
            raise AssertionError(detail)

        self.passed, self.total, self.fail, self.limit_call = passed, total, fail, clock.limit_call
        self.data = data


class Trial:
    """The tests against one session."""

    def __init__(self, session: Session, tests: dict, attachments: list) -> None:
        self.session, self.tests = session, tests
        self.code, data = attachments
        self.data = Decoder(bytes(data), lambda decoder: None).decode() if len(data) else None
        self.context: dict | None = None
        seed_generators(session.job["seed"], tests["numpy_random"])

    def outcome(self) -> Outcome:
        """Compile, execute, test. The program's failure, if there is one, outranks whatever the tests made
        of it."""
        session = self.session
        try:
            found = self.stages()
        except Stopped:
            found = None
        if session.failure is not None:
            found = session.failure
        if found.verdict not in ("passed", "internal_error", "timeout") and session.output_is_full():
            return Outcome("output_limit", found.kind, f"more than {session.job['output_mb']} MiB written")
        return found

    def stages(self) -> Outcome:
        session = self.session
        job, entry = session.job, self.tests["entry_point"]
        limits = {name: job[name] for name in ("seconds", "memory_mb", "output_mb", "files")}
        inline = job["mode"] == "inline"
        held = bytes(self.code) if inline else b""
        try:
            stage, found = session.request("start", job["program"], job["seed"], limits, entry, held)
            if stage == "syntax":
                names, message, _ = found
                return Outcome("syntax_error", names[0], message)
        except Stopped:
            raise
        except BaseException as error:  # the program's, or because the answer was of another kind
            return program_error(error)
        return self.run_inline() if inline else self.run_tests(entry, found)

    def run_inline(self) -> Outcome:
        """Have the program's process run the tests it got before the program; believe only the nonce."""
        nonce = os.urandom(16)
        try:
            answer = self.session.request("test", nonce)
        except AssertionError as error:
            return Outcome("wrong_answer", "", str(error))
        except Stopped:
            raise
        except BaseException as error:
            return program_error(error)
        if type(answer) is not bytes or answer != nonce:
            return Outcome("runtime_error", "ProtocolError", "the tests did not answer")
        self.count_all(0)
        return Outcome("passed")

    def count_all(self, called: int) -> None:
        """All tests passed: as many as announced, as were called, or as there are assertions in the text."""
        counts = self.session.counts
        if not counts["tests_total"]:
            counts["tests_total"] = counts["tests_passed"] = called or self.tests["asserts"]

    def run_tests(self, entry: str, candidate: object) -> Outcome:
        namespace = {
            "__name__": "test",
            "__builtins__": TestNames(self.find),
            "__judge__": Report(self.session, self.data),
        }
        if entry:
            namespace |= {"candidate": candidate, entry: candidate}
        sys.modules["test"] = types.ModuleType("test")
        try:
            exec(marshal.loads(self.code), namespace)
            self.count_all(run_definitions(namespace, candidate))
        except Stopped:
            raise
        except BaseException as error:
            return self.judged(error)
        finally:
            self.restore_builtins()
        return Outcome("passed")

    def restore_builtins(self) -> None:
        """Undo what the tests did to the builtins, at once: this code uses them too."""
        now = builtins.__dict__
        if now != BUILTINS:
            now.clear()
            now.update(BUILTINS)
            self.session.strained = True

    def judged(self, error: BaseException) -> Outcome:
        """The tests ended with an exception: the program's own, or the tests' opinion of an answer."""
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == TEST_FILE
        ]
        line = lines[-1] if lines else 0
        self.session.counts["line"] = line
        if any(error is raised for raised in self.session.peer.raised):
            return program_error(error)
        if isinstance(error, MemoryError):
            self.session.strained = True
            return Outcome("out_of_memory", "MemoryError", "in the tests")
        kind = type(error).__name__
        try:
            message = str(error)
        except BaseException:
            message = ""
        return Outcome("wrong_answer", "" if isinstance(error, AssertionError) else kind, message)

    def find(self, name: str) -> object:
        """A name the test code uses and nobody defined: from the prompt, the standard library, the
        program."""
        if name.startswith("__"):
            raise KeyError(name)
        context = self.run_context()
        if name in context:
            return context[name]
        module = ALIASES.get(name, name)
        if module in sys.stdlib_module_names or module == "numpy":
            with contextlib.suppress(ImportError):
                return importlib.import_module(module)
        try:
            return self.session.request("lookup", name)
        except NameError:
            raise KeyError(name) from None

    def run_context(self) -> dict:
        """The prompt, executed here: helpers that tests take from it must be the true ones."""
        if self.context is None:
            self.context = {}
            text, entry = self.tests["context"], self.tests["entry_point"]
            for source in (text, text + "\n    pass\n"):
                try:
                    namespace = {"__name__": "prompt"}
                    exec(compile(source, "<prompt>", "exec", dont_inherit=True), namespace)
                except Exception:
                    continue
                self.context = {k: v for k, v in namespace.items() if k != entry and not k.startswith("__")}
                break
        return self.context


def kind_of_error(error: BaseException) -> str:
    kind = getattr(error, "sandbox_kind", None)
    return kind if type(kind) is str else type(error).__name__


def program_error(error: BaseException) -> Outcome:
    kind = kind_of_error(error)
    if isinstance(error, MemoryError):
        return Outcome("out_of_memory", kind, str(error))
    return Outcome("runtime_error", kind, str(error))

"""The tests against one program: what they may use, what they count, what their end means.

`passed` means that the test code ran to its end in the judge's process while the program was alive and
within its limits. Nothing the program says about itself enters into it.
"""

import builtins
import contextlib
import importlib
import io
import marshal
import os
import sys
import traceback
import types
from collections.abc import Callable

from data.sandbox.decoder import Decoder
from data.sandbox.peer import Stopped, step
from data.sandbox.prepare import TEST_FILE
from data.sandbox.program import seed_generators
from data.sandbox.session import Outcome, Session
from data.sandbox.testrun import run_definitions

ALIASES = {"np": "numpy"}  # names a test may use without an import, besides the modules' own
BUILTINS = dict(vars(builtins))


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
                names, message, *_ = found
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
    """The name of the class on the program's side."""
    kind = getattr(error, "sandbox_kind", None)
    return kind if type(kind) is str else type(error).__name__


def program_error(error: BaseException) -> Outcome:
    kind = kind_of_error(error)
    if isinstance(error, MemoryError):
        return Outcome("out_of_memory", kind, str(error))
    return Outcome("runtime_error", kind, str(error))

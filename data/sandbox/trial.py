"""The tests against one program: what they may use, what they count, what their end means.

`passed` means that the test code ran to its end in the judge's process while the program was alive and
within its limits. Nothing the program says about itself enters into it.
"""

import ast
import builtins
import contextlib
import importlib
import marshal
import os
import sys
import traceback
import types
from collections.abc import Callable

from data.sandbox.decoder import Decoder
from data.sandbox.peer import Stopped
from data.sandbox.prepare import TEST_FILE
from data.sandbox.program import seed_generators
from data.sandbox.session import Outcome, Session
from data.sandbox.surroundings import Surroundings
from data.sandbox.testrun import run_definitions

ALIASES = {"np": "numpy"}  # names a test may use without an import, besides the modules' own
BUILTINS = dict(vars(builtins))


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
        self.surroundings: Surroundings | None = None
        seed_generators(session.job["seed"], tests["numpy_random"])
        if tests["surrounds"] and session.job["mode"] == "split":
            self.surroundings = Surroundings(session, "seed" in tests["surrounds"])
            session.peer.request = self.surroundings.ask

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
        inline = job["mode"] == "inline"
        held = bytes(self.code) if inline else b""
        session.peer.exceptions.may_end_loops = self.tests["expects_stop"]
        names = self.share_classes()
        try:
            stage, found = session.request(
                "start", job["program"], job["seed"], session.limits, entry, held, names
            )
            if stage == "syntax":
                return Outcome("syntax_error", kind_of_error(found), text_of(found))
            candidate, lacking = found
            session.peer.unshare_classes(lacking)
        except Stopped:
            raise
        except BaseException as error:  # the program's, or because the answer was of another kind
            return program_error(error)
        return self.run_inline() if inline else self.run_tests(entry, candidate)

    def share_classes(self) -> tuple[str, ...]:
        """Names of the prompt's classes: their objects cross by their attributes, and are on each side of
        that side's own class."""
        if not self.tests["classes"]:
            return ()
        found = {
            k: v for k, v in self.run_context().items() if isinstance(v, type) and v.__module__ == "prompt"
        }
        self.session.peer.share_classes(found)
        return tuple(found)

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
        module = sys.modules["test"] = types.ModuleType("test")
        namespace = module.__dict__
        namespace["__builtins__"] = TestNames(self.find)
        namespace["__judge__"] = Report(self.session, self.data)
        if entry:
            namespace["candidate"] = namespace[entry] = candidate
        try:
            exec(marshal.loads(self.code), namespace)
            self.count_all(run_definitions(namespace, candidate))
        except Stopped:
            raise
        except BaseException as error:
            return self.judged(error)
        finally:
            self.restore_builtins()
            if self.surroundings:
                self.surroundings.leave()
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
        if hasattr(error, "_sandbox_raised"):
            return program_error(error)
        if isinstance(error, MemoryError):
            self.session.strained = True
            return Outcome("out_of_memory", "MemoryError", "in the tests")
        kind = type(error).__name__
        return Outcome("wrong_answer", "" if isinstance(error, AssertionError) else kind, text_of(error))

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
                module = sys.modules["prompt"] = types.ModuleType("prompt")
                try:
                    exec(compile(source, "<prompt>", "exec", dont_inherit=True), module.__dict__)
                except Exception:
                    continue
                left_out = {entry, open_definition(source)}
                names = module.__dict__.items()
                self.context = {k: v for k, v in names if k not in left_out and not k.startswith("__")}
                break
        return self.context


def open_definition(source: str) -> str:
    """The unfinished function or class at the end of a prompt: the program completes it, so the prompt's is
    not the true one."""
    last = ast.parse(source).body[-1:]
    return last[0].name if last and is_unfinished(last[0]) else ""


def is_unfinished(node: ast.stmt) -> bool:
    """A definition that holds nothing but text, `...` or `pass`, or ends in one that does."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    empty = all(
        isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in node.body
    )
    return empty or is_unfinished(node.body[-1])


def text_of(error: BaseException) -> str:
    """The message; its arguments may be the program's, so asking for it may fail."""
    given = getattr(error, "_sandbox", None)
    if given:
        return given[1]
    try:
        return str(error)
    except Stopped:
        raise
    except BaseException:
        return ""


def kind_of_error(error: BaseException) -> str:
    """The name of the class on the program's side."""
    given = getattr(error, "_sandbox", None)
    return given[0] if given else type(error).__name__


def program_error(error: BaseException) -> Outcome:
    kind = kind_of_error(error)
    if isinstance(error, MemoryError):
        return Outcome("out_of_memory", kind, text_of(error))
    return Outcome("runtime_error", kind, text_of(error))

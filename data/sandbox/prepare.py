"""Test text as the judge needs it: compiled once in the host, sent as code (samples of a problem share
it)."""

import ast
import functools
import marshal
import re
import types
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from data.syntax import parse

LONGEST_TIMEOUT = 86_400
TEST_FILE = "<test>"
SPOILING = (
    "chdir", "environ", "filterwarnings", "getcontext", "patch", "set_printoptions", "setattr", "setcontext",
    "seterr", "setlocale", "setprofile", "settrace", "simplefilter", "stderr", "stdin", "stdout",
)  # fmt: skip  # what changes the interpreter for tests that come later
SURROUNDING = (
    "builtins", "patch", "redirect_stderr", "redirect_stdout", "seed", "set_state", "setstate", "stderr",
    "stdin", "stdout",
)  # fmt: skip  # what changes the program's surroundings (surroundings.py)
ACTS = (ast.Assert, ast.Call, ast.Raise)
ASSERT_LINE = re.compile(r"^[ \t]*(?:assert\b|self\.assert)", re.MULTILINE)


class BrokenTest(ValueError):
    """A test that can pass nobody: it does not compile, or does nothing."""


def mistake_in(program: dict, timeout: object) -> str:
    """What is wrong with a program's record, or an empty text."""
    missing = [name for name in ("prompt", "completion", "test", "entry_point") if name not in program]
    if missing:
        return f"no {', '.join(missing)}; found {', '.join(sorted(map(str, program))) or '(none)'}"
    for name in ("prompt", "completion", "entry_point", "context"):
        if not isinstance(program.get(name, ""), str):
            return f"{name} is {type(program[name]).__name__}, text expected"
    test = program["test"]
    if not isinstance(test, str) and not (
        isinstance(test, (list, tuple)) and all(isinstance(t, str) for t in test)
    ):
        return f"test is {type(test).__name__}, text or a list of texts expected"
    if program.get("mode", "split") not in ("split", "inline"):
        return f"mode is {program['mode']!r}, split or inline expected"
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not 0 <= timeout <= LONGEST_TIMEOUT:
        return f"timeout {timeout!r} is no number of seconds from 0 to {LONGEST_TIMEOUT}"
    return ""


def test_text(test: object) -> str:
    """`test` as one text; a list of assertions (MBPP) is joined by line ends."""
    return test if isinstance(test, str) else "\n".join(test)


class CompiledTest(NamedTuple):
    code: bytes  # marshalled
    asserts: int
    expects_stop: bool  # it names StopIteration
    spoils: bool  # it may leave its process unlike it was
    surrounds: tuple[str, ...]  # names by which it may change what is around the program


@functools.lru_cache(maxsize=256)
def compile_test(text: str) -> CompiledTest:
    """Trusted text: it comes from the problem, never from a program."""
    if not text.strip():
        raise BrokenTest("the test is empty: every program would pass it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which name no problem
            code = compile(text, TEST_FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BrokenTest(f"the test does not compile: {error}") from None
    tree = parse(text)
    if tree and not tests_something(tree):
        defined = ", ".join(node.name for node in tree.body if hasattr(node, "name")) or "nothing"
        raise BrokenTest(
            "the test tests nothing, every program would pass it: check(candidate), test_... or statements "
            f"that assert or call expected, it defines {defined}"
        )
    names = names_in(code)
    return CompiledTest(
        marshal.dumps(code),
        len(ASSERT_LINE.findall(text)),
        not names.isdisjoint(("StopIteration", "StopAsyncIteration")),
        not names.isdisjoint(SPOILING),
        tuple(sorted(names.intersection(SURROUNDING))),
    )


def check_tests(tests: Mapping[str, str]) -> None:
    """ValueError for problems' tests, by task id, that can judge no program: before anything is sampled."""
    broken = {}
    for name, text in tests.items():
        try:
            compile_test(text)
        except BrokenTest as error:
            broken[name] = error
    if broken:
        first, *others = broken
        more = f" (others that cannot judge: {', '.join(others)})" if others else ""
        raise ValueError(f"{first}: {broken[first]}{more}; mend the problem or leave it out")


def tests_something(tree: ast.Module) -> bool:
    """Whether running a test text (testrun.py) does anything: it or a test it defines asserts, calls, raises.

    In doubt it does: decorators, lambdas, imports and other names for a function may.
    """
    todo: list[ast.AST] = [*tree.body]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.decorator_list or (
                is_test(node.name) and any(isinstance(n, ACTS) for n in ast.walk(node))
            ):
                return True
        elif isinstance(node, ACTS) or any(map(is_test, other_names(node))):
            return True
        else:
            todo += ast.iter_child_nodes(node)
    return False


def other_names(node: ast.AST) -> list[str]:
    """What a statement calls something that it imports or that has a name already."""
    if isinstance(node, ast.alias):
        return [node.asname or node.name]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
        return [ast.unparse(target) for target in node.targets]
    return []


def is_test(name: str) -> bool:
    return name in ("check", "runTest", "*") or name.startswith("test")


def names_in(code: types.CodeType) -> set[str]:
    """All names that code and the functions in it look up."""
    inner = (names_in(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return {*code.co_names}.union(*inner)


def failed_test(text: str, line: int) -> tuple[int, str]:
    """(assertions before `line`, the text of that line)."""
    lines = text.split("\n")
    before = "\n".join(lines[: max(line - 1, 0)])
    return len(ASSERT_LINE.findall(before)), lines[line - 1].strip() if 0 < line <= len(lines) else ""

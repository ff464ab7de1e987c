"""Test text as the judge needs it: compiled once in the host, sent as code (samples of a problem share
it)."""

import functools
import marshal
import re

TEST_FILE = "<test>"
ASSERT_LINE = re.compile(r"^[ \t]*(?:assert\b|self\.assert)", re.MULTILINE)


class BrokenTest(ValueError):
    """A test that can pass nobody: it does not compile, or does nothing."""


def test_text(test: object) -> str:
    """`test` as one text; a list of assertions (MBPP) is joined by line ends."""
    return test if isinstance(test, str) else "\n".join(test)


@functools.lru_cache(maxsize=256)
def compile_test(text: str) -> tuple[bytes, int]:
    """(marshalled code, number of assertions). Trusted text: it comes from the problem, never from a
    program."""
    if not text.strip():
        raise BrokenTest("the test is empty: every program would pass it")
    try:
        code = compile(text, TEST_FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise BrokenTest(f"the test does not compile: {error}") from None
    return marshal.dumps(code), len(ASSERT_LINE.findall(text))


def failed_test(text: str, line: int) -> tuple[int, str]:
    """(assertions before `line`, the text of that line)."""
    lines = text.split("\n")
    before = "\n".join(lines[: max(line - 1, 0)])
    return len(ASSERT_LINE.findall(before)), lines[line - 1].strip() if 0 < line <= len(lines) else ""

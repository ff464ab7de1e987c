"""The longest run of lines that is a program, found with few parses.

EvalPlus finds the code in an answer by parsing every run of lines, which takes time with the cube of the
length. The same run is found here, in practice in linear time; tests compare it with the definition.
"""

import ast
import contextlib
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from data.source import first_line
from data.syntax import parse

EFFORT, SMALL = 8, 2000  # lines to parse per line of the text, and for a text however short
SHORT = 16  # lines of a run whose error is remembered


class Lines:
    """Text in lines, and what a run of them tells about other runs that start at the same line."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.budget = EFFORT * len(self.lines) + SMALL  # lines the parser may still be given
        self.errors: dict[str, tuple[int, bool] | None] = {}
        self.tree: ast.Module | None = None  # of the run that has parsed last, if at hand
        self.solid = [
            0,
            *accumulate(bool(line.strip()) for line in self.lines),
        ]  # non-blank lines before each
        # Python also ends lines at a lone CR; `starts` maps its line numbers back to ours.
        self.starts = [0, *accumulate(1 + line[:-1].count("\r") for line in self.lines)]

    def filled(self, first: int, last: int) -> int:
        """Non-blank lines of the run first..last."""
        return self.solid[last + 1] - self.solid[first]

    def is_inside(self, number: int) -> bool:
        """Whether a line is indented, so that no program starts there."""
        line = self.lines[number]
        return line[:1] in " \t" and bool(line.strip()) and not line.lstrip().startswith("#")

    def failure(self, first: int, last: int) -> tuple[int, bool] | None:
        """None if the run parses. Otherwise the line from which on every end fails, up to `last`; and whether
        every end after `last` fails as well, because the error does not come from the text stopping there."""
        self.budget -= last - first + 1
        error = self.error("\n".join(self.lines[first : last + 1]), last - first < SHORT)
        if error is None:
            return None
        number, open_ended = error
        if not number:
            return last, False
        line = bisect_right(self.starts, self.starts[first] + number - 1) - 1
        line = min(max(line, first), last)
        more = any(
            later.strip() and not later.lstrip().startswith("#") for later in self.lines[line + 1 : last + 1]
        )
        return line, more and not open_ended

    def error(self, text: str, short: bool) -> tuple[int, bool] | None:
        """None if `text` parses. Otherwise the number of the line that is wrong, 0 where the parser names
        none, and whether more lines might mend it. Short texts are remembered: many answers repeat them."""
        if text in self.errors:
            self.tree = None
            return self.errors[text]
        found = None
        try:
            self.tree = compile(text, "<answer>", "exec", ast.PyCF_ONLY_AST)
        except SyntaxError as error:
            open_ended = ("never closed", "unterminated triple", "EOF")
            found = error.lineno or 0, any(part in error.msg for part in open_ended)
        except (ValueError, MemoryError, RecursionError):
            found = 0, False
        if short:
            self.errors[text] = found
        return found


@contextlib.contextmanager
def no_warnings() -> Iterator[None]:
    """Once around many parses: odd escapes and `is 1` warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@no_warnings()
def longest_program(text: str) -> tuple[str, ast.Module | None]:
    """The first run of two or more lines that parses and has most non-blank lines; else line one. And its
    tree, if it parses.

    A failed parse names a line, and no run from the same start that reaches that line can parse: so one
    start needs few parses, growing from a small window. Starts that cannot beat the best run, that are
    indented, or that lie between the statements of a run already seen, need none. Beyond `EFFORT` (nested
    unfinished brackets, say) the best run so far is taken.
    """
    run = Lines(text)
    end = len(run.lines) - 1
    best, best_filled, tree = (0, 0), 0, None
    covered: set[int] = set()  # between the statements of an earlier run: same end, fewer lines
    for first in range(end):
        if run.filled(first, end) <= best_filled or run.budget < 0:
            break
        if first in covered or run.is_inside(first):
            continue
        last = last_parsable(run, first, end, best_filled)
        if last is None:
            continue
        best, best_filled = (first, last), run.filled(first, last)
        tree = run.tree or parse("\n".join(run.lines[first : last + 1]))
        if run.filled(first + 1, end) > best_filled:
            covered.update(between_statements(run, first, last, tree))
    code = "\n".join(run.lines[best[0] : best[1] + 1])
    return code, tree or parse(code)


@no_warnings()
def program_runs(text: str) -> list[str]:
    """The programs in a text from its start to its end: each the longest from where it starts."""
    run, found, first = Lines(text), [], 0
    while first < len(run.lines) - 1 and run.budget > 0:
        last = None if run.is_inside(first) else last_parsable(run, first, len(run.lines) - 1, 0)
        if last is not None:
            found.append("\n".join(run.lines[first : last + 1]))
            first = last
        first += 1
    return found


def last_parsable(run: Lines, first: int, end: int, beat: int) -> int | None:
    """The shortest run from `first` with most non-blank lines, if it has more than `beat`; None otherwise."""
    if (
        first == 0 and run.filled(0, end) > beat and run.failure(0, end) is None
    ):  # often all of it is a program
        return shortest_end(run, first, end)
    last, size = end, 2
    while first + size - 1 < end:  # grow until an error shows that no longer run can parse
        failure = run.failure(first, first + size - 1)
        if failure and failure[1]:
            last = failure[0] - 1
            break
        size *= 4
    while last > first and run.filled(first, last) > beat and run.budget > 0:
        failure = run.failure(first, last)
        if failure is None:
            return shortest_end(run, first, last)
        last = min(failure[0], last) - 1
    return None


def shortest_end(run: Lines, first: int, last: int) -> int:
    """The end of the parsable run first..last without the blank lines it can do without."""
    shortest = last
    while shortest > first + 1 and not run.lines[shortest].strip():
        shortest -= 1
    while shortest < last and run.failure(first, shortest) is not None:  # a blank line may end a `\\` line
        shortest += 1
    return shortest


def between_statements(run: Lines, first: int, last: int, tree: ast.Module | None) -> set[int]:
    """Lines of a parsable run on which a top-level statement starts, or none is under way."""
    lines = set(range(first, last + 1))
    for node in tree.body if tree else []:
        start, end = (
            bisect_right(run.starts, run.starts[first] + number - 1) - 1
            for number in (first_line(node), node.end_lineno)
        )
        lines.difference_update(range(start + 1, end + 1))
    return lines

"""The program inside a model's answer: cut at a stop, take the fenced block, keep what the entry point needs.

Modes of `extract`:
- "none": the text as it is.
- "fenced": the code block of a chat answer that defines the entry point.
- "keep" (for collection): imports, and every top-level statement that binds a name the entry point reaches;
  prints, tests and main guards go. When the entry point cannot be found the text comes back unchanged, so
  that the verdict, not the extraction, says what was wrong with it.
- "evalplus": what EvalPlus's sanitizer returns (Liu et al. 2023, release 0.3.1), faults included, because
  published scores contain them: decorated functions, functions without a `return`, `try: import` and tuple
  assignments are lost; of two definitions the first wins; statements of one line alone are not seen as code.

EvalPlus finds code by parsing every run of lines, which takes its time with the cube of the length. The same
run is found here with few parses (`longest_program`); EvalPlus's tree-sitter step needs only `ast`.
"""

import ast
import re
import warnings
from bisect import bisect_right
from itertools import accumulate

from data.syntax import parse

MODES = ("none", "fenced", "keep", "evalplus")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*$", re.MULTILINE)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)


def extract(text: str, entry_point: str, mode: str = "keep") -> str:
    """The program in `text` (a whole answer, or prompt + completion for a base model)."""
    if mode not in MODES:
        raise ValueError(f"extraction mode {mode!r} does not exist; there are {', '.join(MODES)}")
    if mode == "none":
        return text
    if mode == "evalplus":
        return evalplus_sanitize(text, entry_point)
    text = ANSI.sub("", text)
    return fenced(text, entry_point) if mode == "fenced" else keep(text, entry_point)


def cut_at_stop(text: str, stops: tuple[str, ...]) -> str:
    """`text` up to the earliest stop string."""
    ends = [position for position in (text.find(stop) for stop in stops) if position >= 0]
    return text[: min(ends)] if ends else text


def defines(source: str, entry_point: str) -> bool:
    """Whether `source` parses and binds the entry point at its top level."""
    tree = parse(source)
    return tree is not None and any(entry_point in bound_names(node) for node in tree.body)


def fenced(text: str, entry_point: str) -> str:
    """The first fenced block that defines the entry point, else the first block, else all of `text`."""
    blocks = fenced_blocks(text)
    return next((block for block in blocks if defines(block, entry_point)), blocks[0] if blocks else text)


def fenced_blocks(text: str) -> list[str]:
    """Contents of the fenced blocks; a block that is never closed ends with the text."""
    blocks, opened = [], None
    for match in FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match[1][0] == opened[1][0] and len(match[1]) >= len(opened[1]):
            blocks.append(text[opened.end() + 1 : match.start()])
            opened = None
    if opened is not None:
        blocks.append(text[opened.end() + 1 :])
    return blocks


# ------------------------------------------------------------------------------------------------ keep


def keep(text: str, entry_point: str) -> str:
    """Imports and all top-level statements the entry point depends on, in their order."""
    candidates = [text, *fenced_blocks(text)]
    source = next((c for c in candidates if defines(c, entry_point)), None) or longest_program(text)
    tree = parse(source)
    if tree is None or not any(entry_point in bound_names(node) for node in tree.body):
        return text
    bound = [bound_names(node) for node in tree.body]
    used = [identifiers(node) for node in tree.body]
    reached, queue = {entry_point}, [entry_point]
    while queue:
        name = queue.pop()
        for names, dependencies in zip(bound, used, strict=True):
            if name in names:
                queue += dependencies - reached
                reached |= dependencies
    kept = [
        node
        for node, names in zip(tree.body, bound, strict=True)
        if names & reached or holds_import(node) or is_interpreter_setting(node)
    ]
    return "\n".join(segments(source, kept)) + "\n"


def bound_names(node: ast.stmt) -> set[str]:
    """Names a top-level statement defines, or changes in place (`table[0] = 1` counts for `table`)."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    if isinstance(node, IMPORTS):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {base for target in targets for base in assigned_names(target)}
    if isinstance(node, ast.If) and is_main_guard(node):
        return set()
    inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]
    names = {name for child in inner for name in bound_names(child)}
    if isinstance(node, ast.For):
        names |= assigned_names(node.target)
    return names


def assigned_names(target: ast.expr) -> set[str]:
    """The variables a target reaches: a name, the names of a tuple, the base of `a.b` and `a[0]`."""
    while isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        target = target.value
    if isinstance(target, ast.Tuple | ast.List):
        return {name for element in target.elts for name in assigned_names(element)}
    return {target.id} if isinstance(target, ast.Name) else set()


def is_main_guard(node: ast.If) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))


def holds_import(node: ast.stmt) -> bool:
    """An import, or a `try`/`if`/`with` around one that is no main guard."""
    if isinstance(node, IMPORTS):
        return True
    if isinstance(node, ast.If) and is_main_guard(node) or isinstance(node, DEFINITIONS):
        return False
    inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]
    return any(holds_import(child) for child in inner)


def is_interpreter_setting(node: ast.stmt) -> bool:
    """`sys.setrecursionlimit(...)` and its like: a call on which a right answer may depend."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "attr", getattr(node.value.func, "id", ""))
        in ("setrecursionlimit", "stack_size", "set_int_max_str_digits")
    )


def identifiers(node: ast.AST) -> set[str]:
    """Every identifier in a subtree: variables, attributes, arguments, imported and defined names."""
    names: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.Attribute):
            names.add(part.attr)
        elif isinstance(part, ast.arg | ast.keyword):
            names.add(part.arg or "")
        elif isinstance(part, ast.alias):
            names.update(part.name.split("."), [part.asname or ""])
        elif isinstance(part, ast.Global | ast.Nonlocal):
            names.update(part.names)
        elif isinstance(part, (*DEFINITIONS, ast.ExceptHandler)):
            names.add(part.name or "")
    return names - {""}


def segments(source: str, nodes: list[ast.stmt]) -> list[str]:
    """The source text of each statement, decorators included."""
    lines = byte_lines(source)
    return [source_bytes(lines, node, first_line(node)).decode() for node in nodes]


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def byte_lines(source: str) -> list[bytes]:
    """Lines as Python counts them (CR, CRLF and LF end one), ends kept: columns of `ast` are in bytes."""
    return re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", source.encode())


def source_bytes(lines: list[bytes], node: ast.stmt, first: int) -> bytes:
    """Bytes of a statement from line `first` (1-based; its own column when it starts there)."""
    piece = lines[first - 1 : node.end_lineno]
    piece[-1] = piece[-1][: node.end_col_offset]
    if first == node.lineno:
        piece[0] = piece[0][node.col_offset :]
    return b"".join(piece)


# -------------------------------------------------------------------------------------------- evalplus


def evalplus_sanitize(text: str, entry_point: str) -> str:
    """EvalPlus's `sanitize(text, entrypoint)`: imports, then the first definition of each reachable name."""
    found = code = longest_program(text)
    tree = parse(code)
    if tree is None and "\n" not in code:  # one line, no program: tree-sitter overlooks its indentation
        code = code.strip(" \t")
        tree = parse(code)
    kept = "" if tree is None else evalplus_definitions(code, tree, entry_point).strip()
    return kept or found


def evalplus_definitions(code: str, tree: ast.Module, entry_point: str) -> str:
    """The statements EvalPlus keeps, one after the other, imports first."""
    lines = byte_lines(code)
    imports, definitions = [], {}
    for node in tree.body:
        if isinstance(node, IMPORTS):
            if getattr(node, "module", None) != "__future__":
                imports.append(node)
        elif isinstance(node, DEFINITIONS) and not node.decorator_list:
            returns = isinstance(node, ast.ClassDef) or any(isinstance(p, ast.Return) for p in ast.walk(node))
            if returns:
                definitions.setdefault(node.name, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            definitions.setdefault(evalplus_assigned_name(node), node)
    uses = {name: identifiers(node) for name, node in definitions.items()}
    reached, queue = {entry_point}, [entry_point]
    while queue:
        for name in uses.get(queue.pop(), set()) - reached:
            reached.add(name)
            queue.append(name)
    kept = imports + [node for name, node in definitions.items() if name in reached]
    return b"\n".join(
        source_bytes(lines, node, node.lineno) + comments_after(lines, node) for node in kept
    ).decode()


def comments_after(lines: list[bytes], node: ast.stmt) -> bytes:
    """What EvalPlus's parser counts as part of a definition and `ast` does not: `;` and comments after its
    last statement, on the same line or below it, indented at least like the body."""
    if not isinstance(node, DEFINITIONS):
        return b""
    rest = re.match(rb"[ \t]*;?[ \t]*(#[^\n]*)?", lines[node.end_lineno - 1][node.end_col_offset :])
    tail = rest[0] if rest[1] else rest[0].rstrip(b" \t")  # a comment keeps its blanks, and its CR
    body = first_line(node.body[0])
    if body == node.lineno:
        return tail
    depth, pending = indentation(lines[body - 1]), b""
    ending = lines[node.end_lineno - 1][node.end_col_offset + len(tail) :]
    for line in lines[node.end_lineno :]:
        pending, ending = pending + ending, line
        if line.strip():
            text = line.removesuffix(b"\n")
            if not text.lstrip().startswith(b"#") or indentation(text) < depth:
                break
            tail, pending, ending = tail + pending + text, b"", line[len(text) :]
    return tail


def indentation(line: bytes) -> int:
    """Width of the white space a line starts with; a tab counts eight."""
    space = line[: len(line) - len(line.lstrip(b" \t"))]
    return len(space) + 7 * space.count(b"\t")


def evalplus_assigned_name(node: ast.Assign | ast.AnnAssign) -> str | None:
    """EvalPlus names an assignment by its first child that is a plain identifier, even on the right side."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    sides = [target] if target.col_offset == node.col_offset else []  # not `(a) = 1`
    if not (isinstance(node, ast.Assign) and len(node.targets) > 1):
        sides.append(node.value)
    return next((side.id for side in sides if isinstance(side, ast.Name)), None)


# ------------------------------------------------------------------- the longest run of lines that parses


class Lines:
    """Text in lines, and what a run of them tells about other runs that start at the same line."""

    def __init__(self, text: str, effort: int) -> None:
        self.lines = text.split("\n")
        self.budget = effort * (len(self.lines) + 50)  # lines the parser may still be given
        self.solid = [
            0,
            *accumulate(bool(line.strip()) for line in self.lines),
        ]  # non-blank lines before each
        # Python also ends lines at a lone CR; `starts` maps its line numbers back to ours.
        self.starts = [0, *accumulate(1 + line[:-1].count("\r") for line in self.lines)]

    def filled(self, first: int, last: int) -> int:
        """Non-blank lines of the run first..last."""
        return self.solid[last + 1] - self.solid[first]

    def failure(self, first: int, last: int) -> tuple[int, bool] | None:
        """None if the run parses. Otherwise the line from which on every end fails, up to `last`; and whether
        every end after `last` fails as well, because the error does not come from the text stopping there."""
        self.budget -= last - first + 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse("\n".join(self.lines[first : last + 1]))
            return None
        except SyntaxError as error:
            if not error.lineno:
                return last, False
            line = bisect_right(self.starts, self.starts[first] + error.lineno - 1) - 1
            line = min(max(line, first), last)
            open_ended = (
                "never closed" in error.msg or "unterminated triple" in error.msg or "EOF" in error.msg
            )
            more = any(
                later.strip() and not later.lstrip().startswith("#")
                for later in self.lines[line + 1 : last + 1]
            )
            return line, more and not open_ended
        except (ValueError, MemoryError, RecursionError):
            return last, False


def longest_program(text: str, effort: int = 20) -> str:
    """The first run of two or more lines that parses and has most non-blank lines; else line one.

    A failed parse names a line, and no run from the same start that reaches that line can parse: so one
    start needs few parses, growing from a small window. Starts that cannot beat the best run, that are
    indented, or that lie between the statements of a run already seen, need none. Beyond `effort` parsed
    lines per line of text (nested unfinished brackets, say) the best run so far is taken.
    """
    run = Lines(text, effort)
    end = len(run.lines) - 1
    best, best_filled = (0, 0), 0
    covered: set[int] = set()  # between the statements of an earlier run: same end, fewer lines
    for first in range(end):
        if run.solid[-1] - run.solid[first] <= best_filled or run.budget < 0:
            break
        line = run.lines[first]
        if first in covered or line[:1] in " \t" and line.strip() and not line.lstrip().startswith("#"):
            continue
        last = last_parsable(run, first, end, best_filled)
        if last is None:
            continue
        covered.update(between_statements(run, first, last))
        best, best_filled = (first, last), run.filled(first, last)
    return "\n".join(run.lines[best[0] : best[1] + 1])


def last_parsable(run: Lines, first: int, end: int, beat: int) -> int | None:
    """The shortest run from `first` with most non-blank lines, if it has more than `beat`; None otherwise."""
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
            break
        last = min(failure[0], last) - 1
    else:
        return None
    shortest = last
    while shortest > first + 1 and not run.lines[shortest].strip():
        shortest -= 1
    while run.failure(first, shortest) is not None:  # a blank line may end a line continuation
        shortest += 1
    return shortest


def between_statements(run: Lines, first: int, last: int) -> set[int]:
    """Lines of a parsable run on which a top-level statement starts, or none is under way."""
    tree = parse("\n".join(run.lines[first : last + 1]))
    lines = set(range(first, last + 1))
    for node in tree.body if tree else []:
        start, end = (
            bisect_right(run.starts, run.starts[first] + number - 1) - 1
            for number in (first_line(node), node.end_lineno)
        )
        lines.difference_update(range(start + 1, end + 1))
    return lines

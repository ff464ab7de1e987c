"""What EvalPlus's sanitizer makes of an answer, faults included, because published scores contain them.

Decorated functions, functions without a `return`, `try: import` and tuple assignments are lost; of two
definitions the first wins; statements of one line alone are not seen as code (Liu et al. 2023, release
0.3.1). EvalPlus reads code with tree-sitter; here `ast` does, and the differences are written out.

Two remain. Where no two lines in a row are a program, EvalPlus takes the first line, and its parser may find
a fragment of a statement in a line that does not parse; here that line comes back as it is. And a lone
carriage return ends a line for Python, but not for EvalPlus's parser.
"""

import ast
import re

from data.longest_program import longest_program
from data.source import byte_lines, first_line, source_bytes
from data.syntax import parse

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)


def evalplus_sanitize(text: str, entry_point: str) -> str:
    """EvalPlus's `sanitize(text, entrypoint)`: imports, then the first definition of each reachable name."""
    found, tree = longest_program(text)
    code = found
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
    if lines[body - 1][: node.body[0].col_offset].strip():  # the body stands on the line of its colon
        return tail
    depth, pending = indentation(lines[body - 1]), b""
    ending = lines[node.end_lineno - 1][node.end_col_offset + len(tail) :]
    for number in range(node.end_lineno, len(lines)):
        line = lines[number]
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


def identifiers(node: ast.AST) -> set[str]:
    """Every identifier in a subtree: variables, attributes, arguments, imported, defined, matched names."""
    names: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.Attribute):
            names.add(part.attr)
        elif isinstance(part, ast.arg | ast.keyword):
            names.add(part.arg or "")
        elif isinstance(part, ast.ImportFrom):
            names.update((part.module or "").split("."))
        elif isinstance(part, ast.alias):
            names.update(part.name.split("."), [part.asname or ""])
        elif isinstance(part, ast.Global | ast.Nonlocal):
            names.update(part.names)
        elif isinstance(part, (*DEFINITIONS, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            names.add(part.name or "")
        elif isinstance(part, ast.MatchMapping):
            names.add(part.rest or "")
        elif isinstance(part, ast.MatchClass):
            names.update(part.kwd_attrs)
    return names - {""}

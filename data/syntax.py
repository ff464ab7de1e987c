"""What makes two programs the same, a program trivial, and two texts close. No execution, only reading.

Programs are compared as source text with Python's own parser; the text is untrusted, so anything the parser
cannot take (syntax, null bytes, nesting too deep) is compared as text instead.
"""

import ast
import re
import warnings
from collections.abc import Iterator

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parse(source: str) -> ast.Module | None:
    """The syntax tree, or None for what Python cannot parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes and `is 1` warn; they are the sample's business
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def normal_form(source: str) -> str:
    """A text equal for programs that differ only in layout, comments and docstrings; identifiers are kept.

    A statement that is only a string counts as a comment wherever it stands. What does not parse is its own
    text without trailing blanks, so two different syntax errors stay different.
    """
    tree = parse(source)
    if tree is not None:
        try:
            for node in ast.walk(tree):
                if isinstance(getattr(node, "body", None), list):
                    node.body = [s for s in node.body if not is_comment(s)]
            return ast.dump(tree, annotate_fields=False)
        except RecursionError:
            pass
    return "\n".join(line.rstrip() for line in source.rstrip().splitlines())


def is_comment(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def is_trivial(source: str, entry_point: str) -> bool:
    """Whether the program cannot be a solution whatever a test says: it never looks at its arguments.

    True for an entry point that is missing (empty text, everything commented out), has no body besides
    docstring, `pass`, `...`, `return` and `raise`, returns a constant, or takes arguments and reads none of
    them. The last definition of the entry point counts. A source that does not parse is trivial too.
    """
    tree = parse(source)
    if tree is None:
        return True
    function = definition(tree, entry_point)
    if function is None:
        return True
    if isinstance(function, ast.ClassDef):
        return all(is_idle(s) for s in function.body)
    if isinstance(function, ast.Lambda):
        body: list[ast.AST] = [function.body]
    elif isinstance(function, DEFINITIONS):
        body = [s for s in function.body if not is_idle(s)]
    else:
        return isinstance(
            function, ast.Constant
        )  # bound to a call, a partial, an import, another name: not ours to judge
    if not body:
        return True
    arguments = function.args
    names = {a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs}
    names |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None}
    return bool(names) and not any(
        isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
        for statement in body
        for node in ast.walk(statement)
    )


def definition(tree: ast.Module, name: str) -> ast.AST | None:
    """What `name` is bound to last at module level, in whatever branch: a def, a class, a lambda, another
    expression, an import, or nothing."""
    found: ast.AST | None = None
    for statement in module_level(tree):
        if isinstance(statement, (*DEFINITIONS, ast.ClassDef)) and statement.name == name:
            found = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            found = next((a for a in statement.names if (a.asname or a.name) == name), found)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                found = statement.value
    return found


def module_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run with the module, in order: those inside `if` and `try` too, function bodies not."""
    stack: list[ast.AST] = tree.body[::-1]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, (*DEFINITIONS, ast.ClassDef)):
            inner = (ast.stmt, ast.ExceptHandler, ast.match_case)
            stack += [child for child in ast.iter_child_nodes(node) if isinstance(child, inner)][::-1]


def is_idle(statement: ast.stmt) -> bool:
    """pass, a docstring, `...`, a bare name, or leaving with a constant or an exception."""
    if isinstance(statement, ast.Pass | ast.Raise):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant | ast.Name)
    return isinstance(statement, ast.Return) and not any(
        isinstance(node, ast.Name | ast.Call) for node in ast.walk(statement)
    )


def without_layout(source: str) -> str:
    """The text without comments and white space: equal for texts that differ in nothing else.

    Read by eye rather than by the tokeniser, since one of the texts may not be Python at all; a `#` inside a
    string is taken for a comment, which can only make two texts look more alike.
    """
    return re.sub(r"\s+", "", re.sub(r"#[^\n]*", "", source))


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance in characters: insertions, deletions and substitutions.

    Myers 1999 (J. ACM 46:395), in Hyyro's 2003 form: one column of the table is two bit strings of +1 and -1
    steps, held in Python's long integers, so a text of 1,000 characters costs 1,000 steps instead of 10^6.
    """
    if not a:
        return len(b)
    positions: dict[str, int] = {}
    for i, character in enumerate(a):
        positions[character] = positions.get(character, 0) | 1 << i
    mask, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, distance = mask, 0, len(a)
    for character in b:
        match = positions.get(character, 0)
        diagonal = ((((match & plus) + plus) ^ plus) | match | minus) & mask
        row_plus = minus | (mask & ~(diagonal | plus))
        row_minus = plus & diagonal
        distance += bool(row_plus & last) - bool(row_minus & last)
        row_plus = (row_plus << 1 | 1) & mask
        row_minus = (row_minus << 1) & mask
        plus = row_minus | (mask & ~(diagonal | row_plus))
        minus = row_plus & diagonal
    return distance


def relative_distance(a: str, b: str) -> float:
    """Edit distance over the longer length, 0 (equal) to 1 (nothing shared)."""
    return edit_distance(a, b) / max(len(a), len(b), 1)

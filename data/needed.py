"""The statements of a program that one function needs: its definition and all it depends on, in their order.

Kept is what binds a name that the function reaches, what may change its value (`table.append(1)`, a loop that
does so, a call of a function that does), every import, and settings of the interpreter. What only uses the
function goes: prints, tests, main guards. Names are resolved by Python's own `symtable`, so a parameter `n`
does not keep a global `n = int(input())`. In doubt a statement stays.
"""

import ast
import builtins
import symtable
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from data.source import byte_lines, first_line, source_bytes
from data.syntax import parse

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SETTINGS = {"setrecursionlimit", "stack_size", "set_int_max_str_digits", "seed", "setlocale", "setrlimit"}
SETTINGS |= {"exec"}  # may bind anything
BUILTINS = vars(builtins).keys()
CHANGING = {
    "setattr",
    "delattr",
    "next",
    "exec",
    "eval",
    "map",
    "filter",
}  # builtins that may change an object
DYNAMIC = {"globals", "locals", "vars", "eval", "exec"}  # a function with these may need any name


@dataclass
class Statement:
    """A top-level statement: its text and the module's names it binds, reads, may change, and calls."""

    node: ast.stmt
    text: str
    binds: set[str]
    reads: set[str]
    changes: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)


def defines(source: str, name: str) -> bool:
    """Whether `source` parses and binds `name` at its top level."""
    return name in all_bound_names(source)


@lru_cache(maxsize=64)
def all_bound_names(source: str) -> frozenset[str]:
    """Names that a program binds at its top level; none for what does not parse."""
    tree = parse(source)
    return frozenset(name for node in tree.body for name in bound_names(node)) if tree else frozenset()


def needed(source: str, entry_point: str) -> tuple[str, set[str]]:
    """(the statements that stay, names they read that none of them binds). `source` must parse."""
    statements = read_statements(source)
    users = transitive_readers(statements, entry_point)
    relevant = [s for s in statements if not only_uses(s, entry_point, users)]
    kept = reached_statements(relevant, entry_point)
    own = {name for s in statements if not isinstance(s.node, IMPORTS) for name in s.binds}
    stay = [s for s in relevant if id(s) in kept or is_setting(s.node, own)]
    stay.sort(key=lambda s: getattr(s.node, "module", None) != "__future__")  # these must come first
    bound = {name for statement in stay for name in statement.binds}
    text = "".join(f"{statement.text}\n" for statement in stay)
    return text, {name for s in stay for name in s.reads} - bound - BUILTINS


def reached_statements(statements: list[Statement], entry_point: str) -> set[int]:
    """Ids of the statements that matter to a name: those that bind or change it, those that call a function
    which does, and the same for every name they read."""
    providers, changers, callers, sites = (defaultdict(list) for _ in range(4))
    for statement in statements:
        if isinstance(statement.node, DEFINITIONS):
            for name in function_changes(statement):
                changers[name].append(statement.node.name)
            for name in statement.reads:
                callers[name].append(statement.node.name)
        elif isinstance(statement.node, ASSIGNMENTS):  # a method of `b = Builder()` may do what Builder does
            for name in statement.reads:
                callers[name] += statement.binds
        for name in statement.binds | statement.changes:
            providers[name].append(statement)
        for name in statement.calls:
            sites[name].append(statement)
    kept: set[int] = set()
    seen, queue = {("name", entry_point)}, [("name", entry_point)]
    while queue:
        kind, name = queue.pop()
        found = providers[name] if kind == "name" else sites[name]
        new = {("call", function) for function in (changers if kind == "name" else callers)[name]}
        for statement in found:
            if id(statement) not in kept:
                kept.add(id(statement))
                every = statement.reads & DYNAMIC
                new |= {
                    ("name", other) for other in (providers if every else statement.reads | statement.binds)
                }
        queue += new - seen
        seen |= new
    return kept


def read_statements(source: str) -> list[Statement]:
    lines, statements = byte_lines(source), []
    for node in parse(source).body:
        text = source_bytes(lines, node, first_line(node)).decode()
        parts = list(executed(node))
        statement = Statement(node, text, bound_names(node), read_names(parts, text))
        statement.changes = changed_names(parts) | aliased_names(node, parts)
        statement.calls = {base_name(part.func) for part in parts if isinstance(part, ast.Call)}
        for decorator in getattr(node, "decorator_list", []):  # is called, and perhaps a method
            statement.calls.add(base_name(decorator))
            statement.changes |= {base_name(decorator)} - {getattr(decorator, "id", "")}
        if isinstance(node, ast.ClassDef) and "subclass" in source:  # a base may keep a list of its heirs
            statement.changes |= {base_name(base) for base in node.bases}
        statements.append(statement)
    own = {name for s in statements if not isinstance(s.node, IMPORTS) for name in s.binds}
    for statement in statements:
        statement.changes &= own
    return statements


def bound_names(node: ast.stmt) -> set[str]:
    """Names that a top-level statement binds."""
    if isinstance(node, ast.If) and is_main_guard(node):
        return set()
    names: set[str] = set()
    for part in executed(node, comprehensions=False):
        if isinstance(part, DEFINITIONS):
            names.add(part.name)
        elif isinstance(part, IMPORTS):
            names.update((alias.asname or alias.name).split(".")[0] for alias in part.names)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names.add(part.name or "")
        elif isinstance(part, ast.MatchMapping):
            names.add(part.rest or "")
    return names - {""}


def executed(node: ast.AST, comprehensions: bool = True) -> Iterator[ast.AST]:
    """The parts of a top-level statement that run with it: of a definition only decorators and defaults.

    Without `comprehensions`, of these only the assignment expressions, which bind outside of them.
    """
    stack = [node]
    while stack:
        part = stack.pop()
        yield part
        if isinstance(part, DEFINITIONS):
            stack += part.decorator_list
        elif isinstance(part, COMPREHENSIONS) and not comprehensions:
            stack += [inner.target for inner in ast.walk(part) if isinstance(inner, ast.NamedExpr)]
        elif not isinstance(part, ast.Lambda):
            stack += ast.iter_child_nodes(part)


def base_name(node: ast.AST) -> str:
    """`a` of `a.b[0].c()`; empty where the expression starts with no name."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def read_names(parts: list[ast.AST], text: str) -> set[str]:
    """Names of the module that a statement refers to, in whatever scope inside it. `parts`: all of it that
    is executed at once."""
    if not any(isinstance(part, (*DEFINITIONS, *COMPREHENSIONS, ast.Lambda)) for part in parts):
        return {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = symtable.symtable(text, "answer", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {part.id for part in ast.walk(parts[0]) if isinstance(part, ast.Name)}
    names = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_referenced()}
    tables = list(module.get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        in_class = table.get_type() == "class"  # `x = x` in a class reads the module's
        names |= {
            s.get_name() for s in table.get_symbols() if s.is_global() or in_class and s.is_referenced()
        }
    return names


def changed_names(parts: Iterable[ast.AST]) -> set[str]:
    """Names whose objects a piece of code may change: it assigns or deletes parts of them (`table[0] = 1`),
    calls their methods, or passes them on."""
    names = set()
    for part in parts:
        if is_part_assignment(part):
            names.add(base_name(part))
        elif isinstance(part, ast.Call):
            if isinstance(part.func, ast.Attribute):
                names.add(base_name(part.func))
            if not (isinstance(part.func, ast.Name) and part.func.id in BUILTINS - CHANGING):
                names |= {base_name(argument) for argument in part.args}
                names |= {base_name(keyword.value) for keyword in part.keywords}
    return names - {""}


def aliased_names(node: ast.stmt, parts: list[ast.AST]) -> set[str]:
    """Names whose objects get another name here, through which they may be changed: `x = table`, and
    `for row in table` where the loop changes rows."""
    names = set()
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(
        node.value, ast.Name | ast.Attribute | ast.Subscript
    ):
        names.add(base_name(node.value))
    changed = changed_names(parts)
    for part in parts:
        if isinstance(part, ast.For):
            targets = {inner.id for inner in ast.walk(part.target) if isinstance(inner, ast.Name)}
            if targets & changed:
                names |= {inner.id for inner in ast.walk(part.iter) if isinstance(inner, ast.Name)}
    return names


def is_part_assignment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)


def function_changes(statement: Statement) -> set[str]:
    """The module's names that calling a function or class may change, itself."""
    parts = list(ast.walk(statement.node))
    assigned = {name for part in parts if isinstance(part, ast.Global) for name in part.names}
    return (assigned | changed_names(parts)) & (statement.reads | assigned)


def transitive_readers(statements: list[Statement], name: str) -> set[str]:
    """`name` and the functions that refer to it, directly or through others."""
    readers: dict[str, set[str]] = defaultdict(set)
    for statement in statements:
        if isinstance(statement.node, DEFINITIONS):
            for read in statement.reads:
                readers[read].add(statement.node.name)
    found, queue = {name}, [name]
    while queue:
        new = readers[queue.pop()] - found
        found |= new
        queue += new
    return found


def only_uses(statement: Statement, entry_point: str, users: set[str]) -> bool:
    """Whether a statement is about the function rather than part of it."""
    node = statement.node
    if isinstance(node, ast.If) and is_main_guard(node) or isinstance(node, ast.Assert | ast.Return):
        return True
    if isinstance(node, (*DEFINITIONS, *ASSIGNMENTS)) or entry_point in statement.binds:
        return False
    for part in executed(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            passed = {argument.id for argument in part.args if isinstance(argument, ast.Name)}
            if part.func.id in users or entry_point in passed and part.func.id != "setattr":
                return True
    return False


def is_main_guard(node: ast.If) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))


def is_setting(node: ast.stmt, own: set[str]) -> bool:
    """An import; a call like `sys.setrecursionlimit(...)`, or an assignment to a part of what the program did
    not make itself (`getcontext().prec = 50`), on which a right answer may depend."""
    for part in executed(node):
        if isinstance(part, IMPORTS):
            return True
        if isinstance(part, ast.Call):
            if getattr(part.func, "attr", getattr(part.func, "id", "")) in SETTINGS:
                return True
        elif is_part_assignment(part) and base_name(part) not in own:
            return True
    return False

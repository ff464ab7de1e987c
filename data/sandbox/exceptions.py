"""How an exception crosses: names of its class and bases, message, arguments, attributes, cause, notes.

The other side raises one of the nearest builtin class, or of a class that both sides have, or of a new class
named alike. Nothing the sender says can make it another kind of exception than its bases are.
"""

import contextlib
import sys

from data.sandbox.codec import NAMED_TYPES
from data.sandbox.sharing import is_data

MOST_BASES, MOST_NOTES, LONGEST_MESSAGE = 8, 20, 2000
ENDS_A_LOOP = (StopIteration, StopAsyncIteration, GeneratorExit)
OF_TEST_TOOLS = ("unittest", "doctest", "bdb", "pdb")  # SkipTest and its like: these decide what a test is


def class_names(kind: type) -> tuple[str, ...]:
    """Names of an exception class and its bases, nearest first, up to the first builtin one. A library's
    class is named with its module."""
    names = []
    for base in kind.__mro__:
        name = type.__dict__["__name__"].__get__(base)
        module = base.__dict__.get("__module__")
        if type(module) is str and library_class(f"{module}.{name}") is base:
            name = f"{module}.{name}"
        names.append(name[:80].replace(",", "?"))
        if NAMED_TYPES.get(name) is base:
            break
    return tuple(names)


def library_class(name: str) -> type | None:
    """The exception class that a module of the standard library or NumPy has under this name, if it has been
    imported here: tests that expect a `json.JSONDecodeError` have imported it."""
    module, _, name = name.rpartition(".")
    root = module.partition(".")[0]
    if (root not in sys.stdlib_module_names and root != "numpy") or root in OF_TEST_TOOLS:
        return None
    found = getattr(sys.modules.get(module), name, None)
    known = isinstance(found, type) and issubclass(found, Exception) and found.__module__ == module
    return found if known and not issubclass(found, ENDS_A_LOOP) else None


def describe(error: BaseException) -> tuple:
    """(class names, message, arguments, attributes, cause, notes). Runs the exception's own code."""
    try:
        message = str(error)[:LONGEST_MESSAGE]
        message = message if type(message) is str else "".join(message)
    except BaseException as failure:
        message = f"(no message: {type(failure).__name__})"
    state = getattr(error, "__dict__", {})
    notes = state.get("__notes__", [])
    attributes = {k: v for k, v in state.items() if type(k) is str and not k.startswith("_")}
    arguments = BaseException.args.__get__(error)
    if isinstance(error, OSError) and error.filename is not None and len(arguments) == 2:
        arguments = (*arguments, error.filename)  # which Python keeps apart
    cause = BaseException.__cause__.__get__(error)
    return class_names(type(error)), message, arguments, attributes, cause, list(notes)[:MOST_NOTES]


class Exceptions:
    """Classes of the other side's exceptions as they stand here."""

    def __init__(self, classes: dict[str, type]) -> None:
        self.classes = classes  # those that both sides have
        self.made: dict[tuple[str, ...], type] = {}
        self.may_end_loops = False

    def kind(self, names: tuple[str, ...]) -> type:
        """The class for one of the other side.

        One that ends a loop in the caller becomes a RuntimeError, as in a generator (PEP 479): else a program
        could cut `zip(map(candidate, inputs), expected)` short and pass.
        """
        name, *bases = names
        found = NAMED_TYPES.get(name)
        if found is not None and issubclass(found, BaseException):
            return RuntimeError if issubclass(found, ENDS_A_LOOP) and not self.may_end_loops else found
        shared = self.classes.get(name)
        if shared is not None and issubclass(shared, BaseException):
            return shared
        found = library_class(name)
        if found is not None:
            return found
        if names not in self.made:
            base = self.kind(tuple(bases)) if bases else Exception
            self.made[names] = type(
                name.rpartition(".")[2], (base,), {"__module__": "solution", "__str__": message_of}
            )
        return self.made[names]

    def rebuild(
        self, names: tuple, message: str, arguments: tuple, attributes: dict, cause: object, notes: list
    ) -> BaseException:
        """An exception like the other side's; runs no initialiser but those of builtin classes."""
        kind = self.kind(names[:MOST_BASES])
        try:
            error = instance(kind, arguments)
        except Exception:
            error = Exception.__new__(Exception, message)
        for name, value in attributes.items():
            if is_data(type(error), name):
                with contextlib.suppress(Exception):
                    object.__setattr__(error, name, value)
        if isinstance(cause, BaseException):
            error.__cause__ = cause
        for note in notes[:MOST_NOTES]:
            error.add_note(note)
        error._sandbox = (str(names[0]).rpartition(".")[2][:80], str(message)[:LONGEST_MESSAGE])
        return error


def message_of(error: BaseException) -> str:
    """The text of an exception whose class is unknown here, as its own class gave it."""
    found = error.__dict__.get("_sandbox")
    return found[1] if found else BaseException.__str__(error)


def instance(kind: type, arguments: tuple) -> BaseException:
    """`kind(*arguments)` by the first builtin class among its bases."""
    builtin = next(base for base in kind.__mro__ if NAMED_TYPES.get(base.__name__) is base)
    error = builtin.__new__(kind, *arguments)
    builtin.__init__(error, *arguments)
    return error

"""What a program may do with an object that the tests hand to it.

Call it, advance it, ask for its text, length and truth; and with objects of the tests' own classes, of
the prompt's, with files and mocks, what a program in the same process would do: public attributes, items,
operators. Nothing leads to a frame, a module or a dictionary of ours, and no method can be replaced.
"""

import io
import sys
import types

from data.sandbox.operations import OPERATIONS
from data.sandbox.remote import BINARY, ORDER, UNARY
from data.sandbox.sharing import is_data

ON_ALL = {"bool", "len", "str", "repr", "hash"}
ON_OWN = {
    "getitem", "setitem", "delitem", "iter", "reversed", "int", "float", "index", "enter", "exit", "copy",
    "deepcopy", "format", "round",
}  # fmt: skip
IN_PLACE = tuple(f"i{name.strip('_')}" for name in BINARY)
SAFE_OPERATORS = {*ORDER, *UNARY, *BINARY, *IN_PLACE, "eq", "contains"}
OF_FUNCTIONS = {
    "__name__", "__qualname__", "__doc__", "__module__", "__defaults__", "__kwdefaults__", "__annotations__",
    "__wrapped__",
}  # fmt: skip
MODULES = ("test", "prompt")  # of the classes that tests and prompt define


def operate_on_tests(value: object, operation: str, operands: tuple) -> object:
    """Do what a program asks, or TypeError / AttributeError, as for an object that cannot do it."""
    if operation == "call" and callable(value):
        arguments, keywords = operands
        return value(*arguments, **dict(keywords))
    generator = isinstance(value, types.GeneratorType)
    if (
        operation in ON_ALL
        or (operation == "next" and hasattr(type(value), "__next__"))
        or (operation == "iter" and hasattr(type(value), "__iter__"))
        or (operation in ("send", "throw", "close") and generator)
        or (operation == "code" and isinstance(value, (types.FunctionType, types.MethodType)))
        or (operation in ("isinstance", "issubclass") and is_own_class(value))
    ):
        return OPERATIONS[operation](value, *operands)
    if operation in ("getattr", "setattr", "delattr"):
        return attribute(value, operation, *operands)
    if is_own(value) and (
        operation in ON_OWN or (operation in ("operator", "swapped") and operands[0] in SAFE_OPERATORS)
    ):
        return OPERATIONS[operation](value, *operands)
    raise TypeError(f"{operation} is not possible on this object")


def attribute(value: object, operation: str, name: object, *new: object) -> object:
    """Read or write an attribute that is data, or read a method to call it."""
    if type(name) is not str:
        raise TypeError("attribute name must be string")
    function = isinstance(value, types.FunctionType)
    hidden = name.startswith("__") or (name.startswith("_") and type(value).__module__ not in MODULES)
    if operation == "getattr":
        own = is_own(value) or is_own_class(value) or (function and name in value.__dict__)
        if (own and not hidden) or (function and name in OF_FUNCTIONS):
            return getattr(value, name)
    elif not hidden and (function or (is_own(value) and is_writable(type(value), name))):
        return OPERATIONS[operation](value, name, *new)
    raise AttributeError(name)


def is_own(value: object) -> bool:
    """An object of a class of the tests or the prompt, a file, or a mock."""
    if type(value).__module__ in MODULES or isinstance(value, io.IOBase):
        return True
    mock = sys.modules.get("unittest.mock")
    return mock is not None and isinstance(value, mock.NonCallableMock)


def is_own_class(value: object) -> bool:
    return isinstance(value, type) and value.__module__ in MODULES


def is_writable(kind: type, name: str) -> bool:
    """Data, or a property that the tests' own class lets be set."""
    found = next((base.__dict__[name] for base in kind.__mro__ if name in base.__dict__), None)
    settable = isinstance(found, property) and found.fset is not None and kind.__module__ in MODULES
    return is_data(kind, name) or settable

"""What one side may ask about an object of the other. The program's side does all of it for the judge."""

import copy
import operator
from collections.abc import Callable


def step(advance: Callable, *operands: object) -> tuple[bool, object]:
    """(True, item), or (False, return value) at the end of an iterator."""
    try:
        return True, advance(*operands)
    except StopIteration as stop:
        return False, stop.value


def leave(value: object, error: BaseException | None) -> object:
    """End a `with` block that ended well or with an exception."""
    return value.__exit__(None, None, None) if error is None else value.__exit__(type(error), error, None)


def code_facts(function: Callable) -> dict[str, object]:
    """What `inspect` reads of a function's code, without its constants and its own names."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    names = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_name")
    return {name: getattr(code, name) for name in names} | {"co_varnames": code.co_varnames[:count]}


OPERATIONS: dict[str, Callable[..., object]] = {
    "getattr": getattr,
    "setattr": setattr,
    "delattr": delattr,
    "bool": bool,
    "len": len,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "iter": iter,
    "reversed": reversed,
    "str": str,
    "repr": repr,
    "format": format,
    "int": int,
    "float": float,
    "index": operator.index,
    "hash": hash,
    "code": code_facts,
    "operator": lambda value, name, *operands: getattr(operator, name)(value, *operands),
    "swapped": lambda value, name, operand: getattr(operator, name)(operand, value),
    "enter": lambda value: value.__enter__(),
    "exit": leave,
    "isinstance": lambda value, instance: isinstance(instance, value),
    "issubclass": lambda value, kind: issubclass(kind, value),
    "round": round,
    "close": lambda value: value.close(),
    "next": lambda value: step(next, value),
    "send": lambda value, item: step(value.send, item),
    "throw": lambda value, error: step(value.throw, error),
}

"""Values and functions of the standard library that cross by name: both sides have their own.

Only what is immutable or plain data, and only functions without effects.
"""

import builtins
import collections
import importlib
import math
import operator
import re
import sys
import time
import types
from collections.abc import Callable

from data.sandbox.codec import CodecError

# objects whose attributes cross (sharing.state_of), besides those of the problem's own classes
CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        types.SimpleNamespace,
        collections.UserDict,
        collections.UserList,
        collections.UserString,
        collections.ChainMap,
    )
}

# values made again from plain ones: name of the type -> the arguments of its maker
PARTS: dict[str, Callable[[object], tuple]] = {
    "uuid.UUID": lambda value: (value.int,),
    "pathlib.PurePosixPath": lambda value: (str(value),),
    "pathlib.PureWindowsPath": lambda value: (str(value),),
    "ipaddress.IPv4Address": lambda value: (str(value),),
    "ipaddress.IPv6Address": lambda value: (str(value),),
    "ipaddress.IPv4Network": lambda value: (str(value),),
    "ipaddress.IPv6Network": lambda value: (str(value),),
    "datetime.timezone": lambda value: value.__getinitargs__(),
    "zoneinfo.ZoneInfo": lambda value: (value.key,),
    "time.struct_time": lambda value: (tuple(value), value.tm_zone, value.tm_gmtoff),
    "types.MappingProxyType": lambda value: (dict(value),),
    "builtins.memoryview": lambda value: (value.tobytes(), value.format, value.shape),
    "re.Pattern": lambda value: (value.pattern, int(value.flags)),
}
LONGEST_PATTERN = 1000


def part_name(value: object) -> str | None:
    """The name under which a value is made again, if it is of one of these very types."""
    kind = type(value)
    if kind is types.MappingProxyType:
        return "types.MappingProxyType"
    module, name = kind.__module__, kind.__qualname__
    if type(module) is not str or type(name) is not str:
        return None
    root = module.partition(".")[0]
    full = f"{root}.{name}"
    if full == "pathlib.PosixPath":  # the judge shall open no file whose path a program has chosen
        return "pathlib.PurePosixPath"
    found = full in PARTS and getattr(sys.modules.get(root), name, None) is kind
    return full if found else None


def make(name: str, parts: tuple) -> object:
    """The value, of this side's own type."""
    if name not in PARTS:
        raise CodecError("a value of an unknown type")
    if name == "uuid.UUID":
        return importlib.import_module("uuid").UUID(int=parts[0])
    if name == "time.struct_time":
        fields, zone, offset = parts
        return time.struct_time((*fields, zone, offset))
    if name == "builtins.memoryview":
        data, code, shape = parts
        return memoryview(data).cast("B").cast(code, shape) if data else memoryview(data)
    if name == "re.Pattern":  # compiled here, so bounded: a hostile one could keep the judge busy
        if len(parts[0]) > LONGEST_PATTERN:
            raise CodecError(f"an expression of more than {LONGEST_PATTERN} characters")
        return re.compile(*parts)
    module, _, kind = name.partition(".")
    return getattr(importlib.import_module(module), kind)(*parts)


PURE = (
    "abs all any ascii bin callable chr divmod format hash hex isinstance issubclass len max min oct ord pow "
    "repr round sorted sum"
)


def functions() -> dict[str, Callable[..., object]]:
    """Name -> function, of builtins, `math`, `operator` and the methods of plain types."""
    found = {name: getattr(builtins, name) for name in PURE.split()}
    for module in (math, operator):
        changing = {"setitem", "delitem"} | {name for name in dir(operator) if name.startswith("i")}
        for name, value in vars(module).items():
            pure = isinstance(value, types.BuiltinFunctionType) and name not in changing
            if pure and not name.startswith("_"):
                found[f"{module.__name__}.{name}"] = value
    for kind in (str, bytes, int, float, list, tuple, dict, set, frozenset):
        for name, value in vars(kind).items():
            if isinstance(value, types.MethodDescriptorType) and not name.startswith("_"):
                found[f"{kind.__name__}.{name}"] = value
    return found


FUNCTIONS = functions()
FUNCTION_NAMES = {id(value): name for name, value in FUNCTIONS.items()}

"""Plain data as bytes, exactly, and nothing else: the only thing that crosses between tests and program.

Not pickle, not marshal, not eval: decoding builds values and runs no code of the sender. Exact for None,
bool, int of any size, float (nan, inf, -0.0), complex, str (lone surrogates too), bytes, bytearray, list,
tuple, named tuples, dict (any key), set, frozenset, range, slice, dict views, deque, Counter, OrderedDict,
defaultdict, Decimal, Fraction, date and time, array, builtin types and exceptions, NumPy scalars and
arrays. Subclasses are reduced to their base by the base's own methods. What is none of these goes to
`foreign`, which may encode it as a reference, and comes back through `Decoder.foreign`.

A value starts with one tag byte; counts are little-endian uint32. Lists and tuples of one scalar type are
packed.
"""

import builtins
import math
import struct
import sys
import types

MAX_DEPTH = 4000
MAX_BYTES = 64 << 20
MAX_VALUES = 4 << 20  # in one message, beside those in packed lists
COUNT = struct.Struct("<I")
INT64 = struct.Struct("<q")
FLOAT = struct.Struct("<d")
COMPLEX = struct.Struct("<dd")
NOTHING = b"t\0\0\0\0"  # an empty tuple
SMALL_INT_MIN, SMALL_INT_MAX = -(1 << 63), (1 << 63) - 1
KEYS, VALUES, ITEMS = type({}.keys()), type({}.values()), type({}.items())
NAMED_TYPES = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and value.__module__ == "builtins" and not name.startswith("_")
} | {"NoneType": type(None)}
TYPE_NAMES = {value: name for name, value in reversed(NAMED_TYPES.items())}
SINGLETONS = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented, "nan": math.nan}
SINGLETON_NAMES = {id(value): name for name, value in SINGLETONS.items()}
ARRAY_KINDS = "biufcSUMm"


def loaded_numpy() -> types.ModuleType | None:
    """NumPy, if this process has imported it: a value of its kinds cannot exist otherwise."""
    module = sys.modules.get("numpy")
    return module if hasattr(module, "ndarray") and hasattr(module, "generic") else None


def imported_numpy() -> types.ModuleType:
    """NumPy, imported now if need be: a value of its kinds has come."""
    try:
        import numpy
    except ImportError:
        raise CodecError("a NumPy value, and no NumPy here") from None
    return numpy


class CodecError(Exception):
    """Bytes that are no value, or a value that is too deep or too large."""

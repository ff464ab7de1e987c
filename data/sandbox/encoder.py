"""Values to bytes: one writer for each type of codec.py."""

import array
import collections
import datetime
import decimal
import enum
import fractions
import operator
import struct
import types
from collections.abc import Callable

from data.sandbox.codec import (
    ARRAY_KINDS,
    COMPLEX,
    COUNT,
    FLOAT,
    INT64,
    ITEMS,
    KEYS,
    MAX_BYTES,
    MAX_DEPTH,
    SINGLETON_NAMES,
    SMALL_INT_MAX,
    SMALL_INT_MIN,
    TYPE_NAMES,
    VALUES,
    CodecError,
    loaded_numpy,
)
from data.sandbox.exceptions import describe
from data.sandbox.extension import Extension, added, handle_of
from data.sandbox.library import FUNCTION_NAMES, PARTS, part_name
from data.sandbox.sharing import Shared, mapping_kind, state_of


class Encoder:
    """One message. With `shared`, containers are numbered there and repeated ones become references;
    `class_names` are the classes whose instances cross by their attributes; up to `extends` plain values also
    name the object that they are, when its class adds something (extension.py)."""

    def __init__(
        self,
        foreign: Callable[[object], bytes],
        shared: Shared | None = None,
        class_names: dict[type, str] | None = None,
        extends: int = 0,
    ) -> None:
        self.parts: list[bytes] = []
        self.extends = extends
        self.foreign = foreign
        self.shared = shared
        self.class_names = class_names or {}
        self.depth = 0

    def bytes(self) -> bytes:
        data = b"".join(self.parts)
        if len(data) > MAX_BYTES:
            raise CodecError(f"a value of {len(data)} bytes; {MAX_BYTES} is the limit")
        return data

    def encode(self, value: object) -> None:
        WRITERS.get(type(value), write_unusual)(self, value)

    def encode_unusual(self, value: object) -> None:
        """Subclasses of plain types, and the rest."""
        kind = type(value)
        if issubclass(kind, Extension):  # goes back where it came from
            if not self.refers(value):
                self.parts.append(self.foreign(handle_of(value)))
            return
        if self.extends and kind not in self.class_names and (names := added(kind)) is not None:
            if self.refers(value):
                return
            self.extends -= 1
            self.parts += (b"X", self.foreign(value))
            write_tuple(self, names)
        if kind is type or issubclass(kind, type):
            name = TYPE_NAMES.get(value) if kind is type else None
            if name:
                self.text(b"x", name)
            else:
                self.parts.append(self.foreign(value))
        elif id(value) in SINGLETON_NAMES:
            self.text(b"e", SINGLETON_NAMES[id(value)])
        elif id(value) in FUNCTION_NAMES:
            self.text(b"L", FUNCTION_NAMES[id(value)])
        elif (numpy := loaded_numpy()) is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
            write = write_numpy_scalar if isinstance(value, numpy.generic) else write_numpy_array
            write(self, value)
        elif issubclass(kind, tuple) and is_named_tuple(kind):
            self.parts.append(b"u")
            write_text(self, kind.__name__)
            write_tuple(self, tuple(tuple.__iter__(value)))
            write_tuple(self, tuple(kind._fields))
        elif issubclass(kind, BaseException):
            write_exception(self, value)
        elif kind in self.class_names and issubclass(kind, enum.Enum):
            self.text(b"G", self.class_names[kind])
            write_text(self, value.name)
        elif (name := part_name(value)) is not None:
            self.text(b"J", name)
            write_tuple(self, PARTS[name](value))
        else:
            for base, writer, plain in REDUCTIONS:
                if issubclass(kind, base):
                    writer(self, plain(value))
                    return
            if kind in self.class_names and makes_plain_objects(kind):
                write_instance(self, value, self.class_names[kind])
            else:
                self.parts.append(self.foreign(value))

    def text(self, tag: bytes, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self.parts += (tag, COUNT.pack(len(data)), data)

    def begin(self, value: object) -> bool:
        """Enter a container; False when a reference to one that is known was written instead."""
        if self.refers(value):
            return False
        if self.shared is not None:
            self.shared.add(value)
        return True

    def refers(self, value: object) -> bool:
        """Write a reference, if this container is known."""
        number = None if self.shared is None else self.shared.numbers.get(id(value))
        if number is None:
            return False
        self.parts.append(b"A" + COUNT.pack(number))
        return True

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise CodecError(f"a value nested deeper than {MAX_DEPTH}")


def is_named_tuple(kind: type) -> bool:
    fields = getattr(kind, "_fields", None)
    return type(fields) is tuple and all(type(name) is str for name in fields)


def write_unusual(encoder: Encoder, value: object) -> None:
    encoder.encode_unusual(value)


def write_foreign(encoder: Encoder, value: object) -> None:
    encoder.parts.append(encoder.foreign(value))


def write_none(encoder: Encoder, value: None) -> None:
    encoder.parts.append(b"N")


def write_bool(encoder: Encoder, value: bool) -> None:
    encoder.parts.append(b"T" if value else b"F")


def write_int(encoder: Encoder, value: int) -> None:
    if SMALL_INT_MIN <= value <= SMALL_INT_MAX:
        encoder.parts.append(b"i" + INT64.pack(value))
    else:
        encoder.text(b"I", format(value, "x"))  # hexadecimal: linear time, no limit on digits


def write_float(encoder: Encoder, value: float) -> None:
    if value == value:
        encoder.parts.append(b"f" + FLOAT.pack(value))
    elif id(value) in SINGLETON_NAMES:
        encoder.text(b"e", SINGLETON_NAMES[id(value)])
    elif encoder.begin(value):  # containers compare by identity first, so a not-a-number may equal itself
        encoder.parts.append(b"Y" + FLOAT.pack(value))


def write_complex(encoder: Encoder, value: complex) -> None:
    encoder.parts.append(b"c" + COMPLEX.pack(value.real, value.imag))


def write_text(encoder: Encoder, value: str) -> None:
    data = value.encode("utf-8", "surrogatepass")
    encoder.parts.append(b"s" + COUNT.pack(len(data)) + data)


def write_bytes(encoder: Encoder, value: bytes) -> None:
    encoder.parts += (b"b", COUNT.pack(len(value)), value)


def write_bytearray(encoder: Encoder, value: bytearray) -> None:
    if encoder.begin(value):
        encoder.parts += (b"B", COUNT.pack(len(value)), bytes(value))


def write_sequence(encoder: Encoder, items: list | tuple, mark: bytes) -> None:
    """Items of one scalar type as one block of bytes, others one by one. `mark` is l or t."""
    if len(items) > 7:
        kinds = set(map(type, items))
        if len(kinds) == 1 and pack(encoder, items, kinds.pop(), mark):
            return
    encoder.parts.append(mark + COUNT.pack(len(items)))
    encoder.enter()
    find = WRITERS.get
    for item in items:
        find(type(item), write_unusual)(encoder, item)
    encoder.depth -= 1


def pack(encoder: Encoder, items: list | tuple, kind: type, mark: bytes) -> bool:
    count = COUNT.pack(len(items))
    if kind is int:
        try:
            encoder.parts.append(b"P" + mark + count + struct.pack(f"<{len(items)}q", *items))
        except struct.error:
            return False
        return True
    if kind is float:
        total = sum(items)
        if total != total and any(map(operator.ne, items, items)):
            return False
        encoder.parts.append(b"Q" + mark + count + struct.pack(f"<{len(items)}d", *items))
        return True
    if kind is str:
        data = "".join(items).encode("utf-8", "surrogatepass")
        lengths = struct.pack(f"<{len(items)}I", *map(len, items))
        encoder.parts += (b"Z" + mark + count, lengths, COUNT.pack(len(data)), data)
        return True
    return False


def write_list(encoder: Encoder, value: list) -> None:
    if encoder.begin(value):
        write_sequence(encoder, value if type(value) is list else list(list.__iter__(value)), b"l")


def write_tuple(encoder: Encoder, value: tuple) -> None:
    write_sequence(encoder, value, b"t")


def write_pairs(encoder: Encoder, value: dict) -> None:
    encoder.enter()
    encode = encoder.encode
    for key, item in mapping_kind(value).items(value):
        encode(key)
        encode(item)
    encoder.depth -= 1


def write_dict(encoder: Encoder, value: dict) -> None:
    if not encoder.begin(value):
        return
    kind = type(value)
    if kind is collections.OrderedDict or kind is collections.Counter:
        encoder.parts.append(b"O" if kind is collections.OrderedDict else b"C")
    elif kind is collections.defaultdict and (
        encoder.shared is not None or value.default_factory is None or value.default_factory in TYPE_NAMES
    ):  # any other factory is an object that only the conversation can name
        encoder.parts.append(b"D")
        encoder.encode(value.default_factory)
    else:
        encoder.parts.append(b"d")
    encoder.parts.append(COUNT.pack(dict.__len__(value)))
    write_pairs(encoder, value)


def write_exception(encoder: Encoder, value: BaseException) -> None:
    """Class names, message, arguments, attributes, cause, notes. Runs the exception's own code."""
    encoder.parts.append(b"E")
    encoder.enter()
    for part in describe(value):
        encoder.encode(part)
    encoder.depth -= 1


def makes_plain_objects(kind: type) -> bool:
    return kind.__new__ in (object.__new__, types.SimpleNamespace.__new__)


def write_instance(encoder: Encoder, value: object, name: str) -> None:
    """An object of a class that the other side has too: its attributes."""
    if encoder.begin(value):
        encoder.text(b"K", name)
        state = state_of(value)
        encoder.parts.append(COUNT.pack(len(state)))
        write_pairs(encoder, state)


def write_items(encoder: Encoder, tag: bytes, items: list) -> None:
    encoder.parts.append(tag + COUNT.pack(len(items)))
    encoder.enter()
    for item in items:
        encoder.encode(item)
    encoder.depth -= 1


def write_set(encoder: Encoder, value: set) -> None:
    if encoder.begin(value):
        write_items(encoder, b"S", list(set.__iter__(value)))


def write_frozenset(encoder: Encoder, value: frozenset) -> None:
    write_items(encoder, b"z", list(frozenset.__iter__(value)))


def write_range(encoder: Encoder, value: range) -> None:
    write_items(encoder, b"r", [value.start, value.stop, value.step])


def write_slice(encoder: Encoder, value: slice) -> None:
    write_items(encoder, b"p", [value.start, value.stop, value.step])


def write_deque(encoder: Encoder, value: collections.deque) -> None:
    if encoder.begin(value):
        items = list(collections.deque.__iter__(value))
        write_items(encoder, b"q", [value.maxlen, *items])


def write_view(encoder: Encoder, value: object) -> None:
    tag = {KEYS: b"k", VALUES: b"v", ITEMS: b"w"}[type(value)]
    encoder.parts.append(tag)
    write_sequence(encoder, list(value), b"t")


def write_decimal(encoder: Encoder, value: decimal.Decimal) -> None:
    encoder.text(b"m", decimal.Decimal.__str__(value))


def write_fraction(encoder: Encoder, value: fractions.Fraction) -> None:
    write_items(encoder, b"R", [value.numerator, value.denominator])


def write_date(encoder: Encoder, value: object) -> None:
    """Dates and times by their fields; a time zone only as a fixed offset."""
    kind = type(value)
    if kind is datetime.timedelta:
        fields = [value.days, value.seconds, value.microseconds]
    elif kind is datetime.date:
        fields = [value.year, value.month, value.day]
    else:
        offset = value.utcoffset()
        zone = None if offset is None else offset // datetime.timedelta(microseconds=1)
        clock = [value.hour, value.minute, value.second, value.microsecond, value.fold, zone]
        fields = clock if kind is datetime.time else [value.year, value.month, value.day, *clock]
    encoder.text(b"y", kind.__name__)
    write_items(encoder, b"l", fields)


def write_array(encoder: Encoder, value: array.array) -> None:
    encoder.text(b"a", value.typecode)
    write_bytes(encoder, value.tobytes())


def write_numpy_scalar(encoder: Encoder, value: object) -> None:
    if value.dtype.kind not in ARRAY_KINDS or value.dtype.fields:
        encoder.parts.append(encoder.foreign(value))
        return
    encoder.text(b"g", value.dtype.str)
    write_bytes(encoder, value.tobytes())


def write_numpy_array(encoder: Encoder, value: object) -> None:
    base = loaded_numpy().ndarray
    value = value if type(value) is base else base.view(value, base)
    if value.dtype.kind == "O":
        if encoder.begin(value):
            encoder.parts.append(b"o")
            write_sequence(encoder, value.shape, b"t")
            write_sequence(encoder, list(value.ravel()), b"t")
    elif value.dtype.kind not in ARRAY_KINDS or value.dtype.fields:
        encoder.parts.append(encoder.foreign(value))
    elif encoder.begin(value):
        encoder.text(b"n", value.dtype.str)
        write_sequence(encoder, value.shape, b"t")
        write_bytes(encoder, value.tobytes())


WRITERS: dict[type, Callable[[Encoder, object], None]] = {
    type(None): write_none,
    bool: write_bool,
    int: write_int,
    float: write_float,
    complex: write_complex,
    str: write_text,
    bytes: write_bytes,
    bytearray: write_bytearray,
    list: write_list,
    tuple: write_tuple,
    dict: write_dict,
    collections.OrderedDict: write_dict,
    collections.Counter: write_dict,
    collections.defaultdict: write_dict,
    set: write_set,
    frozenset: write_frozenset,
    range: write_range,
    slice: write_slice,
    collections.deque: write_deque,
    KEYS: write_view,
    VALUES: write_view,
    ITEMS: write_view,
    decimal.Decimal: write_decimal,
    fractions.Fraction: write_fraction,
    datetime.date: write_date,
    datetime.datetime: write_date,
    datetime.time: write_date,
    datetime.timedelta: write_date,
    array.array: write_array,
    types.FunctionType: write_foreign,
}

# how a subclass loses what it adds: through methods of the base, which it cannot override
REDUCTIONS = (
    (int, write_int, int.__int__),
    (float, write_float, float.__float__),
    (str, write_text, str.__str__),
    (bytes, write_bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (bytearray, write_bytearray, lambda value: value),
    (list, write_list, lambda value: value),
    (tuple, write_tuple, lambda value: tuple(tuple.__iter__(value))),
    (dict, write_dict, lambda value: value),
    (set, write_set, lambda value: value),
    (frozenset, write_frozenset, lambda value: value),
    (collections.deque, write_deque, lambda value: value),
    (decimal.Decimal, write_decimal, lambda value: value),
)

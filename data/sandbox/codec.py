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

import array
import builtins
import collections
import datetime
import decimal
import fractions
import struct
import sys
import types
from collections.abc import Callable

MAX_DEPTH = 4000
MAX_BYTES = 64 << 20
COUNT = struct.Struct("<I")
INT64 = struct.Struct("<q")
FLOAT = struct.Struct("<d")
COMPLEX = struct.Struct("<dd")
SMALL_INT_MIN, SMALL_INT_MAX = -(1 << 63), (1 << 63) - 1
KEYS, VALUES, ITEMS = type({}.keys()), type({}.values()), type({}.items())
NAMED_TYPES = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and value.__module__ == "builtins" and not name.startswith("_")
} | {"NoneType": type(None)}
TYPE_NAMES = {value: name for name, value in reversed(NAMED_TYPES.items())}
SINGLETONS = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}
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


class Encoder:
    """One message. With `track`, mutable containers are numbered in `mutables` and repeated ones become
    references."""

    def __init__(
        self,
        foreign: Callable[[object], bytes],
        *,
        track: bool = False,
        known: dict[int, int] | None = None,
    ) -> None:
        self.parts: list[bytes] = []
        self.foreign = foreign
        self.track = track
        self.known = dict(known) if known else {}  # id of a mutable container -> its number
        self.mutables: list[object] = []
        self.depth = 0

    def bytes(self) -> bytes:
        data = b"".join(self.parts)
        if len(data) > MAX_BYTES:
            raise CodecError(f"a value of {len(data)} bytes; {MAX_BYTES} is the limit")
        return data

    def encode(self, value: object) -> None:
        writer = WRITERS.get(type(value))
        if writer is not None:
            writer(self, value)
        else:
            self.encode_unusual(value)

    def encode_unusual(self, value: object) -> None:
        """Subclasses of plain types, and the rest."""
        kind = type(value)
        if kind is type or issubclass(kind, type):
            name = TYPE_NAMES.get(value) if kind is type else None
            if name:
                self.text(b"x", name)
            else:
                self.parts.append(self.foreign(value))
        elif id(value) in SINGLETON_NAMES:
            self.text(b"e", SINGLETON_NAMES[id(value)])
        elif (numpy := loaded_numpy()) is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
            write = write_numpy_scalar if isinstance(value, numpy.generic) else write_numpy_array
            write(self, value)
        elif issubclass(kind, tuple) and is_named_tuple(kind):
            self.parts.append(b"u")
            write_text(self, kind.__name__)
            write_tuple(self, tuple(tuple.__iter__(value)))
            write_tuple(self, tuple(kind._fields))
        else:
            for base, writer, plain in REDUCTIONS:
                if issubclass(kind, base):
                    writer(self, plain(value))
                    return
            self.parts.append(self.foreign(value))

    def text(self, tag: bytes, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self.parts += (tag, COUNT.pack(len(data)), data)

    def begin(self, value: object) -> bool:
        """Enter a mutable container; False when a reference to an earlier one was written instead."""
        number = self.known.get(id(value))
        if number is not None:
            self.parts += (b"A", COUNT.pack(number))
            return False
        if self.track:
            self.known[id(value)] = len(self.mutables)
            self.mutables.append(value)
        return True

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise CodecError(f"a value nested deeper than {MAX_DEPTH}")


def is_named_tuple(kind: type) -> bool:
    fields = getattr(kind, "_fields", None)
    return type(fields) is tuple and all(type(name) is str for name in fields)


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
    encoder.parts.append(b"f" + FLOAT.pack(value))


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
    encode = encoder.encode
    for item in items:
        encode(item)
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
    for key, item in dict.items(value):
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
        value.default_factory is None or value.default_factory in TYPE_NAMES
    ):
        encoder.parts.append(b"D")
        encoder.encode(value.default_factory)
    else:
        encoder.parts.append(b"d")
    encoder.parts.append(COUNT.pack(dict.__len__(value)))
    write_pairs(encoder, value)


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
    if value.dtype.kind == "O" and value.ndim:
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


class Decoder:
    """One message. `foreign(tag, number)` supplies what `Encoder.foreign` referred to.

    With `track`, mutable containers are collected in `mutables` in the encoder's order; `known` resolves
    references to containers of an earlier message.
    """

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        foreign: Callable[["Decoder"], object],
        *,
        track: bool = False,
        known: list[object] | None = None,
    ) -> None:
        self.data = data if type(data) is bytes else bytes(data)
        self.at = 0
        self.foreign = foreign
        self.track = track
        self.mutables: list[object] = known if known is not None else []
        self.depth = 0

    def decode(self) -> object:
        """The next value. Anything wrong with the bytes is a CodecError."""
        try:
            return self.value()
        except (CodecError, MemoryError):
            raise
        except Exception as error:
            raise CodecError(f"undecodable value: {type(error).__name__}") from None

    def value(self) -> object:
        at = self.at
        self.at = at + 1
        return READERS[self.data[at : at + 1]](self)

    def count(self) -> int:
        (number,) = COUNT.unpack_from(self.data, self.at)
        self.at += 4
        return number

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise CodecError("a value longer than its message")
        data = self.data[self.at : end]
        self.at = end
        return data

    def text(self) -> str:
        return self.take(self.count()).decode("utf-8", "surrogatepass")

    def items(self) -> list:
        count = self.count()
        if count > len(self.data) - self.at:
            raise CodecError("more items than bytes")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise CodecError(f"a value nested deeper than {MAX_DEPTH}")
        value = self.value
        found = [value() for _ in range(count)]
        self.depth -= 1
        return found

    def collect(self, container: object) -> object:
        if self.track:
            self.mutables.append(container)
        return container

    def fill_dict(self, container: dict) -> dict:
        self.collect(container)
        count = self.count()
        self.depth += 1
        if self.depth > MAX_DEPTH or count > len(self.data) - self.at:
            raise CodecError("a dictionary too deep or too long")
        for _ in range(count):
            key = self.value()
            container[key] = self.value()
        self.depth -= 1
        return container


def read_list(decoder: Decoder) -> list:
    container = decoder.collect([])
    container += decoder.items()
    return container


def read_set(decoder: Decoder) -> set:
    container = decoder.collect(set())
    container.update(decoder.items())
    return container


def read_deque(decoder: Decoder) -> collections.deque:
    number = len(decoder.mutables)
    decoder.collect(None)
    maxlen, *items = decoder.items()
    container = collections.deque(items, maxlen)
    if decoder.track:
        decoder.mutables[number] = container
    return container


def read_packed(decoder: Decoder, code: str) -> list | tuple:
    mark = decoder.take(1)
    number = len(decoder.mutables)
    if mark == b"l":
        decoder.collect(None)
    count = decoder.count()
    if code == "I":
        lengths = struct.unpack(f"<{count}I", decoder.take(4 * count))
        text = decoder.text()
        if sum(lengths) != len(text):
            raise CodecError("packed strings of another length")
        items, at = [], 0
        for length in lengths:
            items.append(text[at : at + length])
            at += length
    else:
        items = struct.unpack(f"<{count}{code}", decoder.take(8 * count))
    if mark == b"t":
        return tuple(items)
    container = list(items)
    if decoder.track:
        decoder.mutables[number] = container
    return container


def read_view(decoder: Decoder, tag: str) -> object:
    items = decoder.value()
    if tag == "k":
        return dict.fromkeys(items).keys()
    if tag == "v":
        return dict(enumerate(items)).values()
    return dict(items).items()


def read_defaultdict(decoder: Decoder) -> collections.defaultdict:
    factory = decoder.value()
    return decoder.fill_dict(collections.defaultdict(factory))


def read_date(decoder: Decoder) -> object:
    name, fields = decoder.text(), decoder.value()
    if name in ("time", "datetime"):
        *fields, fold, offset = fields
        zone = None if offset is None else datetime.timezone(datetime.timedelta(microseconds=offset))
        return {"time": datetime.time, "datetime": datetime.datetime}[name](*fields, tzinfo=zone, fold=fold)
    return {"date": datetime.date, "timedelta": datetime.timedelta}[name](*fields)


def read_named_tuple(decoder: Decoder) -> tuple:
    name, items, fields = decoder.value(), decoder.value(), decoder.value()
    if len(items) != len(fields) or len(fields) > 1000:
        return items
    return collections.namedtuple(name, fields, rename=True)._make(items)


def read_fraction(decoder: Decoder) -> fractions.Fraction:
    return fractions.Fraction(*decoder.items())


def numpy_type(text: str) -> object:
    found = imported_numpy().dtype(text)
    if found.kind not in ARRAY_KINDS or found.fields or found.hasobject:
        raise CodecError("an array of an unknown kind")
    return found


def read_numpy_scalar(decoder: Decoder) -> object:
    kind = numpy_type(decoder.text())
    return imported_numpy().frombuffer(decoder.value(), kind)[0]


def read_numpy_array(decoder: Decoder) -> object:
    kind, shape, data = numpy_type(decoder.text()), decoder.value(), decoder.value()
    numpy = imported_numpy()
    return decoder.collect(
        (numpy.frombuffer(data, kind) if kind.itemsize and data else numpy.zeros(0, kind))
        .reshape(shape)
        .copy()
    )


def read_object_array(decoder: Decoder) -> object:
    number = len(decoder.mutables)
    decoder.collect(None)
    shape, items = decoder.value(), decoder.value()
    container = imported_numpy().empty(len(items), dtype=object)
    for index, item in enumerate(items):
        container[index] = item
    container = container.reshape(shape)
    if decoder.track:
        decoder.mutables[number] = container
    return container


def read_array(decoder: Decoder) -> array.array:
    return array.array(decoder.text(), decoder.value())


READERS: dict[bytes, Callable[[Decoder], object]] = {
    b"N": lambda decoder: None,
    b"T": lambda decoder: True,
    b"F": lambda decoder: False,
    b"i": lambda decoder: INT64.unpack(decoder.take(8))[0],
    b"I": lambda decoder: int(decoder.text(), 16),
    b"f": lambda decoder: FLOAT.unpack(decoder.take(8))[0],
    b"c": lambda decoder: complex(*COMPLEX.unpack(decoder.take(16))),
    b"s": Decoder.text,
    b"b": lambda decoder: decoder.take(decoder.count()),
    b"B": lambda decoder: decoder.collect(bytearray(decoder.take(decoder.count()))),
    b"l": read_list,
    b"t": lambda decoder: tuple(decoder.items()),
    b"P": lambda decoder: read_packed(decoder, "q"),
    b"Q": lambda decoder: read_packed(decoder, "d"),
    b"Z": lambda decoder: read_packed(decoder, "I"),
    b"d": lambda decoder: decoder.fill_dict({}),
    b"O": lambda decoder: decoder.fill_dict(collections.OrderedDict()),
    b"C": lambda decoder: decoder.fill_dict(collections.Counter()),
    b"D": read_defaultdict,
    b"S": read_set,
    b"z": lambda decoder: frozenset(decoder.items()),
    b"r": lambda decoder: range(*decoder.items()),
    b"p": lambda decoder: slice(*decoder.items()),
    b"q": read_deque,
    b"k": lambda decoder: read_view(decoder, "k"),
    b"v": lambda decoder: read_view(decoder, "v"),
    b"w": lambda decoder: read_view(decoder, "w"),
    b"m": lambda decoder: decimal.Decimal(decoder.text()),
    b"R": read_fraction,
    b"y": read_date,
    b"u": read_named_tuple,
    b"a": read_array,
    b"g": read_numpy_scalar,
    b"n": read_numpy_array,
    b"o": read_object_array,
    b"x": lambda decoder: NAMED_TYPES[decoder.text()],
    b"e": lambda decoder: SINGLETONS[decoder.text()],
    b"A": lambda decoder: decoder.mutables[decoder.count()],
    b"H": lambda decoder: decoder.foreign(decoder),
}

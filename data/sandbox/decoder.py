"""Bytes to values: one reader for each tag of codec.py. Bytes may come from an enemy."""

import array
import collections
import datetime
import decimal
import enum
import fractions
import struct
import types
from collections.abc import Callable

from data.sandbox.codec import (
    ARRAY_KINDS,
    COMPLEX,
    COUNT,
    FLOAT,
    INT64,
    MAX_DEPTH,
    MAX_VALUES,
    NAMED_TYPES,
    NOTHING,
    SINGLETONS,
    CodecError,
    imported_numpy,
)
from data.sandbox.extension import extend
from data.sandbox.library import FUNCTIONS, make
from data.sandbox.sharing import Shared, set_state

SET_COSTS, DEQUE_COSTS = 4, 12  # memory of an empty one, in small values
HANDLE_COSTS, EXCEPTION_COSTS, CLASS_COSTS = 10, 100, 1000  # time to make one, likewise


class Decoder:
    """One message. `foreign(decoder)` supplies what `Encoder.foreign` referred to; `shared`, `classes` and
    `rebuild` (for exceptions) are those of the conversation."""

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        foreign: Callable[["Decoder"], object],
        shared: Shared | None = None,
        classes: dict[str, type] | None = None,
        rebuild: Callable[..., BaseException] | None = None,
    ) -> None:
        self.data = data if type(data) is bytes else bytes(data)
        self.at = 0
        self.foreign = foreign
        self.shared = shared or Shared()
        self.classes = classes or {}
        self.rebuild = rebuild
        self.depth = 0
        self.left = MAX_VALUES
        self.named_tuples: dict[tuple, type] = {}
        self.extensions: set[tuple] = set()

    def decode(self) -> object:
        """The next value. Anything wrong with the bytes is a CodecError."""
        try:
            return self.value()
        except (CodecError, MemoryError):
            raise
        except Exception as error:
            raise CodecError(f"undecodable value: {type(error).__name__}") from None

    def decode_both(self) -> tuple[object, object]:
        """The next two values; the second is mostly an empty tuple."""
        return self.decode(), () if self.skip_nothing() else self.decode()

    def skip_nothing(self) -> bool:
        """Whether an empty tuple came next; if so, it has been read."""
        found = self.data.startswith(NOTHING, self.at)
        if found:
            self.at += len(NOTHING)
        return found

    def value(self) -> object:
        at = self.at
        self.at = at + 1
        return READERS[self.data[at]](self)

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
        (size,) = COUNT.unpack_from(self.data, self.at)
        start = self.at + 4
        self.at = end = start + size
        if end > len(self.data):
            raise CodecError("a value longer than its message")
        return self.data[start:end].decode("utf-8", "surrogatepass")

    def items(self) -> list:
        (count,) = COUNT.unpack_from(self.data, self.at)
        self.at += 4
        if count > len(self.data) - self.at:
            raise CodecError("more items than bytes")
        self.expect(count)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise CodecError(f"a value nested deeper than {MAX_DEPTH}")
        data, found = self.data, []
        for _ in range(count):
            at = self.at
            self.at = at + 1
            found.append(READERS[data[at]](self))
        self.depth -= 1
        return found

    def expect(self, count: int) -> None:
        """So many values follow one by one: bounded, since each costs far more here than in the message."""
        self.left -= count
        if self.left < 0:
            raise CodecError(f"a message of more than {MAX_VALUES} values")

    def collect(self, container: object) -> object:
        self.shared.add(container)
        return container

    def fill_dict(self, container: dict) -> dict:
        self.collect(container)
        self.pairs(container)
        return container

    def pairs(self, container: dict | None = None) -> dict:
        """Keys and items into `container`."""
        container = {} if container is None else container
        count = self.count()
        self.depth += 1
        if self.depth > MAX_DEPTH or count > len(self.data) - self.at:
            raise CodecError("a dictionary too deep or too long")
        self.expect(2 * count)
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
    decoder.expect(SET_COSTS)
    container = decoder.collect(set())
    container.update(decoder.items())
    return container


def read_deque(decoder: Decoder) -> collections.deque:
    decoder.expect(DEQUE_COSTS)
    number = decoder.shared.reserve()
    maxlen, *items = decoder.items()
    container = collections.deque(items, maxlen)
    decoder.shared.fill(number, container)
    return container


def read_packed(decoder: Decoder, code: str) -> list | tuple:
    mark = decoder.take(1)
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
    return tuple(items) if mark == b"t" else decoder.collect(list(items))


def read_reference(decoder: Decoder) -> object:
    decoder.shared.references_read += 1
    return decoder.shared.objects[decoder.count()]


def read_exception(decoder: Decoder) -> BaseException:
    decoder.depth += 1
    decoder.expect(EXCEPTION_COSTS)
    if decoder.depth > MAX_DEPTH or decoder.rebuild is None:
        raise CodecError("an exception where none can be")
    parts = [decoder.value() for _ in range(6)]
    decoder.depth -= 1
    return decoder.rebuild(*parts)


def read_instance(decoder: Decoder) -> object:
    kind = decoder.classes[decoder.text()]
    if issubclass(kind, enum.Enum) or kind.__new__ not in (object.__new__, types.SimpleNamespace.__new__):
        raise CodecError("an object of a class that makes its own")
    container = decoder.collect(kind.__new__(kind))
    set_state(container, decoder.pairs())
    return container


def read_member(decoder: Decoder) -> object:
    kind = decoder.classes[decoder.text()]
    name = decoder.value()
    return type.__getattribute__(kind, "__members__")[name] if issubclass(kind, enum.Enum) else None


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
    kind = decoder.classes.get(name)
    if kind is not None and issubclass(kind, tuple) and kind._fields == fields:
        return tuple.__new__(kind, items)
    if len(items) != len(fields) or len(fields) > 1000:
        return items
    made = decoder.named_tuples
    if (name, fields) not in made:
        decoder.expect(CLASS_COSTS)
        made[name, fields] = collections.namedtuple(name, fields, rename=True)
    return made[name, fields]._make(items)


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
    number = decoder.shared.reserve()
    shape, items = decoder.value(), decoder.value()
    container = imported_numpy().empty(len(items), dtype=object)
    for index, item in enumerate(items):
        container[index] = item
    container = container.reshape(shape)
    decoder.shared.fill(number, container)
    return container


def read_handle(decoder: Decoder) -> object:
    decoder.expect(HANDLE_COSTS)
    return decoder.foreign(decoder)


def read_extension(decoder: Decoder) -> object:
    handle, names, plain = decoder.value(), decoder.value(), decoder.value()
    if (type(plain), names) not in decoder.extensions:
        decoder.expect(CLASS_COSTS)
        decoder.extensions.add((type(plain), names))
    return extend(plain, handle, names, decoder.shared)


def read_array(decoder: Decoder) -> array.array:
    return array.array(decoder.text(), decoder.value())


def read_int(decoder: Decoder) -> int:
    (number,) = INT64.unpack_from(decoder.data, decoder.at)
    decoder.at += 8
    return number


def read_float(decoder: Decoder) -> float:
    (number,) = FLOAT.unpack_from(decoder.data, decoder.at)
    decoder.at += 8
    return number


TAGS: dict[bytes, Callable[[Decoder], object]] = {
    b"N": lambda decoder: None,
    b"T": lambda decoder: True,
    b"F": lambda decoder: False,
    b"i": read_int,
    b"I": lambda decoder: int(decoder.text(), 16),
    b"f": read_float,
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
    b"A": read_reference,
    b"Y": lambda decoder: decoder.collect(FLOAT.unpack(decoder.take(8))[0]),
    b"E": read_exception,
    b"J": lambda decoder: make(decoder.text(), decoder.value()),
    b"K": read_instance,
    b"G": read_member,
    b"L": lambda decoder: FUNCTIONS[decoder.text()],
    b"H": read_handle,
    b"X": read_extension,
}
READERS = {tag[0]: reader for tag, reader in TAGS.items()}

# ruff: noqa: E501 - tables of values
"""The codec is exact for plain data, and decoding runs nothing and refuses everything else."""

import array
import collections
import datetime
import enum
import ipaddress
import math
import operator
import pathlib
import random
import re
import time
import types
import uuid
from decimal import Decimal
from fractions import Fraction

import pytest

from data.sandbox.codec import CodecError
from data.sandbox.decoder import Decoder
from data.sandbox.encoder import Encoder
from data.sandbox.library import FUNCTIONS
from data.sandbox.peer import with_recursion
from data.sandbox.sharing import Shared

ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
PLAIN = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, -(2**70), 7**5000, 0.1, -0.0, math.inf, -math.inf,
    1j, complex(-0.0, math.inf), "", "a\ud800\udc80ü\0", b"", b"\0\xff", bytearray(b"x"), [], (), {}, set(),
    frozenset(), [1, 2, 3] * 5, [0.5] * 9, ["a", "\ud800", ""] * 4, tuple(range(10)), [2**63] * 9, [True] * 9,
    [1, 1.0, True] * 4, [[1, [2, [3]]]], {(1, 2): {frozenset([3]): None}}, {1, "a", None, (2,)}, range(3, 99, 7),
    slice(1, None, 2), collections.deque([1, [2]], 5), collections.Counter("aab"),
    collections.OrderedDict([("b", 1), ("a", 2)]), collections.defaultdict(list, {"x": [1]}),
    collections.defaultdict(None, {1: 2}), Decimal("1.100"), Decimal("-0"), Fraction(-1, 3), datetime.date(1, 1, 1),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4, ZONE), datetime.time(1, 2, fold=1), datetime.timedelta(-1, 2, 3),
    array.array("d", [1.5]), int, ValueError, type(None), Ellipsis, NotImplemented, {"k": 1}.keys(), {1: [2]}.items(),
    uuid.UUID(int=7), pathlib.PurePosixPath("a/b"), ipaddress.ip_address("::1"), ZONE, time.gmtime(0),
    types.MappingProxyType({1: [2]}), re.compile("a+", re.I), len, math.sqrt, operator.add, str.upper,
]  # fmt: skip


def refuse(value: object) -> bytes:
    raise TypeError(type(value).__name__)


def encoded(value: object, **options: object) -> bytes:
    encoder = Encoder(refuse, **options)
    with_recursion(encoder.encode, value)
    return encoder.bytes()


def decoded(data: bytes, **options: object) -> object:
    return with_recursion(Decoder(data, refuse, **options).decode)


def round_trip(value: object) -> object:
    return decoded(encoded(value))


@pytest.mark.parametrize(  # named by their type: how a set is written differs between processes
    "value", PLAIN, ids=lambda value: type(value).__name__
)
def test_plain_data_comes_back_equal_and_of_the_same_type(value):
    found = round_trip(value)
    assert found == value
    assert type(found) is type(value)
    if not isinstance(value, (set, frozenset)):  # their order may differ
        assert repr(found) == repr(value)


def test_what_equality_does_not_see():
    assert math.isnan(round_trip(math.nan))
    assert math.copysign(1, round_trip(-0.0)) == -1
    assert round_trip(collections.deque([1], 5)).maxlen == 5
    assert list(round_trip({1: [2]}.values())) == [[2]]
    assert round_trip(collections.defaultdict(list)).default_factory is list


def test_subclasses_are_reduced_past_their_own_methods():
    class Liar(int):
        def __int__(self):
            return 42

        __index__ = __repr__ = __str__ = __int__

    class List(list):
        def __iter__(self):
            return iter([42])

        def __len__(self):
            return 42

    class Text(str):
        def __str__(self):
            return "42"

        def encode(self, *arguments):
            return b"42"

    class Mapping(dict):
        def items(self):
            return [(42, 42)]

    class Colour(enum.IntEnum):
        RED = 7

    for value, plain in (
        (Liar(1), 1),
        (List([1]), [1]),
        (Text("1"), "1"),
        (Mapping({1: 2}), {1: 2}),
        (Colour.RED, 7),
    ):
        found = round_trip(value)
        assert found == plain
        assert type(found) is type(plain)


def test_a_named_tuple_keeps_its_names():
    found = round_trip(collections.namedtuple("Point", "x y")(1, 2))
    assert found == (1, 2)
    assert (found.x, found.y, type(found).__name__) == (1, 2, "Point")


def test_objects_of_shared_classes_cross_by_their_attributes():
    class Point:
        __slots__ = ("x", "__dict__")

        def total(self):
            return self.x + self.y

    point = Point()
    point.x, point.y, point.total = 1, [2], 77
    found = decoded(encoded([point, point], class_names={Point: "P"}), classes={"P": Point})[0]
    assert (type(found), found.x, found.y) == (Point, 1, [2])
    assert callable(found.total)  # a method is never replaced
    assert "total" not in vars(found)
    space = types.SimpleNamespace(a=1)
    kind = types.SimpleNamespace
    assert decoded(encoded(space, class_names={kind: "N"}), classes={"N": kind}) == space


def test_not_a_number_keeps_its_identity():
    value = float("nan")
    found = decoded(encoded([value, value, math.nan, float("nan")], shared=Shared()))
    assert found[0] is found[1]
    assert found[2] is math.nan
    assert found[3] is not found[0]
    assert all(map(math.isnan, decoded(encoded([value] * 9))))


def test_no_path_that_could_be_opened_is_made():
    assert type(round_trip(pathlib.PosixPath("/etc/passwd"))) is pathlib.PurePosixPath


def test_functions_that_cross_by_name_have_no_effects():
    assert not {
        "eval",
        "exec",
        "open",
        "print",
        "setattr",
        "getattr",
        "operator.setitem",
        "operator.iadd",
    } & set(FUNCTIONS)
    assert all(callable(function) for function in FUNCTIONS.values())


def test_deep_values():
    value = []
    for _ in range(1500):
        value = [value]
    found = round_trip(value)
    depth = 0
    while found:
        found, depth = found[0], depth + 1
    assert depth == 1500


def test_what_is_too_deep_or_too_large_is_refused():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises((CodecError, RecursionError)):
        encoded(value)
    with pytest.raises(CodecError):
        encoded(b"x" * (65 << 20))
    while value:
        value = value.pop()  # a deep list is freed recursively


def test_containers_keep_their_identity_in_one_message():
    inner = [1]
    value = [inner, inner, {"a": inner}]
    value.append(value)
    found = decoded(encoded(value, shared=Shared()))
    assert found[0] is found[1] is found[2]["a"]
    assert found[3] is found


def test_numpy_values():
    numpy = pytest.importorskip("numpy", reason="NumPy is optional")
    for value in (
        numpy.arange(6, dtype="int16").reshape(2, 3),
        numpy.array([[True, False]]),
        numpy.zeros((0, 3)),
        numpy.array(1.5),
        numpy.array(["a", "bc"]),
        numpy.array([1, "a", None], dtype=object),
        numpy.array(["2024-01-01"], dtype="datetime64[D]"),
        numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
    ):
        found = round_trip(value)
        assert found.dtype == value.dtype
        assert found.shape == value.shape
        assert (found == value).all()
        assert found.flags.writeable
    for value in (
        numpy.int64(-3),
        numpy.float32(0.1),
        numpy.bool_(True),
        numpy.str_("x"),
        numpy.complex64(1j),
    ):
        found = round_trip(value)
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"?", b"i\0", b"s\xff\xff\xff\xff", b"l\xff\xff\xff\x7f", b"I\2\0\0\0zz", b"d\1\0\0\0l\0\0\0\0N", b"x\2\0\0\0os",
        b"x\4\0\0\0exec", b"H", b"A\0\0\0\0", b"l\1\0\0\0" * 100_000, b"P?\1\0\0\0", b"Zl\1\0\0\0\xff\0\0\0\1\0\0\0a",
        b"n\2\0\0\0|Ot\1\0\0\0i\1\0\0\0\0\0\0\0b\x08\0\0\0AAAAAAAA", b"n\3\0\0\0<f8t\1\0\0\0i\xff\0\0\0\0\0\0\0b\0\0\0\0",
        b"a\1\0\0\0qb\1\0\0\0x", b"m\1\0\0\0x", b"RNN", b"y\1\0\0\0xl\0\0\0\0", b"s\1\0\0\0\xff",
    ],
)  # fmt: skip
def test_broken_bytes_are_a_codec_error(data):
    with pytest.raises(CodecError):
        decoded(data)


def test_random_damage_is_a_codec_error_or_a_value():
    random.seed(0)
    whole = encoded([value for value in PLAIN if type(value) is not range])
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        try:
            decoded(bytes(damaged[: random.randint(1, len(damaged))]))
        except CodecError:
            pass
        except MemoryError:
            pass

"""The conversation between tests and program: requests that may nest, answers, and arguments changed in
place.

Both sides run the same class. What differs: the transport (the judge's keeps a clock and stops the
program), and `operate`, which says what the other side may do with an object of ours. The program's side
allows everything; the judge's allows only to call what the tests handed over.

A request is C, the operation's name, the object's number, the operands. An answer is R and a value, or E
and an exception as (class names, message, arguments); then what happened to the mutable operands.
"""

import collections
import contextlib
import copy
import inspect
import operator
import struct
import sys
import types
from collections.abc import Callable

from data.sandbox.codec import NAMED_TYPES, CodecError, loaded_numpy
from data.sandbox.decoder import Decoder
from data.sandbox.encoder import Encoder
from data.sandbox.remote import KINDS

NUMBER = struct.Struct("<I")
CODEC_RECURSION = 40_000
LONGEST_LABEL, MOST_BASES = 250, 8
ENDS_A_LOOP = (StopIteration, StopAsyncIteration, GeneratorExit)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.BuiltinMethodType)


class Stopped(BaseException):
    """The program is over: no test may catch this and go on."""


class Peer:
    """One end. `send(payload)` and `receive() -> payload` are whole frames."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        receive: Callable[[], bytes],
        operate: Callable[..., object],
    ) -> None:
        self.send, self.receive, self.operate = send, receive, operate
        self.objects: list[object] = []  # ours that the other side may name
        self.numbers: dict[int, int] = {}
        self.remotes: dict[int, object] = {}  # theirs that we hold
        self.remote_numbers: dict[int, int] = {}
        self.exception_classes: dict[tuple[str, ...], type] = {}
        self.raised: list[BaseException] = []  # exceptions that came from the other side

    # references

    def refer(self, value: object) -> bytes:
        """Encode an object by its number: one of theirs, or one of ours, new or known."""
        number = self.remote_numbers.get(id(value))
        if number is not None:
            return b"HT" + NUMBER.pack(number)
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        kind = kind_of(value).encode()
        if kind == b"x":
            label = ",".join(class_names(value))
        else:
            label = getattr(value, "__name__", None) or type(value).__name__
        label = label.encode("utf-8", "replace")[:LONGEST_LABEL] if type(label) is str else b"?"
        return b"HO" + NUMBER.pack(number) + kind + bytes([len(label)]) + label

    def resolve(self, decoder: Decoder) -> object:
        """Decode what the other side's `refer` wrote: its T is ours, its O is a remote object."""
        ours = decoder.take(1) == b"T"
        (number,) = NUMBER.unpack(decoder.take(4))
        if ours:
            return self.objects[number]
        kind = decoder.take(1).decode()
        label = decoder.take(decoder.take(1)[0]).decode("utf-8", "replace")
        remote = self.remotes.get(number)
        if remote is None:
            if kind == "x":
                remote = self.exception_class(tuple(label.split(",")))
            else:
                remote = KINDS[kind](self.request, number, label)
            self.remotes[number] = remote
            self.remote_numbers[id(remote)] = number
        return remote

    # asking

    def request(self, operation: str, number: int, *operands: object) -> object:
        """Have the other side do something with one of its objects; serve what it asks meanwhile."""
        encoder = Encoder(self.refer, track=True)
        encode(encoder, operands)
        name = operation.encode()
        self.send(b"C" + bytes([len(name)]) + name + NUMBER.pack(number) + encoder.bytes())
        return self.await_answer(encoder.mutables)

    def await_answer(self, mutables: list[object]) -> object:
        while True:
            payload = self.receive()
            tag = payload[:1]
            if tag == b"C":
                self.serve(payload)
                continue
            decoder = Decoder(payload, self.resolve, known=mutables)
            decoder.at = 1
            answer = decode(decoder)
            apply_changes(decode(decoder), mutables)
            if tag == b"R":
                return answer
            if tag == b"E":
                error = self.rebuild_exception(*answer)
                self.raised.append(error)
                raise error
            raise CodecError("neither a request nor an answer")

    def exception_class(self, names: tuple[str, ...]) -> type:
        """The class that stands here for one of the other side: its builtin base, or a subclass named alike.

        An exception that ends a loop in the caller becomes a RuntimeError, as in a generator (PEP 479):
        else a program could cut `zip(map(candidate, inputs), expected)` short and pass.
        """
        name, *bases = names
        found = NAMED_TYPES.get(name)
        if found is not None and issubclass(found, BaseException):
            return RuntimeError if issubclass(found, ENDS_A_LOOP) else found
        if names not in self.exception_classes:
            base = self.exception_class(tuple(bases)) if bases else Exception
            self.exception_classes[names] = type(name, (base,), {"__module__": "solution"})
        return self.exception_classes[names]

    def rebuild_exception(
        self, names: tuple[str, ...], message: str, arguments: tuple | None, attributes: dict
    ) -> BaseException:
        """An exception like the other side's; `sandbox_kind` is the name of its class there."""
        kind = self.exception_class(names[:MOST_BASES])
        try:
            error = kind(*arguments) if arguments is not None else kind(message)
        except Exception:
            error = Exception(message)
        for name, value in attributes.items():
            if not name.startswith("_") and not hasattr(error, name):
                setattr(error, name, value)
        error.sandbox_kind = names[0]
        return error

    # serving

    def serve(self, payload: bytes) -> None:
        decoder = Decoder(payload, self.resolve, track=True)
        decoder.at = 1
        try:
            operation = decoder.take(decoder.take(1)[0]).decode()
            target = self.objects[NUMBER.unpack(decoder.take(4))[0]]
        except (IndexError, ValueError) as error:
            raise CodecError(f"a malformed request: {error}") from None
        operands = decode(decoder)
        mutables = decoder.mutables
        before = [contents(value) for value in mutables]
        try:
            result = self.operate(target, operation, operands)
            reply = self.answer(b"R", result, mutables, before)
        except Stopped:
            raise
        except BaseException as error:
            reply = self.answer(b"E", describe(error), mutables, before)
        self.send(reply)

    def answer(self, tag: bytes, value: object, mutables: list, before: list) -> bytes:
        known = {id(item): index for index, item in enumerate(mutables)}
        encoder = Encoder(self.refer, known=known)
        encoder.parts.append(tag)
        encode(encoder, value)
        changed = []
        for index, item in enumerate(mutables):
            now = contents(item)
            if not same_contents(before[index], now):
                changed.append((index, now))
        encode(encoder, changed)
        return encoder.bytes()


def encode(encoder: Encoder, value: object) -> None:
    with_recursion(encoder.encode, value)


def decode(decoder: Decoder) -> object:
    return with_recursion(decoder.decode)


get_recursion_limit, set_recursion_limit = sys.getrecursionlimit, sys.setrecursionlimit


def with_recursion(function: Callable, *arguments: object) -> object:
    """Run the codec with room for deep values, whatever limit the program has set."""
    limit = get_recursion_limit()
    set_recursion_limit(CODEC_RECURSION)
    try:
        return function(*arguments)
    finally:
        with contextlib.suppress(RecursionError):  # we may stand deeper than the program's own limit allows
            set_recursion_limit(limit)


def kind_of(value: object) -> str:
    """The letter of remote.KINDS that stands for this object on the other side."""
    if isinstance(value, FUNCTIONS):
        return "f"
    if inspect.isgenerator(value):
        return "g"
    if inspect.iscoroutine(value):
        return "a"
    if inspect.isasyncgen(value):
        return "y"
    if isinstance(value, type) and issubclass(value, BaseException):
        return "x"
    if callable(value):
        return "c"
    return "i" if hasattr(type(value), "__next__") else "o"


def contents(container: object) -> tuple | bytes:
    """What a mutable container holds now, to be compared by identity (bytes: by value)."""
    if isinstance(container, dict):
        return (*dict.keys(container), *dict.values(container))
    if isinstance(container, bytearray):
        return bytes(container)
    numpy = loaded_numpy()
    if numpy is not None and isinstance(container, numpy.ndarray):
        if container.dtype.kind == "O":
            return tuple(container.ravel())
        return container.tobytes()
    return tuple(container)


def same_contents(before: tuple | bytes, now: tuple | bytes) -> bool:
    if type(before) is bytes:
        return before == now
    return len(before) == len(now) and all(map(operator.is_, before, now))


def apply_changes(changes: list[tuple[int, object]], mutables: list[object]) -> None:
    """Carry over what the other side did to the containers of a request; CodecError when that is no such
    thing."""
    try:
        for number, new in changes:
            replace_contents(mutables[operator.index(number)], new)
    except (MemoryError, CodecError):
        raise
    except Exception as error:
        raise CodecError(f"a malformed change: {type(error).__name__}") from None


def replace_contents(container: object, new: tuple | bytes) -> None:
    """Make our container hold what the other side's copy holds."""
    if isinstance(container, list):
        container[:] = new
    elif isinstance(container, dict):
        half = len(new) // 2
        container.clear()
        container.update(zip(new[:half], new[half:], strict=True))
    elif isinstance(container, (set, collections.deque)):
        container.clear()
        (container.update if isinstance(container, set) else container.extend)(new)
    elif isinstance(container, bytearray):
        container[:] = new
    elif type(new) is bytes:
        container[...] = loaded_numpy().frombuffer(new, container.dtype).reshape(container.shape)
    else:
        for index, item in enumerate(new):
            container.flat[index] = item


def class_names(kind: type) -> list[str]:
    """Names of an exception class and its bases, nearest first, up to the first builtin one."""
    names = []
    for base in kind.__mro__:
        name = type.__dict__["__name__"].__get__(base)
        names.append(name[:80].replace(",", "?"))
        if NAMED_TYPES.get(name) is base:
            break
    return names


def describe(error: BaseException) -> tuple:
    """(class names, message, arguments, attributes): what crosses of an exception. Runs the exception's own
    code."""
    try:
        message = str(error)[:2000]
        message = message if type(message) is str else "".join(message)
    except BaseException as failure:
        message = f"(no message: {type(failure).__name__})"
    arguments = tuple(a for a in error.args if is_small(a))
    attributes = {k: v for k, v in getattr(error, "__dict__", {}).items() if is_small(k) and is_small(v)}
    whole = arguments if len(arguments) == len(error.args) else None
    return tuple(class_names(type(error))), message, whole, attributes


def is_small(value: object) -> bool:
    return type(value) in (int, float, bool, type(None)) or (
        type(value) in (str, bytes) and len(value) < 10_000
    )


# what the program's side does on request

OPERATIONS: dict[str, Callable[..., object]] = {
    "call": lambda value, arguments, keywords: value(*arguments, **keywords),
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
    "int": int,
    "float": float,
    "index": operator.index,
    "enter": lambda value: value.__enter__(),
    "exit": lambda value: value.__exit__(None, None, None),
    "isinstance": lambda value, instance: isinstance(instance, value),
    "close": lambda value: value.close(),
    "next": lambda value: step(next, value),
    "send": lambda value, item: step(value.send, item),
    "throw": lambda value, name, message: step(value.throw, NAMED_TYPES.get(name, Exception)(message)),
}


def step(advance: Callable, *operands: object) -> tuple[bool, object]:
    """(True, item), or (False, return value) at the end of an iterator."""
    try:
        return True, advance(*operands)
    except StopIteration as stop:
        return False, stop.value

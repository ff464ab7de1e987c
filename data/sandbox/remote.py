"""Objects of the other process: what the tests hold of a value that is not plain data, and the other way
round.

A remote object forwards calls, attributes, items, iteration, length, truth and text. Comparison and
arithmetic it forwards only between two objects of the program: with anything of the tests it equals nothing,
so a program cannot answer with an object that equals everything, and does not learn what it is compared with.
Attributes with two leading underscores are not forwarded either, because libraries act on them (NumPy would
read memory at the address an `__array_interface__` names).
"""

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator

FORWARDED_SPECIAL = frozenset(
    {
        "__annotations__", "__code__", "__defaults__", "__doc__", "__kwdefaults__", "__module__", "__name__",
        "__notes__", "__qualname__", "__wrapped__",
    }
)  # fmt: skip
ORDER, UNARY = ("lt", "le", "gt", "ge"), ("neg", "pos", "abs", "invert")
BINARY = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift",
    "rshift",
)  # fmt: skip
Request = Callable[..., object]  # request(operation, number, *operands)


class Remote:
    """Object `number` of the other side."""

    __slots__ = ("_sandbox", "_hash", "__weakref__")
    __dict__ = property(lambda self: ask(self, "getattr", "__dict__"))

    def __init__(self, request: Request, number: int, label: str) -> None:
        object.__setattr__(self, "_sandbox", (request, number, label))

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name not in FORWARDED_SPECIAL:
            raise AttributeError(name)
        return ask(self, "getattr", name)

    def __setattr__(self, name: str, value: object) -> None:
        ask(self, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        ask(self, "delattr", name)

    def __bool__(self) -> bool:
        return ask(self, "bool") is True

    def __len__(self) -> int:
        return ask(self, "len")

    def __getitem__(self, key: object) -> object:
        return ask(self, "getitem", key)

    def __setitem__(self, key: object, value: object) -> None:
        ask(self, "setitem", key, value)

    def __delitem__(self, key: object) -> None:
        ask(self, "delitem", key)

    def __contains__(self, value: object) -> bool:
        return any(item is value or item == value for item in self)  # the question would tell the answer

    def __copy__(self) -> object:
        return ask(self, "copy")

    def __deepcopy__(self, memo: dict) -> object:
        return ask(self, "deepcopy")

    def __iter__(self) -> Iterator:
        return ask(self, "iter")

    def __reversed__(self) -> Iterator:
        return ask(self, "reversed")

    def __str__(self) -> str:
        return str(ask(self, "str"))

    def __repr__(self) -> str:
        return str(ask(self, "repr"))

    def __format__(self, form: str) -> str:
        return str(ask(self, "format", form)) if form else str(self)

    def __int__(self) -> int:
        return ask(self, "int")

    def __round__(self, *digits: int) -> object:
        return ask(self, "round", *digits)

    def __float__(self) -> float:
        return ask(self, "float")

    def __index__(self) -> int:
        return ask(self, "index")

    def __enter__(self) -> object:
        return ask(self, "enter")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return ask(self, "exit", error) is True

    def __instancecheck__(self, value: object) -> bool:
        return ask(self, "isinstance", value) is True

    def __subclasscheck__(self, kind: object) -> bool:
        return isinstance(kind, Remote) and ask(self, "issubclass", kind) is True

    def __eq__(self, other: object) -> object:
        if self is other:
            return True
        if not isinstance(other, Remote):
            return NotImplemented  # an object of the tests' own class may decide
        return ask(self, "operator", "eq", other)

    def __hash__(self) -> int:
        """The program's, unless the first to ask is the decoder, which cannot wait for an answer."""
        try:
            return object.__getattribute__(self, "_hash")
        except AttributeError:
            found = ask(self, "hash")
        object.__setattr__(self, "_hash", id(self) if found is NotImplemented else found)
        return hash(self)


class RemoteCallable(Remote):
    """A method, class or other callable of the other side."""

    __slots__ = ()

    def __call__(self, *arguments: object, **keywords: object) -> object:
        return ask(self, "call", arguments, tuple(keywords.items()))


class RemoteFunction(RemoteCallable):  # no text here: its documentation is that of the function
    # a function of the other side: it has attributes, a signature, and passes for a function
    __slots__ = ()
    __class__ = property(lambda self: types.FunctionType)
    __doc__ = property(lambda self: ask(self, "getattr", "__doc__"))

    def __getattr__(self, name: str) -> object:
        if name in ("__name__", "__qualname__"):
            return object.__getattribute__(self, "_sandbox")[2]
        if name == "__code__":
            return types.SimpleNamespace(**ask(self, "code"))
        return Remote.__getattr__(self, name)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> "RemoteFunction":
        return self

    def __deepcopy__(self, memo: dict) -> "RemoteFunction":
        return self


class RemoteIterator(Remote):
    """An iterator of the other side, pulled one item at a time."""

    __slots__ = ()

    def __next__(self) -> object:
        more, value = ask(self, "next")
        if not more:
            raise StopIteration(value)
        return value


def ask(remote: Remote, operation: str, *operands: object) -> object:
    request, number, _ = object.__getattribute__(remote, "_sandbox")
    return request(operation, number, *operands)


def forward(name: str) -> Callable[..., object]:
    def method(self: Remote, *operands: object) -> object:
        return ask(self, "operator", name, *operands)

    return method


def forward_swapped(name: str) -> Callable[..., object]:
    def method(self: Remote, operand: object) -> object:
        return ask(self, "swapped", name, operand)

    return method


def between_two(name: str) -> Callable[..., object]:
    def method(self: Remote, operand: object) -> object:
        if not isinstance(operand, Remote):
            return NotImplemented
        return ask(self, "operator", name, operand)

    return method


class Operand:
    """What the program may do, beyond `Remote`, with an object of the tests' classes: order, arithmetic,
    equality. The tests' own code answers. Never the other way round: see above."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other or ask(self, "operator", "eq", other) is True

    def __hash__(self) -> int:
        return ask(self, "hash")

    def __contains__(self, value: object) -> bool:
        return ask(self, "operator", "contains", value) is True


for operator_name in (*ORDER, *UNARY, *BINARY):
    plain_name = operator_name.strip("_")
    method = forward(operator_name) if operator_name in UNARY else between_two(operator_name)
    setattr(Remote, f"__{plain_name}__", method)
    setattr(Operand, f"__{plain_name}__", forward(operator_name))
    if operator_name in BINARY:
        setattr(Remote, f"__i{plain_name}__", between_two(f"i{plain_name}"))
        setattr(Operand, f"__i{plain_name}__", forward(f"i{plain_name}"))
        setattr(Operand, f"__r{plain_name}__", forward_swapped(operator_name))


class OwnedObject(Operand, Remote):
    """An object of the tests, as the program has it."""

    __slots__ = ()


class OwnedCallable(Operand, RemoteCallable):
    """A callable object or class of the tests, as the program has it."""

    __slots__ = ()


class OwnedIterator(Operand, RemoteIterator):
    """An iterator of the tests' own class, as the program has it."""

    __slots__ = ()


def remote_object(request: Request, number: int, label: str) -> Remote:
    return remote_class(label)(request, number, label)


@functools.lru_cache(maxsize=256)
def remote_class(name: str) -> type[Remote]:
    """`Remote` by the name of the class it stands for: tests ask for `type(x).__name__`."""
    return type(name, (Remote,), {"__slots__": ()}) if name.isidentifier() else Remote


def remote_generator(request: Request, number: int, label: str) -> Iterator:
    """A real generator for a generator of the other side; `send`, `throw` and `close` act over there."""

    def generate() -> Iterator:
        more, value = request("next", number)
        while more:
            try:
                sent = yield value
            except GeneratorExit:
                request("close", number)
                raise
            except Exception as error:
                more, value = request("throw", number, error)
            else:
                more, value = request("send", number, sent) if sent is not None else request("next", number)
        return value

    generate.__name__ = label
    return generate()


def remote_coroutine(request: Request, number: int, label: str) -> object:
    """A coroutine that runs the other side's coroutine to its end when awaited."""

    async def run() -> object:
        return request("run", number)

    run.__name__ = label
    return run()


def remote_async_generator(request: Request, number: int, label: str) -> object:
    """An asynchronous generator whose items come from the other side's."""

    async def generate() -> AsyncIterator:
        more, value = request("anext", number)
        while more:
            yield value
            more, value = request("anext", number)

    generate.__name__ = label
    return generate()


KINDS: dict[str, Callable[[Request, int, str], object]] = {
    "o": remote_object,
    "c": RemoteCallable,
    "f": RemoteFunction,
    "i": RemoteIterator,
    "g": remote_generator,
    "a": remote_coroutine,
    "y": remote_async_generator,
}
OWNED_KINDS = KINDS | {"o": OwnedObject, "c": OwnedCallable, "i": OwnedIterator}

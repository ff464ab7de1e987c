"""Objects of the other process: what the tests hold of a value that is not plain data, and the other way
round.

A remote object forwards calls, attributes, items, iteration, length, truth and text. It never forwards
comparison or arithmetic: it equals itself and nothing else, so a program cannot answer with an object that
equals everything, and does not learn what it is compared with. Attributes with two leading underscores are
not forwarded either, because libraries act on them (NumPy would read memory at the address an
`__array_interface__` names).
"""

from collections.abc import AsyncIterator, Callable, Iterator

FORWARDED_SPECIAL = frozenset({"__name__", "__qualname__", "__doc__"})
Request = Callable[..., object]  # request(operation, number, *operands)


class Remote:
    """Object `number` of the other side."""

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

    def __int__(self) -> int:
        return ask(self, "int")

    def __float__(self) -> float:
        return ask(self, "float")

    def __index__(self) -> int:
        return ask(self, "index")

    def __enter__(self) -> object:
        return ask(self, "enter")

    def __exit__(self, *exception: object) -> bool:
        return ask(self, "exit") is True

    def __instancecheck__(self, value: object) -> bool:
        return ask(self, "isinstance", value) is True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class RemoteCallable(Remote):
    """A function, method or class of the other side."""

    def __call__(self, *arguments: object, **keywords: object) -> object:
        return ask(self, "call", arguments, keywords)


class RemoteIterator(Remote):
    """An iterator of the other side, pulled one item at a time."""

    def __iter__(self) -> "RemoteIterator":
        return self

    def __next__(self) -> object:
        more, value = ask(self, "next")
        if not more:
            raise StopIteration(value)
        return value


def ask(remote: Remote, operation: str, *operands: object) -> object:
    request, number, _ = object.__getattribute__(remote, "_sandbox")
    return request(operation, number, *operands)


def remote_function(request: Request, number: int, label: str) -> Callable:
    """A real function for a function of the other side: tests look at `callable`, `__name__`,
    `isfunction`."""

    def remote(*arguments: object, **keywords: object) -> object:
        return request("call", number, arguments, keywords)

    remote.__name__ = remote.__qualname__ = label
    remote.sandbox_number = number
    return remote


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
                more, value = request("throw", number, type(error).__name__, str(error))
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
    "o": Remote,
    "c": RemoteCallable,
    "f": remote_function,
    "i": RemoteIterator,
    "g": remote_generator,
    "a": remote_coroutine,
    "y": remote_async_generator,
}

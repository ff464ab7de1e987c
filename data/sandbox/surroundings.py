"""What tests replace around the program: the standard streams, `input`, `print`, `open`, the random numbers.

Tests that capture what a function prints, feed its `input()` or seed the generator change their own process.
Before each of their calls the program's process is told what they have changed (surrounded.py does it
there); after it, what the program has printed is written to the tests' stream. Only text, numbers and
handles of the tests' own functions cross.
"""

import builtins
import random
import sys
import types
from collections.abc import Callable

from data.sandbox.session import Session
from data.sandbox.surrounded import FUNCTIONS, STREAMS

GENERATORS = ("random", "numpy.random")


class Surroundings:
    """In the judge, for one program. `ask` is `Session.ask` with the surroundings carried over."""

    def __init__(self, session: Session, seeds: bool) -> None:
        self.session = session
        self.originals = self.told = current()
        self.seeded = False
        self.generators = [sys.modules[name] for name in GENERATORS if seeds and name in sys.modules]
        self.seeders = [generator.seed for generator in self.generators]
        for generator, seed in zip(self.generators, self.seeders, strict=True):
            generator.seed = self.noting(seed)

    def leave(self) -> None:
        """The tests are over."""
        for generator, seed in zip(self.generators, self.seeders, strict=True):
            generator.seed = seed

    def noting(self, seed: Callable[..., None]) -> Callable[..., None]:
        def seed_and_tell(*arguments: object, **keywords: object) -> None:
            seed(*arguments, **keywords)
            self.seeded = True

        return seed_and_tell

    def ask(self, operation: str, number: int, *operands: object) -> object:
        session = self.session
        if session.peer.asking:
            return session.ask(operation, number, *operands)
        self.tell()
        try:
            return session.ask(operation, number, *operands)
        finally:
            self.collect()

    def replaced(self) -> list[bool]:
        return [now is not before for now, before in zip(self.told, self.originals, strict=True)]

    def tell(self) -> None:
        now, text = current(), None
        if now[0] is not self.originals[0]:
            text = rest_of(now[0])
        if text or any(a is not b for a, b in zip(now, self.told, strict=True)):
            self.told = now
            replaced = [value if new else None for value, new in zip(now, self.replaced(), strict=True)]
            kinds = [kind_of(stream) for stream in replaced[:3]]
            self.session.request("surround", text, kinds, replaced[3:])
        if self.seeded:
            self.seeded = False
            self.session.request("seed", [state_of(generator) for generator in self.generators])

    def collect(self) -> None:
        """Write what the program has printed to the streams of the tests."""
        _, out, err, *_ = self.replaced()
        if out or err:
            for stream, text in zip(self.told[1:3], self.session.request("printed"), strict=True):
                if type(text) is str and text:
                    stream.write(text)


def state_of(generator: types.ModuleType) -> tuple:
    """As plain data."""
    if generator is random:
        return random.getstate()
    kind, keys, *rest = generator.get_state()
    return (kind, keys.tolist(), *rest)


def current() -> tuple:
    return (
        *(getattr(sys, name) for name in STREAMS),
        *(getattr(builtins, name) for name in FUNCTIONS),
    )


def kind_of(stream: object) -> str:
    if stream is None:
        return ""
    return "bytes" if hasattr(stream, "buffer") else "text"


def rest_of(stream: object) -> str:
    """What a stream of the tests still holds."""
    try:
        text = stream.read()
    except Exception:
        return ""
    return text if type(text) is str else ""

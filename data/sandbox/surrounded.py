"""The program's side of surroundings.py: put in place what the tests have replaced, hand over what is
printed."""

import builtins
import importlib
import io
import random
import sys

STREAMS, FUNCTIONS = ("stdin", "stdout", "stderr"), ("input", "print", "open")


class Surrounded:
    """Does what the judge's `Surroundings` say."""

    def __init__(self) -> None:
        self.saved: dict[str, object] = {}
        self.captured: dict[str, io.TextIOBase] = {}

    def surround(self, text: str | None, kinds: list[str], functions: list) -> None:
        """`kinds` of the three streams: "" (the program's own), "text" or "bytes" (has a `buffer` too)."""
        if text is None:
            self.replace(sys, "stdin", None)
        elif text or "stdin" not in self.saved:
            self.replace(sys, "stdin", stream_of(kinds[0], text))
        for name, kind in zip(STREAMS[1:], kinds[1:], strict=True):
            if kind and name not in self.captured:
                self.captured[name] = stream_of(kind)
                self.replace(sys, name, self.captured[name])
            elif not kind and self.captured.pop(name, None) is not None:
                self.replace(sys, name, None)
        for name, function in zip(FUNCTIONS, functions, strict=True):
            self.replace(builtins, name, function)

    def replace(self, holder: object, name: str, value: object) -> None:
        """Put a value in the place of the program's own; None: put that back."""
        if value is not None:
            self.saved.setdefault(name, getattr(holder, name, None))
            setattr(holder, name, value)
        elif name in self.saved:
            setattr(holder, name, self.saved.pop(name))

    def printed(self) -> tuple[str, str]:
        """What has been written to (stdout, stderr) since the last time."""
        return tuple(self.take(name) for name in STREAMS[1:])

    def take(self, name: str) -> str:
        stream = self.captured.get(name)
        if stream is None or stream.closed:
            return ""
        stream.seek(0)
        text = stream.read()
        stream.seek(0)
        stream.truncate()
        return text

    def seed(self, states: list[tuple]) -> None:
        random.setstate(states[0])
        if len(states) > 1:
            importlib.import_module("numpy.random").set_state(states[1])


def stream_of(kind: str, text: str = "") -> io.TextIOBase:
    """What stands for a stream of the tests; nothing waits in it."""
    if kind == "text":
        return io.StringIO(text)
    data = io.BytesIO(text.encode("utf-8", "surrogateescape"))
    return io.TextIOWrapper(data, "utf-8", "surrogateescape", newline="\n", write_through=True)

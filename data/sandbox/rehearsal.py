"""A conversation with a program's process as the judge leads it, but for the nursery, which knows no
program: to see what memory such a process writes."""

import os

from data.sandbox.peer import Peer
from data.sandbox.program import GREETING, LENGTH, request_bytes

PROGRAM = "def f(x, y, z):\n    return [x]\n"
CHUNK = 1 << 16


def make_requests() -> list[bytes]:
    """Start a small program, call it."""
    asking = Peer(len, len, len, leads=True)
    frames = []
    for operation, number, operands in (
        ("start", 0, (PROGRAM, 0, (), "f", b"", ())),
        ("call", 1, (([1], [2.5], ["x"]), ())),
    ):
        payload = request_bytes(asking, operation, number, operands)
        asking.shared.keep([])
        frames.append(LENGTH.pack(len(payload)) + payload)
    return frames


def converse(channel: int, requests: list[bytes]) -> None:
    """Send each and wait for its answer; the first is preceded by a greeting."""
    for request in requests:
        os.write(channel, request)
        data = os.read(channel, CHUNK)
        (size,) = LENGTH.unpack_from(data)
        if data[LENGTH.size :][:1] == GREETING and len(data) == LENGTH.size + size:
            os.read(channel, CHUNK)

"""Frames between host, judge and program: four bytes of length, then the payload. Trusted ends only block.

The judge's reading from the untrusted side, with its limits and its clock, is in session.py.
"""

import json
import socket
import struct

LENGTH = struct.Struct("<I")


class Closed(Exception):
    """The other end is gone."""


def read_exactly(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = channel.recv_into(view[filled:])
        if not count:
            raise Closed
        filled += count
    return data


def read_frame(channel: socket.socket) -> bytearray:
    (size,) = LENGTH.unpack(read_exactly(channel, 4))
    return read_exactly(channel, size)


def send_message(channel: socket.socket, message: dict, *attachments: bytes) -> None:
    """A JSON header and any number of binary attachments, as one write."""
    header = json.dumps(message).encode()
    parts = [LENGTH.pack(len(attachments)), LENGTH.pack(len(header)), header]
    for attachment in attachments:
        parts += [LENGTH.pack(len(attachment)), attachment]
    channel.sendall(b"".join(parts))


def read_message(channel: socket.socket) -> tuple[dict, list[bytearray]]:
    (count,) = LENGTH.unpack(read_exactly(channel, 4))
    header = json.loads(read_frame(channel))
    return header, [read_frame(channel) for _ in range(count)]

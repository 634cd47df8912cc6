"""Messages on the pipes between a board in virtual time and its supervisor; virtual_world.py has the other end."""

import struct
from typing import IO

SEGMENT = struct.Struct("<qI")
HEAD = struct.Struct("<BqI")


def read_message(pipe: IO[bytes]) -> tuple[bytes, int, bytes] | None:
    """(letter, number, body), None when the other end is gone."""
    head = pipe.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    letter, number, size = HEAD.unpack(head)
    body = pipe.read(size) if size else b""
    return None if len(body) < size else (bytes((letter,)), number, body)


def tell(pipe: IO[bytes], letter: bytes, number: int, body: bytes = b"") -> None:
    """Write one message."""
    pipe.write(HEAD.pack(letter[0], number, len(body)) + body)

"""Messages on the pipes between a board in virtual time and its supervisor; virtual_world.py has the other end."""

import os
import select
import struct
from typing import IO

SEGMENT = struct.Struct("<qI")
_HEAD = struct.Struct("<BqI")
_READ_BYTES = 65_536


class Silent(Exception):
    """The other end sent nothing within its deadline."""


class Inbox:
    """The reading end of a pipe, given its descriptor, which it closes in the end."""

    def __init__(self, descriptor: int, deadline_s: float) -> None:
        self._descriptor = descriptor
        self._deadline_s = deadline_s
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._held = b""

    def read(self) -> tuple[bytes, int, bytes] | None:
        """(letter, number, body) of the next message, None when the other end is gone. Raises Silent."""
        while True:
            if len(self._held) >= _HEAD.size:
                letter, number, size = _HEAD.unpack_from(self._held)
                end = _HEAD.size + size
                if len(self._held) >= end:
                    body, self._held = self._held[_HEAD.size : end], self._held[end:]
                    return bytes((letter,)), number, body
            if not self._poll.poll(self._deadline_s * 1000):
                raise Silent
            part = os.read(self._descriptor, _READ_BYTES)
            if not part:
                return None
            self._held += part

    def close(self) -> None:
        os.close(self._descriptor)


def tell(pipe: IO[bytes], letter: bytes, number: int, body: bytes = b"") -> None:
    """Write one message."""
    pipe.write(_HEAD.pack(letter[0], number, len(body)) + body)

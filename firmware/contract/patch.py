"""Patches: what makes one artifact out of another, read once from front to back.

Runs on MicroPython and CPython. A patch carries no trust of its own: what it makes is checked like a download, its
length, its SHA-256, its signature. One that lies wastes the time of its reader, who bounds it: each step makes bytes.

    at 0    magic "EWP1"
    at 4    u8 method: 1 SEQUENCE, 2 FOREST
    at 5    u16 n, then n bytes: a difference
    then    FOREST only: the payload's own patch (patch_forest.py)

A difference is a sequential patch of detools, range coded (range_coder.py): the size of what it makes; then, until that
is reached, bytes to add to as many of the base, bytes to insert, and how far the place in the base moves on. SEQUENCE:
between whole artifacts. FOREST: between what comes before their payloads, which are table blobs of forests.

Memory: 736 bytes of contexts and 128 of buffers, the same for both parts. MicroPython's inflater takes 1.3 kB and a
window: that is why differences are not deflated. What needs no base is, and is no patch of this format: an artifact as
a raw deflate stream (RFC 1951) with a window of 2 ** artifact.DEFLATE_WINDOW_BITS bytes.
"""

import struct
from array import array

from contract.range_coder import FRESH, Decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Write = Callable[[memoryview], None]

MAGIC = b"EWP1"
SEQUENCE = 1
FOREST = 2
HEADER = "<4sBH"
HEADER_BYTES = 7

NUMBER_BITS = 5
# Where the contexts of a difference lie: of its four kinds of numbers, of whether a byte changed, given the three
# before it, and of bytes.
SIZE_AT, ADD_AT, INSERT_AT, MOVE_AT = 0, 0, 32, 64
CHANGED_AT = 96
BYTES_AT = 104
CONTEXTS = 368  # those, and all that a forest needs

_PIECE_BYTES = 64


class PatchError(Exception):
    """Bytes that are no patch for this base; the argument says why."""


def apply(stream: "Any", base: "Any", write: "Write", forest: "Callable[..., None]") -> None:
    """Makes the artifact that a patch and its base stand for; raises PatchError, EOFError where the patch ends early.

    stream: the patch, a binary file that can seek. base: read_at(offset, buffer) fills a buffer from the artifact that
    the patch is a difference to, payload_at: where its payload begins. write(view) takes the artifact as it comes;
    forest(stream, base, write, contexts) applies a payload's own patch.
    """
    head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise EOFError
    magic, method, length = struct.unpack(HEADER, head)
    if magic != MAGIC or method not in (SEQUENCE, FOREST):
        raise PatchError("not a patch")
    contexts = array("H", [FRESH] * CONTEXTS)
    _difference(Decoder(stream, length), contexts, base, write)
    if method == FOREST:
        stream.seek(HEADER_BYTES + length)
        forest(stream, base, write, contexts)


def _difference(source: Decoder, contexts: "array[int]", base: "Any", write: "Write") -> None:
    buffer = memoryview(bytearray(2 * _PIECE_BYTES))
    old, new = buffer[:_PIECE_BYTES], buffer[_PIECE_BYTES:]
    left = _number(source, contexts, SIZE_AT)
    at = 0
    while left > 0:
        before = left
        count = _count(source, contexts, ADD_AT, left)
        left -= count
        history = 0
        while count:
            n = min(count, _PIECE_BYTES)
            base.read_at(at, old[:n])
            for i in range(n):
                changed = source.bit(contexts, CHANGED_AT + history)
                history = (history << 1 | changed) & 7
                new[i] = (old[i] + source.tree(contexts, BYTES_AT, 8)) & 255 if changed else old[i]
            write(new[:n])
            at += n
            count -= n
        count = _count(source, contexts, INSERT_AT, left)
        left -= count
        while count:
            n = min(count, _PIECE_BYTES)
            for i in range(n):
                new[i] = source.tree(contexts, BYTES_AT, 8)
            write(new[:n])
            count -= n
        if left == before:  # beyond the end of a patch that was cut there are zeros, which stand for nothing for ever
            raise PatchError("nothing made")
        if left:
            folded = _number(source, contexts, MOVE_AT)
            at += -(folded >> 1) - 1 if folded & 1 else folded >> 1
            if at < 0:
                raise PatchError("before the base")


def _count(source: Decoder, contexts: "array[int]", at: int, most: int) -> int:
    count = _number(source, contexts, at)
    if count > most:
        raise PatchError("%d bytes where %d are left" % (count, most))
    return count


def _number(source: Decoder, contexts: "array[int]", at: int) -> int:
    """A number of up to 30 bits: how many it has, then the bits."""
    bits = source.tree(contexts, at, NUMBER_BITS)
    return (1 << bits | source.even(bits)) - 1

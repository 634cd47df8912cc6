"""Rows of readings one after the other: the open batch of a board, before it is sealed into a frame.

Each row is the time since the row before and the differences to it, as varints. It is read back from the start.
"""

from contract.bits import put_varint, take_varint, unzigzag, zigzag
from contract.wire import BAD_BODY, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    Buffer = bytes | bytearray | memoryview

_INT32 = 0x7FFFFFFF


def append_row(
    buf: bytearray | memoryview, pos: int, gap_ms: int, row: "Sequence[int]", previous: "Sequence[int]"
) -> int:
    """Writes one row as varint differences to the `previous` one, gives its end.

    `row`, `previous`: int32 (cols,); the previous of the first row is whatever the reader will start from, such as
    zeros. Raises WireError(BAD_SIZE) when `buf` ends before the row does: nothing before `pos` has changed then.
    """
    pos = put_varint(buf, pos, gap_ms)
    for channel in range(len(row)):
        pos = put_varint(buf, pos, zigzag(row[channel] - previous[channel]))
    return pos


def take_row(buf: "Buffer", pos: int, end: int, row: "array[int]") -> "tuple[int, int]":
    """Turns `row`, the previous one, into the row at `pos`; gives (gap_ms, end of the row).

    Raises WireError(BAD_BODY) when the row does not end before `end` or leaves int32.
    """
    gap_ms, pos = take_varint(buf, pos, end)
    for channel in range(len(row)):
        number, pos = take_varint(buf, pos, end)
        value = row[channel] + unzigzag(number)
        if not -_INT32 - 1 <= value <= _INT32:
            raise WireError(BAD_BODY, "value of channel %d" % channel)
        row[channel] = value
    return gap_ms, pos

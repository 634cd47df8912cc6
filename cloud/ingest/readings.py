"""READINGS as they came -> frames as they are kept: decoded once to be believed, in key form, with their extremes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud import wire_types as w
from cloud.store.tables import frames
from contract import delta, wire

CACHED_ROWS = 20_000

RowId = tuple[str, int, int]
"""Device, epoch and seq of one row of readings."""
Values = tuple[int, ...]
"""int32 (cols,) of one row."""

_pack = msgspec.msgpack.Encoder().encode


class NoBase(Exception):
    """The row that a frame is a difference to is not stored: the board has to send the frame again in key form."""


class Sealed(NamedTuple):
    """What ingest works out for a frame; `first` is in key form."""

    first: bytes
    t1_ms: int
    lows: bytes
    highs: bytes
    last_row: Values


def key_form(record: w.Readings, base: Values | None) -> Sealed:
    """Decodes a frame against its base row (None for a key frame).

    Raises NoBase when the base has another number of channels, WireError for a body that cannot be decoded.
    """
    cols = record.cols
    if base is not None and len(base) != cols:
        raise NoBase
    offsets, values = delta.decode(record.rows, cols, record.first, record.body, base)
    lows, highs = delta.extremes(values, cols)
    first = record.first
    if base is not None:
        out = bytearray(5 * wire.MAX_CHANNELS)
        first = bytes(out[: delta.first_row(values, None, cols, out)])
    return Sealed(first, record.t_ms + offsets[-1], _pack(lows), _pack(highs), tuple(values[-cols:]))


class LastRows:
    """The last rows of frames stored lately: the bases of the next ones. A cache of what the store has."""

    def __init__(self, capacity: int = CACHED_ROWS) -> None:
        self._capacity = capacity
        self._rows: OrderedDict[RowId, Values] = OrderedDict()

    def keep(self, rows: Mapping[RowId, Values]) -> None:
        """Remembers rows whose frames are committed."""
        self._rows.update(rows)
        while len(self._rows) > self._capacity:
            self._rows.popitem(last=False)

    async def find(self, connection: AsyncConnection, device: str, epoch: int, seq: int) -> Values:
        """A row by its number; raises NoBase when it is not stored."""
        row = self._rows.get((device, epoch, seq))
        return await _stored_row(connection, device, epoch, seq) if row is None else row


async def _stored_row(connection: AsyncConnection, device: str, epoch: int, seq: int) -> Values:
    query = (
        sa.select(frames)
        .where(frames.c.device == device, frames.c.epoch == epoch, frames.c.seq <= seq)
        .order_by(frames.c.seq.desc())
        .limit(1)
    )
    frame = (await connection.execute(query)).one_or_none()
    if frame is None or seq >= frame.seq + frame.rows:
        raise NoBase
    _, values = delta.decode(frame.rows, frame.cols, frame.first, frame.body)
    at = (seq - frame.seq) * frame.cols
    return tuple(values[at : at + frame.cols])

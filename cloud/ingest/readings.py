"""READINGS as they came -> frames as they are kept: decoded once to be believed, in key form, with their extremes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud import wire_types as w
from cloud.ingest.lanes import decode_bodies
from cloud.store.tables import frames
from contract import delta, wire
from contract.wire import WireError

CACHED_ROWS = 20_000
MIN_LANES = 24
"""Frames of one shape from which on it is faster to decode them side by side."""

RowId = tuple[str, int, int]
"""Device, epoch and seq of one row of readings."""
Values = tuple[int, ...]
"""int32 (cols,) of one row."""

WithBase = tuple[w.Readings, Values | None]
"""A frame and the row it is a difference to, None for a key frame."""

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
    first = record.first if base is None else _plain_first(values[:cols])
    return Sealed(first, record.t_ms + offsets[-1], _pack(lows), _pack(highs), tuple(values[-cols:]))


def key_forms(records: Sequence[WithBase]) -> dict[int, Sealed]:
    """key_form of many frames at once, by id() of the record: of those that are common and sound enough for it."""
    by_shape: dict[tuple[int, int], list[WithBase]] = {}
    for record, base in records:
        if base is None or len(base) == record.cols:
            by_shape.setdefault((record.rows, record.cols), []).append((record, base))
    sealed: dict[int, Sealed] = {}
    for (rows, _), alike in by_shape.items():
        if len(alike) >= MIN_LANES:
            sealed |= _decode_alike(alike, rows)
    return sealed


def _decode_alike(records: Sequence[WithBase], rows: int) -> dict[int, Sealed]:
    lanes: list[WithBase] = []
    first_rows: list[list[int]] = []
    for record, base in records:
        try:
            first_rows.append(list(delta.decode_first(record.first, base, record.cols)))
        except WireError:
            continue  # key_form will say so
        lanes.append((record, base))
    if not lanes:
        return {}
    found = decode_bodies([record.body for record, _ in lanes], np.array(first_rows, dtype=np.int64), rows)
    lows, highs = found.values.min(axis=1).tolist(), found.values.max(axis=1).tolist()
    lengths, last_rows = found.offsets[:, -1].tolist(), found.values[:, -1].tolist()
    sealed: dict[int, Sealed] = {}
    for lane in np.flatnonzero(found.good).tolist():
        record, base = lanes[lane]
        first = record.first if base is None else _plain_first(first_rows[lane])
        sealed[id(record)] = Sealed(
            first, record.t_ms + lengths[lane], _pack(lows[lane]), _pack(highs[lane]), tuple(last_rows[lane])
        )
    return sealed


def _plain_first(row: Sequence[int]) -> bytes:
    out = bytearray(5 * wire.MAX_CHANNELS)
    return bytes(out[: delta.first_row(row, None, len(row), out)])


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

    def peek(self, row: RowId) -> Values | None:
        """A row, if it is remembered."""
        return self._rows.get(row)

    async def find(self, connection: AsyncConnection, device: str, epoch: int, seq: int) -> Values:
        """A row by its number; raises NoBase when it is not stored."""
        row = self.peek((device, epoch, seq))
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

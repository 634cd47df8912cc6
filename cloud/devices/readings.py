"""Sealed frames as they are stored -> samples with cloud time. Decoded frames are cached: a frame never changes."""

from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices.queries import channels_of, require_device
from cloud.devices.views import Readings, Row
from cloud.errors import NotFound
from cloud.store.tables import epochs, frames
from contract import delta

MAX_ROWS = 10_000
_CACHED_FRAMES = 4096
_PAGE_FRAMES = 200


async def read_range(
    connection: AsyncConnection, device: str, from_ms: int, to_ms: int, limit: int = MAX_ROWS
) -> Readings:
    """Samples with from_ms <= time < to_ms, oldest first, at most `limit`. Raises NotFound for an unknown device."""
    query = (
        _frames(device)
        .where(epochs.c.began_ms + frames.c.t1_ms >= from_ms, epochs.c.began_ms + frames.c.t0_ms < to_ms)
        .order_by(frames.c.epoch, frames.c.seq)
    )
    rows: list[Row] = []
    async for frame in _pages(connection, query, limit):
        rows.extend(row for row in expand(frame) if from_ms <= row.at_ms < to_ms)
        if len(rows) > limit:
            break
    return await _answer(connection, device, rows[:limit], truncated=len(rows) > limit)


async def read_last(connection: AsyncConnection, device: str, limit: int) -> Readings:
    """The last `limit` samples, oldest first. Raises NotFound for an unknown device."""
    query = _frames(device).order_by(frames.c.epoch.desc(), frames.c.seq.desc())
    rows: list[Row] = []
    async for frame in _pages(connection, query, limit):
        rows.extend(reversed(expand(frame)))
        if len(rows) > limit:
            break
    return await _answer(connection, device, rows[:limit][::-1], truncated=len(rows) > limit)


def expand(frame: sa.RowMapping) -> list[Row]:
    """The samples of one stored frame, in counts, oldest first; `frame` also has its epoch's began_ms."""
    offsets, values = _decoded(frame["rows"], frame["cols"], frame["first"], frame["body"])
    began, cols, epoch, seq = frame["began_ms"] + frame["t0_ms"], frame["cols"], frame["epoch"], frame["seq"]
    return [
        Row(began + offset, epoch, seq + at, list(values[at * cols : (at + 1) * cols]))
        for at, offset in enumerate(offsets)
    ]


@lru_cache(maxsize=_CACHED_FRAMES)
def _decoded(rows: int, cols: int, first: bytes, body: bytes) -> tuple[Sequence[int], Sequence[int]]:
    return delta.decode(rows, cols, first, body)


def _frames(device: str) -> sa.Select[Any]:
    return (
        sa.select(frames, epochs.c.began_ms)
        .join(epochs, (epochs.c.device == frames.c.device) & (epochs.c.epoch == frames.c.epoch))
        .where(frames.c.device == device)
    )


async def _pages(connection: AsyncConnection, query: sa.Select[Any], limit: int) -> AsyncIterator[sa.RowMapping]:
    size = min(_PAGE_FRAMES, limit // 8 + 2)  # frames hold a few dozen rows as a rule
    offset = 0
    while True:
        page = (await connection.execute(query.limit(size).offset(offset))).mappings().all()
        for frame in page:
            yield frame
        if len(page) < size:
            return
        offset += size


async def _answer(connection: AsyncConnection, device: str, rows: list[Row], *, truncated: bool) -> Readings:
    known = await require_device(connection, device)
    n_channels = max((len(row.values) for row in rows), default=0)
    channels = await channels_of(connection, known["schema_hash"], n_channels)
    factors = [channel.factor for channel in channels]
    scaled = [
        Row(row.at_ms, row.epoch, row.seq, [v * f for v, f in zip(row.values, factors, strict=False)]) for row in rows
    ]
    return Readings(device, channels, scaled, truncated)


def only_channel(found: Readings, name: str) -> Readings:
    """The same samples with one channel only; raises NotFound."""
    for at, channel in enumerate(found.channels):
        if channel.name == name:
            rows = [Row(row.at_ms, row.epoch, row.seq, row.values[at : at + 1]) for row in found.rows]
            return Readings(found.device, [channel], rows, found.truncated)
    names = ", ".join(channel.name for channel in found.channels) or "none"
    raise NotFound(f"{found.device} has no channel {name!r}", f"its channels: {names}")

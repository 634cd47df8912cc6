"""Deleting samples of old, which a store keeps for ever otherwise."""

from __future__ import annotations

import time

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.store.engine import writing
from cloud.store.tables import epochs, frames, streams
from contract import wire

_AT_ONCE = 500
"""Frames of one turn of writing: ingest waits for some milliseconds."""

_LONGEST_S = 5.0


class Pruned(Struct, frozen=True):
    """What was deleted."""

    frames: int
    samples: int
    more: bool
    """There is more, which another call deletes: one takes some seconds at most."""


async def prune(engine: AsyncEngine, before_ms: int, longest_s: float = _LONGEST_S) -> Pruned:
    """Deletes frames whose last sample is older than `before_ms`, unix ms. All else that boards said stays.

    Only numbers below which nothing is missing: those are settled, and ingest stores none of them again.
    """
    ends_at = time.monotonic() + longest_s
    deleted = samples = 0
    books = (streams.c.device == epochs.c.device) & (streams.c.epoch == epochs.c.epoch)
    query = (
        sa.select(epochs.c.device, epochs.c.epoch, epochs.c.began_ms, streams.c.next_seq)
        .join(streams, books & (streams.c.stream == wire.READINGS))
        .where(epochs.c.began_ms < before_ms)
    )
    async with engine.connect() as connection:
        old = (await connection.execute(query)).all()
    for device, epoch, began_ms, next_seq in old:
        settled = (frames.c.device == device) & (frames.c.epoch == epoch) & (frames.c.seq < next_seq)
        stale = settled & (frames.c.t1_ms < before_ms - began_ms)
        batch = sa.select(frames.c.seq, frames.c.rows).where(stale).order_by(frames.c.seq).limit(_AT_ONCE)
        while True:
            async with engine.connect() as connection:
                found = (await connection.execute(batch)).all()
            if not found:
                break
            async with writing(engine).begin() as connection:
                await connection.execute(sa.delete(frames).where(stale, frames.c.seq <= found[-1].seq))
            deleted += len(found)
            samples += sum(row.rows for row in found)
            if time.monotonic() > ends_at:
                return Pruned(deleted, samples, True)
    return Pruned(deleted, samples, False)

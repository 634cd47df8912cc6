"""Frames in quarantine that somebody asked to take once more: decoded again, and stored if that works now."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud import wire_types as w
from cloud.clock import now_ms
from cloud.ingest.decode import MAX_KEPT_BYTES, Poison, read
from cloud.ingest.writer import Item
from cloud.store.engine import writing
from cloud.store.tables import quarantine

_AT_ONCE = 100


async def asked(engine: AsyncEngine) -> tuple[list[int], list[Item]]:
    """The frames to take now: their ids, and the messages of those that can be decoded by now, in order."""
    waiting = quarantine.c.replay_asked_ms.is_not(None) & quarantine.c.replayed_ms.is_(None)
    query = sa.select(quarantine).where(waiting).order_by(quarantine.c.id).limit(_AT_ONCE)
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    items: list[Item] = []
    for row in rows:
        what = read(row.payload)
        if row.size <= MAX_KEPT_BYTES and not isinstance(what, (Poison, w.Fetch)):
            items.append(Item(row.device, row.topic, row.payload, what))
    return [row.id for row in rows], items


async def mark_replayed(engine: AsyncEngine, ids: Sequence[int]) -> None:
    """They were dealt with; those that are still bad stay for inspection."""
    async with writing(engine).begin() as connection:
        await connection.execute(sa.update(quarantine).where(quarantine.c.id.in_(ids)).values(replayed_ms=now_ms()))

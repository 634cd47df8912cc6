"""Frames that could not be taken: kept with their bytes for inspection and replay, in a bounded table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.ingest.decode import MAX_KEPT_BYTES, Poison
from cloud.store.tables import quarantine

MAX_PER_DEVICE = 500
"""Rows of one device, so that one faulty board does not push out what others left."""

MAX_ROWS = 10_000
MAX_BYTES = 32_000_000

_MAX_DETAIL = 256
_MAX_TOPIC = 256
_MAX_DEVICE = 64
_TRIM_ROWS = 200  # at a time, oldest first, while the table is above a limit


def quarantine_row(topic: str, device: str, poison: Poison, payload: bytes, now_ms: int) -> dict[str, Any]:
    """A row of the table; of a payload beyond every limit the beginning is kept."""
    return {
        "topic": topic[:_MAX_TOPIC],
        "device": device[:_MAX_DEVICE],
        "reason": poison.reason,
        "detail": poison.detail[:_MAX_DETAIL],
        "payload": payload[:MAX_KEPT_BYTES],
        "size": len(payload),
        "received_ms": now_ms,
    }


async def keep(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> int:
    """Stores rows and then removes the oldest beyond the limits; returns how many were removed."""
    if not rows:
        return 0
    await connection.execute(sa.insert(quarantine), rows)
    removed = 0
    for device in {row["device"] for row in rows}:
        removed += await _trim_device(connection, device)
    return removed + await _trim(connection)


async def _trim_device(connection: AsyncConnection, device: str) -> int:
    newest = (
        sa.select(quarantine.c.id)
        .where(quarantine.c.device == device)
        .order_by(quarantine.c.id.desc())
        .offset(MAX_PER_DEVICE)
        .limit(1)
    )
    first_too_many = (await connection.execute(newest)).scalar_one_or_none()
    if first_too_many is None:
        return 0
    done = await connection.execute(
        sa.delete(quarantine).where(quarantine.c.device == device, quarantine.c.id <= first_too_many)
    )
    return done.rowcount


async def _trim(connection: AsyncConnection) -> int:
    removed = 0
    totals = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(quarantine.c.payload)), 0))
    while True:
        count, size = (await connection.execute(totals.select_from(quarantine))).one()
        if count <= MAX_ROWS and size <= MAX_BYTES:
            return removed
        oldest = sa.select(quarantine.c.id).order_by(quarantine.c.id).limit(max(_TRIM_ROWS, count - MAX_ROWS))
        done = await connection.execute(sa.delete(quarantine).where(quarantine.c.id.in_(oldest)))
        removed += done.rowcount

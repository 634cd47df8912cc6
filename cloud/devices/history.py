"""What a board's records say of a stretch of its life, in cloud time; `edgewise policy trace` makes a trace of it."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices import queries, views
from cloud.errors import BadRequest
from cloud.store.tables import epochs, events, frames, health

MAX_RECORDS = 100_000
"""Of each kind in one answer."""


class Batch(Struct, frozen=True):
    """A stored frame of readings: how many samples from when to when, how large, and when it came."""

    first_ms: int
    last_ms: int
    rows: int
    bytes: int
    received_ms: int


class History(Struct, frozen=True):
    """Oldest first. settings: what the board last reported as different from its default."""

    device: str
    settings: dict[str, Any]
    health: list[views.Health]
    health_received_ms: list[int]
    events: list[views.Event]
    batches: list[Batch]


async def read_history(connection: AsyncConnection, device: str, from_ms: int, to_ms: int) -> History:
    """The records made with from_ms <= time < to_ms. Raises NotFound, and BadRequest for more than MAX_RECORDS."""
    row = await queries.require_device(connection, device)
    reports = await _bounded(connection, _within(health, device, from_ms, to_ms))
    told = await _bounded(connection, _within(events, device, from_ms, to_ms))
    return History(
        device=device,
        settings=row["reported"] or {},
        health=[queries.health_view(report) for report in reports],
        health_received_ms=[report["received_ms"] for report in reports],
        events=[queries.event_view(event) for event in told],
        batches=[Batch(**batch) for batch in await _bounded(connection, _batches(device, from_ms, to_ms))],
    )


def _within(table: sa.Table, device: str, from_ms: int, to_ms: int) -> sa.Select[Any]:
    moment = epochs.c.began_ms + table.c.t_ms
    return (
        sa.select(table, epochs.c.began_ms, epochs.c.quality)
        .join(epochs, (epochs.c.device == table.c.device) & (epochs.c.epoch == table.c.epoch))
        .where(table.c.device == device, moment >= from_ms, moment < to_ms)
        .order_by(table.c.epoch, table.c.seq)
    )


def _batches(device: str, from_ms: int, to_ms: int) -> sa.Select[*tuple[Any, ...]]:
    first_ms, last_ms = epochs.c.began_ms + frames.c.t0_ms, epochs.c.began_ms + frames.c.t1_ms
    size = sa.func.length(frames.c.first) + sa.func.length(frames.c.body)
    return (
        sa.select(
            first_ms.label("first_ms"),
            last_ms.label("last_ms"),
            frames.c.rows,
            size.label("bytes"),
            frames.c.received_ms,
        )
        .join(epochs, (epochs.c.device == frames.c.device) & (epochs.c.epoch == frames.c.epoch))
        .where(frames.c.device == device, last_ms >= from_ms, first_ms < to_ms)
        .order_by(frames.c.epoch, frames.c.seq)
    )


async def _bounded(connection: AsyncConnection, query: sa.Select[*tuple[Any, ...]]) -> Sequence[sa.RowMapping]:
    """The rows of a query, in full or not at all."""
    rows = (await connection.execute(query.limit(MAX_RECORDS + 1))).mappings().all()
    if len(rows) > MAX_RECORDS:
        raise BadRequest(f"more than {MAX_RECORDS} records of one kind", "ask for a shorter time")
    return rows

"""Figures of the whole fleet for the first page, and the stamps by which its poller sees that something changed."""

from collections import Counter
from collections.abc import Hashable

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices.presence import presence
from cloud.inference.tables import answers
from cloud.rollouts.tables import rollouts
from cloud.store.tables import alias_history, desired, devices, events, health, models, quarantine, streams
from contract import wire

_DAY_MS = 86_400_000


class Summary(Struct, frozen=True):
    """Counts of boards by presence, and of records."""

    boards: int
    online: int
    sleeping: int
    lost: int
    new: int
    anomalies: int
    """Received in the last 24 hours."""
    samples: int
    missing: int
    dropped: int
    quarantined: int


async def summary(connection: AsyncConnection, now_ms: int) -> Summary:
    """One pass over the boards and one over their books."""
    there = await _presences(connection, now_ms)
    books = streams.c
    totals = (
        await connection.execute(
            sa.select(
                sa.func.coalesce(sa.func.sum(sa.case((books.stream == wire.READINGS, books.received), else_=0)), 0),
                sa.func.coalesce(
                    sa.func.sum(books.high_seq - books.received - books.declared_dropped - books.set_aside), 0
                ),
                sa.func.coalesce(sa.func.sum(books.declared_dropped), 0),
            )
        )
    ).one()
    anomalies = sa.select(sa.func.count()).where(
        events.c.received_ms >= now_ms - _DAY_MS, events.c.kind == wire.EVENT_ANOMALY
    )
    waiting = sa.select(sa.func.count()).select_from(quarantine).where(quarantine.c.replayed_ms.is_(None))
    return Summary(
        boards=there.total(),
        online=there["online"],
        sleeping=there["sleeping"],
        lost=there["lost"],
        new=there["new"],
        anomalies=(await connection.execute(anomalies)).scalar_one(),
        samples=totals[0],
        missing=totals[1],
        dropped=totals[2],
        quarantined=(await connection.execute(waiting)).scalar_one(),
    )


async def running_versions(connection: AsyncConnection) -> dict[str, list[tuple[str, int]]]:
    """Model name -> [(version, boards that run it)], the version on most boards first."""
    query = (
        sa.select(devices.c.model_name, devices.c.model_version, sa.func.count().label("boards"))
        .where(devices.c.model_name != "")
        .group_by(devices.c.model_name, devices.c.model_version)
        .order_by(sa.desc("boards"), devices.c.model_version)
    )
    found: dict[str, list[tuple[str, int]]] = {}
    for name, version, boards in await connection.execute(query):
        found.setdefault(name, []).append((version, boards))
    return found


async def stamp(connection: AsyncConnection) -> Hashable:
    """Moves with every contact, event, publish and quarantined frame."""
    boards = sa.select(  # in one pass
        sa.func.max(devices.c.last_seen_ms).label("seen"),
        sa.func.max(devices.c.hello_ms).label("hello"),
        sa.func.max(devices.c.online_ms).label("online"),
        sa.func.count().label("count"),
    ).subquery()
    query = sa.select(
        *boards.c,
        sa.select(sa.func.max(events.c.received_ms)).scalar_subquery(),
        sa.select(sa.func.max(quarantine.c.id)).scalar_subquery(),
        sa.select(sa.func.max(desired.c.changed_ms)).scalar_subquery(),
        sa.select(sa.func.max(alias_history.c.id)).scalar_subquery(),
        sa.select(sa.func.count()).select_from(models).scalar_subquery(),
        sa.select(sa.func.max(rollouts.c.changed_ms)).scalar_subquery(),
    )
    return tuple((await connection.execute(query)).one())


async def device_stamp(connection: AsyncConnection, device: str) -> Hashable:
    """Moves with everything one board says and everything it is told."""
    query = (
        sa.select(
            devices.c.last_seen_ms,
            devices.c.hello_ms,
            devices.c.online_ms,
            desired.c.version,
            desired.c.published_version,
            desired.c.changed_ms,
            sa.select(sa.func.max(answers.c.answered_ms)).where(answers.c.device == device).scalar_subquery(),
        )
        .select_from(devices.outerjoin(desired, desired.c.device == devices.c.device))
        .where(devices.c.device == device)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else tuple(row)


async def _presences(connection: AsyncConnection, now_ms: int) -> Counter[str]:
    inner = health.alias()
    last = (
        sa.select(inner.c.next_contact_ms)
        .where(inner.c.device == devices.c.device)
        .order_by(inner.c.epoch.desc(), inner.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(devices.c.online, devices.c.last_seen_ms, last)
    return Counter(
        presence(now_ms, online, last_seen, announced)
        for online, last_seen, announced in await connection.execute(query)
    )

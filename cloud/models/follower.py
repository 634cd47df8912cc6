"""Keeps `desired` in step with what boards say of themselves: a HELLO can make another artifact the right one."""

import asyncio
import logging
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud.clock import now_ms
from cloud.errors import EdgewiseError
from cloud.models.desired import chunks
from cloud.models.service import Registry
from cloud.models.tables import model_runs
from cloud.store.engine import insert, writing
from cloud.store.tables import devices

_log = logging.getLogger(__name__)

_PERIOD_S = 1.0
# HELLOs are stamped before they are committed: looking this far back again misses none.
_OVERLAP_MS = 10_000


async def keep_following(engine: AsyncEngine, registry: Registry) -> None:
    """Runs until cancelled; several of them at once do no harm, and one that was killed misses nothing."""
    seen: dict[str, int] = {}
    while True:
        try:
            await follow_once(engine, registry, seen)
            await registry.make_patches()
        except (SQLAlchemyError, EdgewiseError, OSError) as error:
            _log.warning("boards' HELLOs are not followed: %s", error)
        except Exception:  # noqa: BLE001 - nobody would start this again
            _log.exception("boards' HELLOs are not followed")
        await asyncio.sleep(_PERIOD_S)


async def follow_once(engine: AsyncEngine, registry: Registry, seen: dict[str, int]) -> list[str]:
    """Reconciles the boards whose HELLO is newer than in `seen` (device -> hello_ms), which it updates."""
    # Where the clock was put back, HELLOs are older than the last one seen for a while.
    since_ms = min(max(seen.values(), default=0), now_ms()) - _OVERLAP_MS
    async with engine.connect() as connection:
        query = sa.select(devices.c.device, devices.c.hello_ms).where(devices.c.hello_ms > since_ms)
        fresh = {
            device: hello_ms
            for device, hello_ms in await connection.execute(query)
            if hello_ms is not None and seen.get(device) != hello_ms
        }
    if fresh:
        async with writing(engine).begin() as connection:
            await record_runs(connection, list(fresh))
        await registry.reconcile(list(fresh))
        seen.update(fresh)
    return list(fresh)


async def record_runs(connection: AsyncConnection, names: Sequence[str]) -> None:
    """Writes down the model each board says it runs, where it is not the one it ran before."""
    last = (
        sa.select(model_runs.c.sha8)
        .where(model_runs.c.device == devices.c.device)
        .order_by(model_runs.c.since_ms.desc())
        .limit(1)
        .scalar_subquery()
    )
    said = sa.func.coalesce(devices.c.model_sha8, "")
    for part in chunks(names):
        query = sa.select(
            devices.c.device,
            devices.c.hello_ms.label("since_ms"),
            said.label("sha8"),
            sa.func.coalesce(devices.c.model_name, "").label("name"),
            sa.func.coalesce(devices.c.model_version, "").label("version"),
        ).where(devices.c.device.in_(part), last.is_(None) | (last != said))
        changed = [dict(row) for row in (await connection.execute(query)).mappings()]
        if changed:
            await connection.execute(insert(model_runs, connection.dialect).on_conflict_do_nothing(), changed)

"""Keeps `desired` in step with what boards say of themselves: a HELLO can make another artifact the right one."""

import asyncio
import logging

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

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
        except (SQLAlchemyError, OSError) as error:
            _log.warning("boards' HELLOs are not followed: %s", error)
        await asyncio.sleep(_PERIOD_S)


async def follow_once(engine: AsyncEngine, registry: Registry, seen: dict[str, int]) -> list[str]:
    """Reconciles the boards whose HELLO is newer than in `seen` (device -> hello_ms), which it updates."""
    since_ms = max(seen.values(), default=0) - _OVERLAP_MS
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


async def record_runs(connection: AsyncConnection, names: list[str]) -> None:
    """Writes down the model each board says it runs, where it is not the one it ran before."""
    for name in names:
        row = (
            await connection.execute(
                sa.select(
                    devices.c.hello_ms, devices.c.model_sha8, devices.c.model_name, devices.c.model_version
                ).where(devices.c.device == name)
            )
        ).one()
        last = sa.select(model_runs.c.sha8).where(model_runs.c.device == name)
        last = last.order_by(model_runs.c.since_ms.desc()).limit(1)
        sha8 = row.model_sha8 or ""
        if (await connection.execute(last)).scalar_one_or_none() != sha8:
            statement = insert(model_runs, connection.dialect).values(
                device=name,
                since_ms=row.hello_ms,
                sha8=sha8,
                name=row.model_name or "",
                version=row.model_version or "",
            )
            await connection.execute(statement.on_conflict_do_nothing())

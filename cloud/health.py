"""Is the process alive, and can it do its work: /health/live and /health/ready."""

import asyncio
from typing import Any

import sqlalchemy as sa
from litestar import Response, get
from litestar.datastructures import State
from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.clock import now_ms
from cloud.settings import Settings
from cloud.store.tables import services

_CHECK_SECONDS = 2.0
# Ingest beats once a second: this many missed beats mean that nothing is being taken in.
_STALE_BEAT_MS = 5_000


class Check(Struct, frozen=True):
    """One thing the server needs."""

    name: str
    ok: bool
    detail: str


class Readiness(Struct, frozen=True):
    """Ready when every check is ok."""

    ready: bool
    checks: list[Check]


@get("/health/live", tags=["Operation"], summary="The process answers")
async def live() -> dict[str, str]:
    """200 as long as the web process runs; it looks at nothing else."""
    return {"status": "live"}


@get("/health/ready", tags=["Operation"], summary="Everything needed is there")
async def ready(state: State) -> Response[Any]:
    """200 when database, broker and ingest work, else 503 with the reason of each that does not."""
    settings: Settings = state.settings
    checks = await asyncio.gather(_database(state.engine), _broker(settings), _ingest(state.engine))
    good = all(check.ok for check in checks)
    return Response(Readiness(good, list(checks)), status_code=200 if good else 503)


async def _database(engine: AsyncEngine) -> Check:
    try:
        async with asyncio.timeout(_CHECK_SECONDS), engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return Check("database", False, _say(error))
    return Check("database", True, "")


async def _broker(settings: Settings) -> Check:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            _, writer = await asyncio.open_connection(settings.mqtt_host, settings.mqtt_port)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        return Check("broker", False, _say(error))
    return Check("broker", True, "")


async def _ingest(engine: AsyncEngine) -> Check:
    try:
        async with asyncio.timeout(_CHECK_SECONDS), engine.connect() as connection:
            query = sa.select(services.c.beat_ms, services.c.ready).where(services.c.service == "ingest")
            row = (await connection.execute(query)).one_or_none()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return Check("ingest", False, _say(error))
    if row is None:
        return Check("ingest", False, "it has never run")
    age_ms = now_ms() - row.beat_ms
    if age_ms > _STALE_BEAT_MS:
        return Check("ingest", False, f"last heartbeat {age_ms // 1000} s ago")
    return Check("ingest", row.ready, "" if row.ready else "it is not connected yet")


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]

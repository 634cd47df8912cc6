"""Frames in quarantine: listed, shown with their bytes, taken once more. Ingest does the taking (ingest/replay.py)."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.clock import now_ms
from cloud.errors import Conflict, NotFound
from cloud.store.engine import writing
from cloud.store.tables import quarantine

MAX_FRAMES = 1_000


class Frame(msgspec.Struct, frozen=True):
    """One frame that was set aside. `size_bytes` is as it came; quarantine keeps the first 8 kB."""

    id: int
    device: str
    topic: str
    reason: str
    detail: str
    size_bytes: int
    received_ms: int
    replay_asked_ms: int | None
    replayed_ms: int | None


class FrameBytes(msgspec.Struct, frozen=True):
    """A frame with its payload in hex."""

    frame: Frame
    payload: str


_COLUMNS = (
    quarantine.c.id,
    quarantine.c.device,
    quarantine.c.topic,
    quarantine.c.reason,
    quarantine.c.detail,
    quarantine.c.size,
    quarantine.c.received_ms,
    quarantine.c.replay_asked_ms,
    quarantine.c.replayed_ms,
)


async def list_frames(
    engine: AsyncEngine, device: str | None = None, before: int | None = None, limit: int = 100
) -> list[Frame]:
    """The newest first; `before` is the id to go on from."""
    query = sa.select(*_COLUMNS).order_by(quarantine.c.id.desc()).limit(min(limit, MAX_FRAMES))
    if device is not None:
        query = query.where(quarantine.c.device == device)
    if before is not None:
        query = query.where(quarantine.c.id < before)
    async with engine.connect() as connection:
        return [Frame(*row) for row in await connection.execute(query)]


async def show_frame(engine: AsyncEngine, frame_id: int) -> FrameBytes:
    """Raises NotFound."""
    query = sa.select(quarantine.c.payload, *_COLUMNS).where(quarantine.c.id == frame_id)
    async with engine.connect() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _unknown(frame_id)
    return FrameBytes(Frame(*row[1:]), row[0].hex())


async def ask_replay(engine: AsyncEngine, frame_id: int) -> Frame:
    """Has ingest take a frame once more, within a second. Raises NotFound, Conflict for one that is cut."""
    async with writing(engine).begin() as connection:
        query = sa.select(quarantine.c.size, sa.func.length(quarantine.c.payload)).where(quarantine.c.id == frame_id)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise _unknown(frame_id)
        if row[0] != row[1]:
            raise Conflict(f"frame {frame_id} was too large to be kept whole", "it cannot be replayed")
        change = sa.update(quarantine).where(quarantine.c.id == frame_id)
        change = change.values(replay_asked_ms=now_ms(), replayed_ms=None).returning(*_COLUMNS)
        return Frame(*(await connection.execute(change)).one())


def _unknown(frame_id: int) -> NotFound:
    return NotFound(f"no frame {frame_id}", "`edgewise frames list` shows those there are")

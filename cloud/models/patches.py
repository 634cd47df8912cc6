"""Which patches there are: made before boards are told of a version, kept as blobs, bounded in number.

A patch leads from what a board runs to what it shall run. Right after a publish they are made from the artifacts that
most boards run; what is missing when a board is told something else is made by the follower. Boards that were told
before their patch was there get their WANT again. A pair for which no patch is shorter is written down too.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.clock import now_ms
from cloud.errors import BlobCorrupt, BlobMissing
from cloud.models import patching
from cloud.models.blobs import Blobs
from cloud.models.tables import patches
from cloud.store.engine import insert, writing
from cloud.store.tables import artifacts, desired, devices

_log = logging.getLogger(__name__)

MOST_BASES = 8  # of one artifact, those that most boards run
MOST_PATCHES = 2000  # of a server; the oldest go first
_AT_ONCE = 4

Pair = tuple[str, str]  # base sha256, target sha256; hex


async def prepare(engine: AsyncEngine, blobs: Blobs, targets: Sequence[str]) -> int:
    """Makes the patches to these artifacts from what boards run that follow the same model; returns how many."""
    running = sa.select(devices.c.model_sha8.label("sha8"), sa.func.count().label("boards")).group_by("sha8").subquery()
    of, to = artifacts.alias(), artifacts.alias()
    query = (
        sa.select(of.c.sha256, to.c.sha256)
        .select_from(to.join(of, (of.c.name == to.c.name) & (of.c.format == to.c.format) & (of.c.arch == to.c.arch)))
        .join(running, running.c.sha8 == sa.func.substr(of.c.sha256, 1, 16))
        .where(to.c.sha256.in_(targets), of.c.sha256 != to.c.sha256)
        .order_by(running.c.boards.desc())
        .limit(MOST_BASES * len(targets))
    )
    return await _make(engine, blobs, await _missing(engine, query))


async def catch_up(engine: AsyncEngine, blobs: Blobs) -> int:
    """Makes patches that boards wait for and nobody has tried to make, a few at a time; returns how many."""
    of = artifacts.alias()
    query = (
        sa.select(of.c.sha256, desired.c.artifact_sha256)
        .select_from(desired.join(devices, devices.c.device == desired.c.device))
        .join(artifacts, artifacts.c.sha256 == desired.c.artifact_sha256)
        .join(of, (sa.func.substr(of.c.sha256, 1, 16) == devices.c.model_sha8) & (of.c.sha256 != artifacts.c.sha256))
        .where(of.c.format == artifacts.c.format, of.c.arch == artifacts.c.arch)
        .distinct()
    )
    return await _make(engine, blobs, (await _missing(engine, query))[:_AT_ONCE])


async def _missing(engine: AsyncEngine, pairs: sa.Select[Any, Any]) -> list[Pair]:
    async with engine.connect() as connection:
        wanted: list[Pair] = [(row[0], row[1]) for row in await connection.execute(pairs)]
        known = sa.select(patches.c.base_sha8, patches.c.target_sha256)
        tried = {(row[0], row[1]) for row in await connection.execute(known)}
    return [(base, target) for base, target in wanted if (base[:16], target) not in tried]


async def _make(engine: AsyncEngine, blobs: Blobs, pairs: Sequence[Pair]) -> int:
    """Makes and keeps patches, and has the WANT of boards that could use one sent again; returns how many."""
    made = 0
    for base, target in pairs:
        try:
            before, after = await blobs.get(base), await blobs.get(target)
        except (BlobMissing, BlobCorrupt) as error:
            _log.error("no patch from=%s to=%s cause=%s", base[:16], target[:16], type(error).__name__)
            continue
        found = await asyncio.to_thread(patching.make, before, after)
        digest = await blobs.put(found.data) if found else None  # first: a row never names bytes that are not there
        row = {
            "base_sha8": base[:16],
            "target_sha256": target,
            "patch_sha256": digest,
            "size": len(found.data) if found else 0,
            "method": found.method if found else "",
            "created_ms": now_ms(),
        }
        async with writing(engine).begin() as connection:
            await connection.execute(insert(patches, connection.dialect).values(row).on_conflict_do_nothing())
            kept = sa.select(patches.c.created_ms).order_by(patches.c.created_ms.desc()).offset(MOST_PATCHES).limit(1)
            await connection.execute(sa.delete(patches).where(patches.c.created_ms <= kept.scalar_subquery()))
            if found:
                made += 1
                waiting = sa.select(devices.c.device).where(devices.c.model_sha8 == base[:16])
                again = sa.update(desired).where(desired.c.artifact_sha256 == target, desired.c.device.in_(waiting))
                await connection.execute(again.values(version=desired.c.version + 1))
    return made

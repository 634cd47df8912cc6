"""Which patches there are: made before boards are told of a version, kept as blobs, bounded in number.

A patch leads from what a board runs to what it shall run. Right after a publish they are made from the artifacts that
most boards run; what is missing when a board is told something else is made by the follower. Boards that were told
before their patch was there get their WANT again. One from NO_BASE, the artifact deflated, is there from the publish
on, and serves boards that run anything else. A pair for which no patch is shorter is written down too.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud.clock import now_ms
from cloud.errors import BlobCorrupt, BlobMissing
from cloud.models import patching
from cloud.models.blobs import Blobs
from cloud.models.tables import NO_BASE, patches
from cloud.store.engine import insert, writing
from cloud.store.tables import artifacts, desired, devices

_log = logging.getLogger(__name__)

MOST_BASES = 8  # of one artifact, those that most boards run
MOST_PATCHES = 2000  # of a server; the oldest go first
_AT_ONCE = 4

Pair = tuple[str, str]  # base sha256 or NO_BASE, target sha256; hex


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
    # Few pairs however many boards: a join of each of them with every artifact takes a tenth of a second for 10,000.
    differ = (
        sa.select(desired.c.artifact_sha256.label("target"), devices.c.model_sha8.label("base"))
        .join(devices, devices.c.device == desired.c.device)
        .where(devices.c.model_sha8 != sa.func.substr(desired.c.artifact_sha256, 1, 16))
        .distinct()
        .subquery()
    )
    query = (
        sa.select(of.c.sha256, differ.c.target)
        .join(artifacts, artifacts.c.sha256 == differ.c.target)
        .join(of, sa.func.substr(of.c.sha256, 1, 16) == differ.c.base)
        .where(of.c.format == artifacts.c.format, of.c.arch == artifacts.c.arch)
    )
    wanted = sa.select(desired.c.artifact_sha256).where(desired.c.artifact_sha256.is_not(None))
    alone = sa.select(sa.literal(NO_BASE), artifacts.c.sha256).where(artifacts.c.sha256.in_(wanted))
    missing = await _missing(engine, query) + await _missing(engine, alone)
    return await _make(engine, blobs, missing[:_AT_ONCE])


async def deflate(blobs: Blobs, target: str, data: bytes) -> dict[str, Any]:
    """The row of `patches` from NO_BASE to an artifact, its blob stored."""
    return await _keep(blobs, NO_BASE, target, await asyncio.to_thread(patching.deflate, data))


async def add(connection: AsyncConnection, blobs: Blobs, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows of `patches` down, but not those that are there, nor those whose bytes a collection took meanwhile:
    these are made again."""
    stored = [row for row in rows if row["patch_sha256"] is None or await blobs.has(row["patch_sha256"])]
    if stored:
        await connection.execute(insert(patches, connection.dialect).on_conflict_do_nothing(), stored)


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
            after = await blobs.get(target)
            before = None if base == NO_BASE else await blobs.get(base)
        except (BlobMissing, BlobCorrupt) as error:
            _log.error("no patch from=%s to=%s cause=%s", base[:16], target[:16], type(error).__name__)
            continue
        if before is None:
            row = await deflate(blobs, target, after)
        else:
            row = await _keep(blobs, base[:16], target, await asyncio.to_thread(patching.make, before, after))
        async with writing(engine).begin() as connection:
            await add(connection, blobs, [row])
            kept = sa.select(patches.c.created_ms).order_by(patches.c.created_ms.desc()).offset(MOST_PATCHES).limit(1)
            await connection.execute(sa.delete(patches).where(patches.c.created_ms <= kept.scalar_subquery()))
            if row["patch_sha256"] is None:
                continue
            made += 1
            if base != NO_BASE:  # ... those that wait do without, and one that refused must not be made to try again
                waiting = sa.select(devices.c.device).where(devices.c.model_sha8 == base[:16])
                again = sa.update(desired).where(desired.c.artifact_sha256 == target, desired.c.device.in_(waiting))
                await connection.execute(again.values(version=desired.c.version + 1))
    return made


async def _keep(blobs: Blobs, base: str, target: str, found: patching.Patch | None) -> dict[str, Any]:
    return {
        "base_sha8": base,
        "target_sha256": target,
        "patch_sha256": await blobs.put(found.data) if found else None,  # first: a row never names bytes not there
        "size": len(found.data) if found else 0,
        "method": found.method if found else "",
        "created_ms": now_ms(),
    }

"""What goes down to boards besides ACKs: pieces of artifacts they ask for, and what they shall become.

FETCH is answered at most at ARTIFACT_BYTES_PER_S a board, from blobs held in memory; a FETCH beyond that, or of a blob
that the store has not given yet, gets no answer, and the board asks again. WANT comes from the `desired` table, which
is an outbox: rows whose `version` is higher than `published_version` are published (QoS 1, retained) and then marked,
so a crash in between publishes twice and never not at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud import wire_types as w
from cloud.clock import now_ms
from cloud.errors import BlobCorrupt, BlobMissing, Unavailable
from cloud.ingest.mqtt import Link
from cloud.models.blobs import Blobs
from cloud.models.tables import NO_BASE, key_statements, leaves, patches
from cloud.store.engine import writing
from cloud.store.tables import artifacts, commands, desired, devices
from contract import wire

log = logging.getLogger("ingest")

ARTIFACT_BYTES_PER_S = 65_536
READ_S = 1.0
"""How long a batch of messages waits for a blob. A store that takes longer goes on reading meanwhile."""
_BURST_BYTES = 16 * wire.MAX_CHUNK_BYTES
_MAX_DEVICES = 20_000
_WANTS_AT_ONCE = 200
_FORMAT_CODES = {name: code for code, name in wire.FORMAT_NAMES.items()}


class Chunks:
    """Answers FETCH."""

    def __init__(self, engine: AsyncEngine, blobs: Blobs, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._blobs = blobs
        self._clock = clock
        self._digests: dict[bytes, str] = {}
        self._allowance: OrderedDict[str, tuple[float, float]] = OrderedDict()  # device -> (bytes left, when)
        self._reads: dict[str, asyncio.Task[bytes]] = {}  # of artifacts that somebody asked for and the store holds

    async def answer(self, device: str, fetch: w.Fetch) -> bytes | None:
        """The CHUNK for a FETCH: empty when this artifact is not served; None when the board has to wait."""
        if not self._allowed(device, fetch.length):
            return None
        try:
            data = await self._artifact(fetch.sha8)
        except Unavailable:
            return None
        if data is None:
            return w.encode(w.Chunk(fetch.sha8, fetch.offset, b"", 0))
        piece = data[fetch.offset : fetch.offset + fetch.length]
        return w.encode(w.Chunk(fetch.sha8, fetch.offset, piece, len(data)))

    async def _artifact(self, sha8: bytes) -> bytes | None:
        digest = self._digests.get(sha8)
        if digest is None:
            low = sha8.hex()
            found = [
                sa.select(column).where(column.between(low, low + "g"))
                for column in (artifacts.c.sha256, patches.c.patch_sha256)
            ]
            async with self._engine.connect() as connection:
                digest = (await connection.execute(sa.union_all(*found).limit(1))).scalar_one_or_none()
            if digest is None:
                return None
            self._digests[sha8] = digest
        try:
            return self._blobs.in_memory(digest) or await self._read(digest)
        except (BlobMissing, BlobCorrupt) as error:
            log.error("artifact not served sha256=%s cause=%s", digest, type(error).__name__)
            return None

    async def _read(self, digest: str) -> bytes:
        """The blob, read once for all who ask meanwhile. Raises Unavailable while it is being read."""
        reading = self._reads.get(digest)
        if reading is None:
            reading = self._reads[digest] = asyncio.create_task(self._blobs.get(digest))
            reading.add_done_callback(lambda done: self._done(digest, done))
            await asyncio.wait([reading], timeout=READ_S)
        if not reading.done():
            raise Unavailable(f"blob {digest} is being read")
        return reading.result()

    def _done(self, digest: str, reading: asyncio.Task[bytes]) -> None:
        del self._reads[digest]
        if not reading.cancelled() and isinstance(error := reading.exception(), Unavailable):
            log.warning("no artifact sha256=%s cause=%r", digest, error.cause)

    def _allowed(self, device: str, n_bytes: int) -> bool:
        now = self._clock()
        left, since = self._allowance.pop(device, (float(_BURST_BYTES), now))
        left = min(float(_BURST_BYTES), left + (now - since) * ARTIFACT_BYTES_PER_S)
        allowed = left >= n_bytes
        self._allowance[device] = (left - n_bytes if allowed else left, now)
        if len(self._allowance) > _MAX_DEVICES:
            self._allowance.popitem(last=False)
        return allowed


async def publish_wants(engine: AsyncEngine, link: Link, names: Sequence[str] | None = None) -> int:
    """Publishes the WANTs that are due, or those of `names` in any case; returns how many. Raises LinkLost."""
    if names is None:
        return await _publish(engine, link, desired.c.version > desired.c.published_version)
    count = 0
    for at in range(0, len(names), _WANTS_AT_ONCE):
        count += await _publish(engine, link, desired.c.device.in_(names[at : at + _WANTS_AT_ONCE]))
    return count


async def _publish(engine: AsyncEngine, link: Link, which: sa.ColumnElement[bool]) -> int:
    deflated = patches.alias("deflated")
    beside = artifacts.alias("beside")
    query = (
        sa.select(
            desired,
            artifacts.c.manifest,
            artifacts.c.size,
            beside.c.manifest.label("shadow_manifest"),
            beside.c.size.label("shadow_size"),
            devices.c.sequence,
            devices.c.model_sha8,
            leaves.c.data.label("leave"),
            patches.c.patch_sha256,
            patches.c.size.label("patch_size"),
            deflated.c.patch_sha256.label("deflated_sha256"),
            deflated.c.size.label("deflated_size"),
        )
        .join(devices, devices.c.device == desired.c.device)
        .outerjoin(artifacts, artifacts.c.sha256 == desired.c.artifact_sha256)
        .outerjoin(beside, beside.c.sha256 == desired.c.shadow_sha256)
        .outerjoin(leaves, leaves.c.sha256 == desired.c.artifact_sha256)
        .outerjoin(
            patches,
            (patches.c.target_sha256 == desired.c.artifact_sha256)
            & (patches.c.base_sha8 == devices.c.model_sha8)
            & (patches.c.base_sha8 != NO_BASE),
        )
        .outerjoin(
            deflated,
            (deflated.c.target_sha256 == desired.c.artifact_sha256) & (deflated.c.base_sha8 == NO_BASE),
        )
        .where(which)
        .limit(_WANTS_AT_ONCE)
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).mappings().all()
        said = await _statements(connection, rows)
    if not rows:
        return 0
    await asyncio.gather(
        *(
            link.publish(wire.topic(row["device"], wire.KIND_WANT), w.encode(want(row, said)), retain=True)
            for row in rows
        )
    )
    async with writing(engine).begin() as connection:
        await connection.execute(_PUBLISHED, [{"b_device": row["device"], "b_version": row["version"]} for row in rows])
    return len(rows)


async def send_commands(engine: AsyncEngine, link: Link) -> int:
    """Sends the commands that were not sent yet, oldest first; returns how many. Raises LinkLost.

    Those of a board that never said HELLO stay: without its subscription the broker would drop them.
    """
    query = (
        sa.select(commands)
        .join(devices, devices.c.device == commands.c.device)
        .where(commands.c.sent_ms.is_(None), devices.c.epoch.is_not(None))
        .order_by(commands.c.id)
        .limit(_WANTS_AT_ONCE)
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    if not rows:
        return 0
    for row in rows:
        message = w.encode(w.Do(row.id, row.verb, tuple(row.args)))
        await link.publish(wire.topic(row.device, wire.KIND_DO), message, retain=False)
    async with writing(engine).begin() as connection:
        sent = sa.update(commands).where(commands.c.id.in_([row.id for row in rows])).values(sent_ms=now_ms())
        await connection.execute(sent)
    return len(rows)


_PUBLISHED = (
    sa.update(desired)
    .where(desired.c.device == sa.bindparam("b_device"), desired.c.published_version < sa.bindparam("b_version"))
    .values(published_version=sa.bindparam("b_version"))
)


async def _statements(connection: AsyncConnection, rows: Sequence[sa.RowMapping]) -> dict[int, bytes]:
    """The statements of publishers that these rows name, by id."""
    ids = {number for row in rows for number in row["statement_ids"]}
    if not ids:
        return {}
    query = sa.select(key_statements.c.id, key_statements.c.data).where(key_statements.c.id.in_(ids))
    return {row.id: row.data for row in await connection.execute(query)}


def want(row: sa.RowMapping, said: Mapping[int, bytes]) -> w.Want:
    """The message of a row of `desired` joined with its artifacts, the board's patch and the publisher's leave."""
    manifest, beside = row["manifest"], row["shadow_manifest"]
    model = shadow = None
    if manifest is not None:
        leave = row["leave"] if row["leave"] and manifest["sequence"] < (row["sequence"] or 0) else b""
        model = _offer(manifest, row["artifact_sha256"], row["size"], leave, *_patch(row))
    if beside is not None:
        shadow = _offer(beside, row["shadow_sha256"], row["shadow_size"])
    statements = tuple(said[number] for number in row["statement_ids"] if number in said)
    return w.Want(row["version"], row["config"], model, row["local_version"], statements, shadow)


def _offer(manifest: Mapping[str, Any], sha256: str, size: int, *more: Any) -> w.Offer:
    """`more`: the fields of an offer from `leave` on."""
    return w.Offer(
        manifest["name"],
        manifest["version"],
        manifest["sequence"],
        bytes.fromhex(sha256),
        size,
        _FORMAT_CODES[manifest["format"]],
        manifest["arch"],
        *more,
    )


def _patch(row: sa.RowMapping) -> tuple[bytes | None, int, bytes | None]:
    """Patch, size and base for an offer: what starts from the board's model, or what starts from none if shorter."""
    found = [
        (row["patch_size"], row["patch_sha256"], row["model_sha8"]),
        (row["deflated_size"], row["deflated_sha256"], NO_BASE),
    ]
    size, digest, base = min((one for one in found if one[1]), key=lambda one: one[0], default=(0, "", NO_BASE))
    return bytes.fromhex(digest)[:8] or None, size, bytes.fromhex(base) or None

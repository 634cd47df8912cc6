"""The registry: publish, promote, assign, list, delete. Each change is one transaction, with its history."""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud.clock import now_ms
from cloud.errors import BadArtifact, BadRequest, Conflict, NotFound, Unavailable
from cloud.models import desired as outbox
from cloud.models import keys, patches, statements
from cloud.models.blobs import Blobs
from cloud.models.intake import COMMON, COMMON_OF_STAND_INS, Checked, Submission, check, describe
from cloud.models.manifests import to_json
from cloud.models.queries import find_version
from cloud.models.views import Announced, Board, Deployed
from cloud.store.engine import insert, writing
from cloud.store.tables import alias_history, aliases, artifacts, devices, models

_log = logging.getLogger(__name__)

ALIASES = (outbox.CHAMPION, "challenger", "reference")
OPERATOR = "operator"

_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a version is for. Parsed from `none`, `all`, `kind:<kind>` or device ids separated by commas."""

    champion: bool = False  # all boards that follow the model: the version becomes its champion
    kind: str = ""
    devices: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Audience":
        """Raises BadRequest."""
        if text in ("", "none"):
            return cls()
        if text == "all":
            return cls(champion=True)
        if text.startswith("kind:"):
            return cls(kind=text.removeprefix("kind:"))
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
        if "" in names:
            raise BadRequest(f"`to` is {text!r}", "give all, none, kind:<kind> or device ids separated by commas")
        return cls(devices=names)


class Registry:
    """Everything that changes models or what boards are told to run."""

    def __init__(self, engine: AsyncEngine, blobs: Blobs) -> None:
        self._engine = engine
        self._writing = writing(engine)
        self._blobs = blobs

    async def publish(self, files: Sequence[bytes], cards: Sequence[bytes], to: Audience, note: str = "") -> Deployed:
        """Adds the artifacts of one version and tells `to` to run it, all or nothing.

        The same bytes again change nothing. Raises BadArtifact, BadRequest, Conflict (another artifact for the same
        target, or a sequence that does not rise) and NotFound (a device that does not exist).
        """
        async with self._engine.connect() as connection:
            trusted = await keys.trusted(connection)
        submission = await asyncio.to_thread(check, files, cards, trusted)  # a large blob takes a third of a second
        if not _MODEL_NAME.fullmatch(submission.manifest.name):
            raise BadArtifact(
                f"model name {submission.manifest.name!r}",
                "use 1 to 32 of a-z, 0-9, '.', '_' and '-', and export again",
            )
        contents = (*(item.data for item in submission.artifacts), *submission.cards)
        stored = {await self._blobs.put(data): data for data in contents}  # a row never names bytes that are not there
        deflated = [await patches.deflate(self._blobs, item.sha256, item.data) for item in submission.artifacts]
        name, version = submission.manifest.name, submission.manifest.version
        now = now_ms()
        async with self._writing.begin() as connection:
            still = await keys.trusted(connection)
            for item in submission.artifacts:
                if item.key_id not in still:
                    raise BadArtifact(f"key {item.key_id} was revoked meanwhile", "sign with a key that is trusted")
            await _add_version(connection, submission, now)
            added = [item.sha256 for item in submission.artifacts if await _add_artifact(connection, item, now)]
            for digest, data in stored.items():
                if not await self._blobs.has(digest):  # it lay there unnamed, and a collection took it meanwhile
                    await self._blobs.put(data)
            # With the version: the first WANT that tells of it names them.
            await patches.add(connection, self._blobs, deflated)
            boards = await self._deploy(connection, name, version, to, note, now)
        try:
            await patches.prepare(self._engine, self._blobs, added)
        except Unavailable as error:
            _log.warning("no patches to %s %s yet: %s", name, version, error)  # the follower makes them
        return Deployed(name, version, added, boards)

    async def make_patches(self) -> int:
        """Makes patches that boards wait for; see patches.catch_up."""
        return await patches.catch_up(self._engine, self._blobs)

    async def promote(self, name: str, version: str, alias: str, note: str = "") -> Deployed:
        """Moves an alias; boards that follow the champion are told in the same transaction."""
        if alias not in ALIASES:
            raise BadRequest(f"alias {alias!r}", f"use {' or '.join(ALIASES)}")
        now = now_ms()
        async with self._writing.begin() as connection:
            await find_version(connection, name, version)
            await set_alias(connection, name, alias, version, note, now)
            boards = await _reconciled(connection, now) if alias == outbox.CHAMPION else []
        return Deployed(name, version, [], boards)

    async def note(self, name: str, version: str, text: str) -> None:
        """What is to be said of a version, instead of what was; the version itself does not change."""
        async with self._writing.begin() as connection:
            await find_version(connection, name, version)
            of = (models.c.name == name) & (models.c.version == version)
            await connection.execute(sa.update(models).where(of).values(note=text))

    async def deploy(self, name: str, version: str, to: Audience, note: str = "") -> Deployed:
        """Tells boards to run a version that is in the registry."""
        async with self._writing.begin() as connection:
            await find_version(connection, name, version)
            boards = await self._deploy(connection, name, version, to, note, now_ms())
        return Deployed(name, version, [], boards)

    async def follow(self, device: str) -> list[Board]:
        """Unpins a board: it follows the champion of its model again."""
        async with self._writing.begin() as connection:
            await _require_devices(connection, [device])
            await outbox.require_free(connection, [device])
            await outbox.release(connection, [device])
            return await _reconciled(connection, now_ms(), [device])

    async def announce(self, data: bytes) -> Announced:
        """Takes a publisher's statement and tells the boards it concerns; see statements.announce."""
        now = now_ms()
        async with self._writing.begin() as connection:
            done = await statements.announce(connection, data, now)
            await _reconciled(connection, now)
        return done

    async def reconcile(self, only: Sequence[str] | None = None) -> list[Board]:
        """Works out again what the boards should run, for instance after a HELLO."""
        async with self._writing.begin() as connection:
            return await _reconciled(connection, now_ms(), only)

    async def _deploy(
        self, connection: AsyncConnection, name: str, version: str, to: Audience, note: str, now: int
    ) -> list[Board]:
        if to.champion:
            await set_alias(connection, name, outbox.CHAMPION, version, note, now)
            return await _reconciled(connection, now)
        names: Sequence[str] = to.devices
        if to.kind:
            rows = await connection.execute(sa.select(devices.c.device).where(devices.c.kind == to.kind))
            names = list(rows.scalars())
            if not names:
                raise NotFound(f"no board of kind {to.kind!r}", "`edgewise device list` shows the kinds")
        await _require_devices(connection, names)
        await outbox.require_free(connection, names)
        await outbox.assign(connection, names, name, version, OPERATOR, now)
        return await _reconciled(connection, now, names)


async def set_alias(
    connection: AsyncConnection, name: str, alias: str, version: str, note: str, now_ms: int
) -> str | None:
    """Points an alias to a version and writes its history; returns where it pointed before."""
    found = await connection.execute(
        sa.select(aliases.c.version).where(aliases.c.name == name, aliases.c.alias == alias).with_for_update()
    )
    previous = found.scalar_one_or_none()
    if previous == version:
        return previous
    statement = insert(aliases, connection.dialect).values(name=name, alias=alias, version=version, changed_ms=now_ms)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name", "alias"], set_={"version": version, "changed_ms": now_ms}
        )
    )
    await connection.execute(
        sa.insert(alias_history).values(
            name=name, alias=alias, version=version, previous=previous, note=note, changed_ms=now_ms
        )
    )
    return previous


async def _add_version(connection: AsyncConnection, submission: Submission, now: int) -> None:
    manifest = submission.manifest
    of_name = models.c.name == manifest.name
    found = (
        (await connection.execute(sa.select(models).where(of_name, models.c.version == manifest.version)))
        .mappings()
        .one_or_none()
    )
    if found is not None:
        await _extend_version(connection, found, submission)
        return
    if manifest.rung:
        raise BadArtifact(
            f"{describe(manifest)} stands in for {manifest.name} {manifest.version}, which is not there",
            "publish the version itself first, or with it",
        )
    highest = (await connection.execute(sa.select(sa.func.max(models.c.sequence)).where(of_name))).scalar()
    if highest is not None and manifest.sequence <= highest:
        raise Conflict(
            f"sequence {manifest.sequence} does not rise: {manifest.name} has reached {highest}",
            f"export again with --sequence {highest + 1} or more",
        )
    await connection.execute(
        sa.insert(models).values(
            name=manifest.name,
            version=manifest.version,
            sequence=manifest.sequence,
            schema=manifest.schema,
            schema_hash=manifest.schema_hash.hex(),
            detector=manifest.detector,
            threshold=manifest.threshold,
            margin=manifest.margin,
            card=submission.card,
            created_ms=now,
        )
    )


async def _extend_version(connection: AsyncConnection, found: sa.RowMapping, submission: Submission) -> None:
    """More artifacts of a version that exists: they must say the same of it."""
    manifest = submission.manifest
    for field in COMMON_OF_STAND_INS[2:] if manifest.rung else COMMON[2:]:
        if found[field] != getattr(manifest, field):
            raise Conflict(
                f"{manifest.name} {manifest.version} exists with another {field}",
                "versions never change: export under a new version",
            )
    there = sa.select(artifacts.c.manifest).where(
        artifacts.c.name == manifest.name, artifacts.c.version == manifest.version
    )
    if (await connection.execute(there.limit(1))).scalar_one()["class"] != manifest.artifact_class:
        raise Conflict(
            f"{manifest.name} {manifest.version} exists and is not a {manifest.artifact_class}",
            "a version may decide, or only score in the shadow: export under a new version",
        )
    if submission.card and not found["card"]:
        await connection.execute(
            sa.update(models)
            .where(models.c.name == manifest.name, models.c.version == manifest.version)
            .values(card=submission.card)
        )


async def _add_artifact(connection: AsyncConnection, item: Checked, now: int) -> bool:
    """True when the artifact is new, False when these very bytes are there; raises Conflict."""
    manifest = item.manifest
    found = await connection.execute(
        sa.select(artifacts.c.sha256).where(
            artifacts.c.name == manifest.name,
            artifacts.c.version == manifest.version,
            artifacts.c.arch == manifest.arch,
            artifacts.c.abi == manifest.abi,
            artifacts.c.format == manifest.format,
            artifacts.c.rung == manifest.rung,
        )
    )
    stored = found.scalar_one_or_none()
    if stored == item.sha256:
        return False
    if stored is not None:
        raise Conflict(
            f"{manifest.name} {manifest.version} for {describe(manifest)} exists with other bytes ({stored[:16]})",
            "versions never change: export under a new version",
        )
    await connection.execute(
        sa.insert(artifacts).values(
            sha256=item.sha256,
            name=manifest.name,
            version=manifest.version,
            arch=manifest.arch,
            abi=manifest.abi,
            format=manifest.format,
            rung=manifest.rung,
            size=len(item.data),
            key_id=item.key_id,
            manifest=to_json(manifest),
            created_ms=now,
        )
    )
    return True


async def _reconciled(connection: AsyncConnection, now: int, only: Sequence[str] | None = None) -> list[Board]:
    changes = await outbox.reconcile(connection, now, only)
    return [Board(change.device, change.sha256, change.why) for change in changes]


async def _require_devices(connection: AsyncConnection, names: Sequence[str]) -> None:
    known: set[str] = set()
    for part in outbox.chunks(names):
        known |= set(await connection.scalars(sa.select(devices.c.device).where(devices.c.device.in_(part))))
    missing = [name for name in names if name not in known]
    if missing:
        raise NotFound(f"no device {', '.join(missing[:5])}", "`edgewise device list` shows them")

"""What the registry knows, read only."""

from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices.queries import named
from cloud.errors import NotFound
from cloud.models.intake import describe
from cloud.models.manifests import from_json
from cloud.models.tables import deployments, model_runs
from cloud.models.views import AliasChange, Artifact, ModelRun, Trace, Version, VersionDetail
from cloud.store.tables import alias_history, aliases, artifacts, desired, devices, epochs, events, models, updates
from contract import wire

_MAX_BOARDS = 1000


async def list_versions(connection: AsyncConnection, name: str | None = None) -> list[Version]:
    """Every version, by name, the newest first."""
    query = sa.select(models).order_by(models.c.name, models.c.sequence.desc())
    if name is not None:
        query = query.where(models.c.name == name)
    rows = (await connection.execute(query)).mappings().all()
    if name is not None and not rows:
        raise NotFound(f"no model {name}", "`edgewise model list` shows the names")
    facts = await _facts(connection)
    return [_version(row, facts) for row in rows]


async def show_version(connection: AsyncConnection, name: str, version: str) -> VersionDetail:
    """Raises NotFound."""
    row = await find_version(connection, name, version)
    found = await connection.execute(
        sa.select(artifacts)
        .where(artifacts.c.name == name, artifacts.c.version == version)
        .order_by(artifacts.c.rung, artifacts.c.format.desc(), artifacts.c.arch)
    )
    items = [artifact_view(item) for item in found.mappings()]
    running = sa.select(devices.c.device).where(devices.c.model_name == name, devices.c.model_version == version)
    wanted = sa.select(desired.c.device).where(desired.c.artifact_sha256.in_([item.sha256 for item in items]))
    return VersionDetail(
        summary=_version(row, await _facts(connection)),
        artifacts=items,
        card=row["card"],
        note=row["note"],
        status=await _status(connection, items),
        running=await _names(connection, running),
        wanted=await _names(connection, wanted),
    )


async def find_version(connection: AsyncConnection, name: str, version: str) -> sa.RowMapping:
    """The row of `models`; raises NotFound."""
    query = sa.select(models).where(models.c.name == name, models.c.version == version)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no model {name} {version}", "`edgewise model list` shows what there is")
    return row


async def alias_changes(connection: AsyncConnection, name: str, alias: str | None = None) -> list[AliasChange]:
    """How the aliases of a model moved, the last change first, at most 1,000."""
    query = sa.select(alias_history).where(alias_history.c.name == name).order_by(alias_history.c.id.desc())
    if alias is not None:
        query = query.where(alias_history.c.alias == alias)
    rows = (await connection.execute(query.limit(1000))).mappings()
    return [AliasChange(**{key: value for key, value in row.items() if key != "id"}) for row in rows]


async def model_runs_of(connection: AsyncConnection, device: str, limit: int = 100) -> list[ModelRun]:
    """Which models a board said it ran, the last first."""
    query = sa.select(model_runs).where(model_runs.c.device == device).order_by(model_runs.c.since_ms.desc())
    return [ModelRun(**row) for row in (await connection.execute(query.limit(limit))).mappings()]


async def model_at(connection: AsyncConnection, device: str, at_ms: int) -> ModelRun | None:
    """The model a board said it ran at a time; None before its first HELLO."""
    query = (
        sa.select(model_runs)
        .where(model_runs.c.device == device, model_runs.c.since_ms <= at_ms)
        .order_by(model_runs.c.since_ms.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else ModelRun(**row)


async def trace(connection: AsyncConnection, device: str, epoch: int, seq: int) -> Trace:
    """From an event to the artifact, version and card behind it. Raises NotFound."""
    query = (
        sa.select(events, epochs.c.began_ms)
        .join(epochs, (epochs.c.device == events.c.device) & (epochs.c.epoch == events.c.epoch))
        .where(events.c.device == device, events.c.epoch == epoch, events.c.seq == seq)
    )
    event = (await connection.execute(query)).mappings().one_or_none()
    if event is None:
        raise NotFound(f"no event {device} {epoch}/{seq}", f"`edgewise device events {device}` lists them")
    sha8: str = event["model_sha8"]
    found = None
    if sha8:
        prefix = sa.select(artifacts).where(artifacts.c.sha256.startswith(sha8, autoescape=True))
        found = (await connection.execute(prefix)).mappings().first()
    item = None if found is None else artifact_view(found)
    row = None if found is None else await find_version(connection, found["name"], found["version"])
    at_ms = event["began_ms"] + event["t_ms"]
    deployed = await _deployed(connection, device, item.sha256, at_ms) if item else None
    running = await connection.execute(
        sa.select(sa.func.min(model_runs.c.since_ms)).where(model_runs.c.device == device, model_runs.c.sha8 == sha8)
    )
    return Trace(
        device=device,
        epoch=epoch,
        seq=seq,
        at_ms=at_ms,
        kind=wire.EVENT_NAMES.get(event["kind"], str(event["kind"])),
        score=event["score"],
        threshold=event["threshold"],
        model_sha8=sha8,
        artifact=item,
        version=None if row is None else _version(row, await _facts(connection)),
        card={} if row is None else row["card"],
        deployed_ms=None if deployed is None else deployed["changed_ms"],
        deployed_cause="" if deployed is None else deployed["cause"],
        running_since_ms=running.scalar(),
    )


def artifact_view(row: sa.RowMapping) -> Artifact:
    """A row of `artifacts` as the outside sees it."""
    return Artifact(
        sha256=row["sha256"],
        arch=row["arch"],
        abi=row["abi"],
        format=row["format"],
        target=describe(from_json(row["manifest"])),
        size=row["size"],
        key_id=row["key_id"],
        created_ms=row["created_ms"],
        manifest=row["manifest"],
    )


class _Facts:
    """Counts and aliases of all versions, keyed by (name, version)."""

    def __init__(self) -> None:
        self.aliases: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.targets: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.running: dict[tuple[str, str], int] = {}
        self.wanted: dict[tuple[str, str], int] = {}


async def _facts(connection: AsyncConnection) -> _Facts:
    facts = _Facts()
    for row in await connection.execute(sa.select(aliases).order_by(aliases.c.alias)):
        facts.aliases[row.name, row.version].append(row.alias)
    columns = (artifacts.c.name, artifacts.c.version)
    targets = sa.select(*columns, artifacts.c.arch, artifacts.c.format, artifacts.c.rung)
    targets = targets.order_by(artifacts.c.rung, artifacts.c.format.desc())
    for row in await connection.execute(targets):
        facts.targets[row.name, row.version].append(
            f"{row.arch} {row.format}" + (f" rung {row.rung}" if row.rung else "")
        )
    running = sa.select(devices.c.model_name, devices.c.model_version, sa.func.count()).group_by(
        devices.c.model_name, devices.c.model_version
    )
    facts.running = {(name, version): count for name, version, count in await connection.execute(running)}
    wanted = (
        sa.select(*columns, sa.func.count())
        .join(desired, desired.c.artifact_sha256 == artifacts.c.sha256)
        .group_by(*columns)
    )
    facts.wanted = {(name, version): count for name, version, count in await connection.execute(wanted)}
    return facts


def _version(row: sa.RowMapping, facts: _Facts) -> Version:
    key = (row["name"], row["version"])
    return Version(
        name=row["name"],
        version=row["version"],
        sequence=row["sequence"],
        detector=row["detector"],
        schema=row["schema"],
        schema_hash=row["schema_hash"],
        threshold=row["threshold"],
        margin=row["margin"],
        created_ms=row["created_ms"],
        aliases=facts.aliases.get(key, []),
        targets=facts.targets.get(key, []),
        boards_running=facts.running.get(key, 0),
        boards_wanted=facts.wanted.get(key, 0),
    )


async def _status(connection: AsyncConnection, items: list[Artifact]) -> dict[str, int]:
    """How far the boards are that were told to take a version: the last step of each that they reported of it."""
    sha8s = [item.sha256[:16] for item in items]
    newest = sa.select(updates.c.device, sa.func.max(updates.c.received_ms).label("at_ms"))
    newest = newest.where(updates.c.sha8.in_(sha8s)).group_by(updates.c.device).subquery()
    query = (
        sa.select(updates.c.device, updates.c.state)
        .join(newest, (newest.c.device == updates.c.device) & (newest.c.at_ms == updates.c.received_ms))
        .where(updates.c.sha8.in_(sha8s))
        .order_by(updates.c.epoch, updates.c.seq)
    )
    last = {row.device: row.state for row in await connection.execute(query)}
    counts = Counter(named(wire.UPDATE_NAMES, state) for state in last.values())
    return dict(sorted(counts.items()))


async def _names(connection: AsyncConnection, query: sa.Select[Any]) -> list[str]:
    return list((await connection.execute(query.order_by(sa.text("1")).limit(_MAX_BOARDS))).scalars())


async def _deployed(connection: AsyncConnection, device: str, sha256: str, at_ms: int) -> sa.RowMapping | None:
    """The last time before `at_ms` the cloud told the board to run an artifact."""
    query = (
        sa.select(deployments)
        .where(deployments.c.device == device, deployments.c.sha256 == sha256, deployments.c.changed_ms <= at_ms)
        .order_by(deployments.c.id.desc())
        .limit(1)
    )
    return (await connection.execute(query)).mappings().one_or_none()

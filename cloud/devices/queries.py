"""Reads of boards, their reports and events. Every query is bounded."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices import stability, views
from cloud.devices.presence import Presence, expected_contact_ms, presence, presence_is
from cloud.devices.tags import tags_of
from cloud.errors import NotFound
from cloud.inference.tables import answers
from cloud.models.tables import assignments
from cloud.store.tables import (
    QUALITY_NAMES,
    TELLING,
    artifacts,
    config_conflicts,
    desired,
    device_tags,
    devices,
    epochs,
    events,
    health,
    models,
    queries,
    streams,
    updates,
)
from contract import wire
from contract.features import Features, SchemaError

MAX_DEVICES = 500  # of one page
MAX_EVENTS = 1000
_MAX_UPDATES = 50
_MAX_EPOCHS = 8
_MAX_QUESTIONS = 50

_ANSWER_COLUMNS = ("tier", "verdict", "score", "name", "version", "why", "answered_ms")
_UPDATE_COLUMNS = ("epoch", "seq", "t_ms", "state", "reason", "name", "version", "sha8", "progress_bytes", "detail")


class Chosen(NamedTuple):
    """Which boards of all: those with `find` in their id or kind, or as a tag, and in that state."""

    find: str = ""
    state: Presence | None = None


async def list_devices(
    connection: AsyncConnection,
    now_ms: int,
    after: str = "",
    limit: int = MAX_DEVICES,
    only: str | None = None,
    chosen: Chosen = Chosen(),
) -> list[views.Device]:
    """Boards by id, from the one after `after` on."""
    last_health, last_update = health.alias("h"), updates.alias("u")
    query = (
        sa.select(
            devices,
            desired.c.artifact_sha256,
            desired.c.why,
            artifacts.c.name.label("wanted_name"),
            artifacts.c.version.label("wanted_version"),
            assignments.c.name.label("assigned_name"),
            assignments.c.version.label("assigned_version"),
            last_health.c.next_contact_ms,
            last_health.c.battery_mv.label("health_battery_mv"),
            *(last_update.c[name].label("u_" + name) for name in _UPDATE_COLUMNS),
            epochs.c.began_ms.label("u_began_ms"),
        )
        .select_from(
            devices.outerjoin(desired, desired.c.device == devices.c.device)
            .outerjoin(artifacts, artifacts.c.sha256 == desired.c.artifact_sha256)
            .outerjoin(assignments, assignments.c.device == devices.c.device)
            .outerjoin(last_health, _is_last(health, last_health))
            .outerjoin(last_update, _is_last(updates, last_update))
            .outerjoin(epochs, (epochs.c.device == devices.c.device) & (epochs.c.epoch == last_update.c.epoch))
        )
        .order_by(devices.c.device)
        .limit(limit)
    )
    query = query.where(devices.c.device > after) if only is None else query.where(devices.c.device == only)
    if chosen.find:
        tagged = sa.select(device_tags.c.device).where(device_tags.c.tag == chosen.find)
        named = [column.icontains(chosen.find, autoescape=True) for column in (devices.c.device, devices.c.kind)]
        query = query.where(sa.or_(*named, devices.c.device.in_(tagged)))
    if chosen.state is not None:
        there = (devices.c.online, devices.c.last_seen_ms, last_health.c.next_contact_ms)
        query = query.where(presence_is(chosen.state, now_ms, *there))
    return [_device(row, now_ms) for row in (await connection.execute(query)).mappings()]


async def show_device(connection: AsyncConnection, device: str, now_ms: int) -> views.DeviceDetail:
    """Raises NotFound."""
    row = await require_device(connection, device)
    found = await list_devices(connection, now_ms, only=device)
    records = await list_health(connection, device, limit=1)
    return views.DeviceDetail(
        summary=found[0],
        hello=_hello(row),
        health=records[0] if records else None,
        updates=await list_updates(connection, device),
        streams=await _streams(connection, device),
        configuration=await _configuration(connection, row),
        questions=await list_questions(connection, device),
        channels=[
            f"{channel.name} ({channel.unit})" for channel in await channels_of(connection, row["schema_hash"], 0)
        ],
        stability=await stability.of_device(connection, device),
        tags=(await tags_of(connection, [device]))[device],
    )


async def require_device(connection: AsyncConnection, device: str) -> sa.RowMapping:
    """The row of `devices`; raises NotFound."""
    row = (await connection.execute(sa.select(devices).where(devices.c.device == device))).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no device {device}", "`edgewise device list` shows them; `edgewise device add` makes one")
    return row


async def list_updates(connection: AsyncConnection, device: str, limit: int = _MAX_UPDATES) -> list[views.UpdateStep]:
    """Steps of model updates, newest first."""
    query = _with_epoch(updates, device).order_by(updates.c.epoch.desc(), updates.c.seq.desc()).limit(limit)
    rows = (await connection.execute(query)).mappings()
    return [_update_step({name: row[name] for name in _UPDATE_COLUMNS}, row["began_ms"]) for row in rows]


async def list_health(connection: AsyncConnection, device: str, limit: int = 100) -> list[views.Health]:
    """HEALTH records, newest first."""
    query = _with_epoch(health, device).order_by(health.c.epoch.desc(), health.c.seq.desc()).limit(limit)
    return [health_view(row) for row in (await connection.execute(query)).mappings()]


async def list_questions(connection: AsyncConnection, device: str, limit: int = _MAX_QUESTIONS) -> list[views.Question]:
    """Questions of a board and their answers, newest first."""
    answered = (answers.c.device == queries.c.device) & (answers.c.epoch == queries.c.epoch)
    columns = [answers.c[name].label("a_" + name) for name in _ANSWER_COLUMNS]
    query = (
        sa.select(queries, epochs.c.began_ms, *columns)
        .outerjoin(epochs, (epochs.c.device == queries.c.device) & (epochs.c.epoch == queries.c.epoch))
        .outerjoin(answers, answered & (answers.c.seq == queries.c.seq))
        .where(queries.c.device == device, queries.c.reason.not_in(TELLING))
        .order_by(queries.c.epoch.desc(), queries.c.seq.desc())
        .limit(limit)
    )
    return [_question(row) for row in (await connection.execute(query)).mappings()]


async def list_events(
    connection: AsyncConnection,
    device: str | None = None,
    limit: int = 100,
    before_ms: int | None = None,
    after: str | None = None,
) -> list[views.Event]:
    """Events, the last received first: those received before `before_ms`, those that follow the event `after` names.

    `after` is the views.Event.key of an event. The time alone does not do: what one session brings has one time.
    """
    query = (
        sa.select(events, epochs.c.began_ms, epochs.c.quality)
        .outerjoin(epochs, (epochs.c.device == events.c.device) & (epochs.c.epoch == events.c.epoch))
        .order_by(events.c.received_ms.desc(), events.c.device, events.c.epoch.desc(), events.c.seq.desc())
        .limit(limit)
    )
    if device is not None:
        query = query.where(events.c.device == device)
    if before_ms is not None:
        query = query.where(events.c.received_ms < before_ms)
    if after is not None:
        received_ms, name, epoch, seq = after.split("/")
        query = query.where(_follows(int(received_ms), name, int(epoch), int(seq)))
    return [event_view(row) for row in (await connection.execute(query)).mappings()]


def _follows(received_ms: int, device: str, epoch: int, seq: int) -> sa.ColumnElement[bool]:
    """Events that come after one, in the order of list_events."""
    of = events.c
    older_epoch = (of.epoch < epoch) | ((of.epoch == epoch) & (of.seq < seq))
    then = (of.device > device) | ((of.device == device) & older_epoch)
    # The first condition says nothing more, but the index goes by it.
    return (of.received_ms <= received_ms) & ((of.received_ms < received_ms) | then)


async def channels_of(connection: AsyncConnection, schema_hash: str | None, n_channels: int) -> list[views.Channel]:
    """Names, units and factors of a board's channels, from any model made for its feature schema.

    Without such a model: `n_channels` channels called by their number, in counts.
    """
    if schema_hash is not None:
        query = sa.select(models.c.schema).where(models.c.schema_hash == schema_hash).limit(1)
        schema = (await connection.execute(query)).scalar()
        if schema is not None:
            try:
                return [
                    views.Channel(channel.name, channel.unit, channel.scale_den / channel.scale_num)
                    for channel in Features(schema).channels
                ]
            except SchemaError:  # written by a newer publisher: show counts
                pass
    return [views.Channel(f"channel {number + 1}", "counts", 1.0) for number in range(n_channels)]


def _is_last(table: sa.Table, last: sa.FromClause) -> sa.ColumnElement[bool]:
    """Joins a device's newest record: its highest epoch that has one, and the highest seq of that; two index seeks."""
    inner = table.alias()
    epoch = sa.select(sa.func.max(inner.c.epoch)).where(inner.c.device == devices.c.device).scalar_subquery()
    other = table.alias()
    seq = (
        sa.select(sa.func.max(other.c.seq))
        .where(other.c.device == devices.c.device, other.c.epoch == last.c.epoch)
        .correlate(devices, last)
        .scalar_subquery()
    )
    return (last.c.device == devices.c.device) & (last.c.epoch == epoch) & (last.c.seq == seq)


def _with_epoch(table: sa.Table, device: str) -> sa.Select[Any]:
    return (
        sa.select(table, epochs.c.began_ms)
        .outerjoin(epochs, (epochs.c.device == table.c.device) & (epochs.c.epoch == table.c.epoch))
        .where(table.c.device == device)
    )


def _device(row: sa.RowMapping, now_ms: int) -> views.Device:
    last_seen: int | None = row["last_seen_ms"]
    update = None
    if row["u_seq"] is not None:
        update = _update_step({name: row["u_" + name] for name in _UPDATE_COLUMNS}, row["u_began_ms"])
    there: Presence = presence(now_ms, row["online"], last_seen, row["next_contact_ms"])
    battery: int | None = row["health_battery_mv"]
    return views.Device(
        device=row["device"],
        kind=row["kind"],
        presence=there,
        last_contact_ms=last_seen,
        next_contact_ms=expected_contact_ms(last_seen, row["next_contact_ms"]),
        model=_model(row),
        wanted=views.Wanted(
            name=row["wanted_name"] or row["assigned_name"],
            version=row["wanted_version"] or row["assigned_version"],
            sha256=row["artifact_sha256"],
            why=row["why"] or "",
        ),
        update=update,
        battery_mv=row["battery_mv"] if battery is None else battery,
        epoch=row["epoch"],
        firmware=row["firmware"],
        arch=row["arch"],
        set_aside=row["set_aside"],
    )


def _model(row: sa.RowMapping) -> views.ModelRef | None:
    if not row["model_name"]:
        return None
    return views.ModelRef(row["model_name"], row["model_version"], row["model_sha8"])


def _hello(row: sa.RowMapping) -> views.Hello | None:
    if row["hello_ms"] is None:
        return None
    return views.Hello(
        at_ms=row["hello_ms"],
        proto=row["proto"],
        epoch=row["epoch"],
        firmware=row["firmware"],
        arch=row["arch"],
        abi=f"{row['abi'] >> 8}.{row['abi'] & 255}",
        formats=[name for bit, name in wire.FORMAT_NAMES.items() if row["formats"] & bit],
        schema_hash=row["schema_hash"],
        free_flash_bytes=row["free_flash"],
        free_heap_bytes=row["free_heap"],
        wake_cause=named(wire.WAKE_NAMES, row["wake_cause"]),
        key_ids=list(row["key_ids"] or ()),
        sequence=row["sequence"],
    )


def _update_step(row: dict[str, Any], began_ms: int | None) -> views.UpdateStep:
    return views.UpdateStep(
        state=named(wire.UPDATE_NAMES, row["state"]),
        reason=named(wire.REASON_NAMES, row["reason"]),
        name=row["name"],
        version=row["version"],
        sha8=row["sha8"],
        progress_bytes=row["progress_bytes"],
        detail=row["detail"],
        at_ms=(began_ms or 0) + row["t_ms"],
        epoch=row["epoch"],
        seq=row["seq"],
    )


def health_view(row: sa.RowMapping) -> views.Health:
    """A row of `health` with its epoch's began_ms."""
    return views.Health(
        epoch=row["epoch"],
        seq=row["seq"],
        at_ms=(row["began_ms"] or 0) + row["t_ms"],
        period_ms=row["period_ms"],
        wakes=row["wakes"],
        battery_mv=row["battery_mv"],
        rssi_dbm=row["rssi"],
        free_heap_bytes=row["free_heap"],
        free_flash_bytes=row["free_flash"],
        awake_ms=row["awake_ms"],
        energy_uj=_zip(("active", "radio", "sleep", "flash"), row["energy_uj"]),
        radio=_zip(("sessions", "ms", "tx_bytes", "rx_bytes", "failures"), row["radio"]),
        drops=_zip(wire.STREAM_NAMES, row["drops"]),
        errors={named(wire.FAULT_NAMES, code): count for code, count in row["errors"]},
        scores=list(row["scores"]),
        resets=row["resets"],
        next_contact_ms=row["next_contact_ms"],
        sending_uj=row["sending_uj"],
        energy_mj=row["energy_mj"],
        line_holds=row["line_holds"],
        routes={name: count for name, count in _zip(wire.OUTCOME_NAMES, row["routes"] or ()).items() if count},
    )


def _question(row: sa.RowMapping) -> views.Question:
    answered = row["a_verdict"] is not None
    return views.Question(
        epoch=row["epoch"],
        seq=row["seq"],
        at_ms=(row["began_ms"] or 0) + row["t_ms"],
        route=named(wire.ROUTE_NAMES, row["route"]),
        reason=named(wire.WHY_NAMES, row["reason"]),
        score=row["score"],
        deadline_ms=row["deadline_ms"],
        model_sha8=row["model_sha8"],
        verdict=named(wire.VERDICT_NAMES, row["a_verdict"]) if answered else None,
        tier=named(wire.ROUTE_NAMES, row["a_tier"]) if answered else None,
        answer_score=row["a_score"],
        model=f"{row['a_name']} {row['a_version']}" if row["a_name"] else None,
        why=row["a_why"] or "",
        answered_after_ms=row["a_answered_ms"] - row["received_ms"] if answered else None,
    )


def event_view(row: sa.RowMapping) -> views.Event:
    """A row of `events` with its epoch's began_ms and quality."""
    return views.Event(
        device=row["device"],
        epoch=row["epoch"],
        seq=row["seq"],
        at_ms=(row["began_ms"] or 0) + row["t_ms"],
        received_ms=row["received_ms"],
        kind=wire.EVENT_NAMES.get(row["kind"], str(row["kind"])),
        score=row["score"],
        threshold=row["threshold"],
        route=named(wire.ROUTE_NAMES, row["route"]),
        reason=named(wire.WHY_NAMES, row["reason"]),
        model_sha8=row["model_sha8"],
        time_quality=QUALITY_NAMES[row["quality"] or 0],
        key=f"{row['received_ms']}/{row['device']}/{row['epoch']}/{row['seq']}",
    )


async def _streams(connection: AsyncConnection, device: str) -> list[views.StreamState]:
    query = (
        sa.select(streams)
        .where(streams.c.device == device)
        .order_by(streams.c.epoch.desc(), streams.c.stream)
        .limit(_MAX_EPOCHS * len(wire.STREAMS))
    )
    rows = (await connection.execute(query)).mappings().all()
    return [
        views.StreamState(
            epoch=row["epoch"],
            stream=wire.STREAM_NAMES[wire.STREAMS.index(row["stream"])],
            high_seq=row["high_seq"],
            received=row["received"],
            dropped=row["declared_dropped"],
            set_aside=row["set_aside"],
            missing=row["high_seq"] - row["received"] - row["declared_dropped"] - row["set_aside"],
            duplicates=row["duplicates"],
            acknowledged=row["next_seq"],
        )
        for row in sorted(rows, key=lambda row: (-row["epoch"], wire.STREAMS.index(row["stream"])))
    ]


async def _configuration(connection: AsyncConnection, device: sa.RowMapping) -> views.Configuration:
    name = device["device"]
    want = (await connection.execute(sa.select(desired).where(desired.c.device == name))).mappings().one_or_none()
    query = sa.select(config_conflicts).where(config_conflicts.c.device == name).order_by(config_conflicts.c.id.desc())
    rows = (await connection.execute(query.limit(20))).mappings()
    return views.Configuration(
        desired={} if want is None else want["config"],
        desired_version=0 if want is None else want["version"],
        published_version=0 if want is None else want["published_version"],
        reported=device["reported"] or {},
        reported_version=device["config_version"],
        conflicts=[
            views.Conflict(row["key"], row["desired"], row["reported"], row["kept"], row["rule"], row["at_ms"])
            for row in rows
        ],
    )


def named(names: Sequence[str], code: int) -> str:
    """The name of a code, or its number when a newer board sent it."""
    return names[code] if 0 <= code < len(names) else f"code {code}"


def _zip(names: Iterable[str], values: Sequence[int]) -> dict[str, int]:
    return dict(zip(names, values, strict=False))  # a newer board may send more

"""Messages -> rows of the tables: one function per kind of record, no database."""

from __future__ import annotations

from typing import Any

from cloud import wire_types as w
from contract import wire

Row = dict[str, Any]
OneRecord = w.Event | w.Query | w.Health | w.Update


def stream_of(message: w.Readings | OneRecord) -> int:
    """The stream a record belongs to: its message code."""
    return _STREAMS[type(message)]


def record_row(device: str, message: OneRecord, received_ms: int) -> Row:
    """The row of anything but readings, for wire.STREAMS' tables (tables.RECORD_TABLES)."""
    row: Row = {
        "device": device,
        "epoch": message.epoch,
        "seq": message.seq,
        "t_ms": message.t_ms,
        "received_ms": received_ms,
    }
    match message:
        case w.Event():
            row |= _event(message)
        case w.Query():
            row |= _query(message)
        case w.Health():
            row |= _health(message)
        case w.Update():
            row |= _update(message)
    return row


def hello_row(device: str, hello: w.Hello, now_ms: int) -> Row:
    """What a HELLO says about a device, as columns of `devices`."""
    model = hello.model
    return {
        "device": device,
        "hello_ms": now_ms,
        "epoch": hello.epoch,
        "hello_t_ms": hello.t_ms,
        "proto": hello.proto,
        "firmware": hello.firmware,
        "arch": hello.arch,
        "abi": hello.abi,
        "formats": hello.formats,
        "schema_hash": hello.schema_hash.hex(),
        "model_name": None if model is None else model.name,
        "model_version": None if model is None else model.version,
        "model_sha8": None if model is None else model.sha8.hex(),
        "config_version": hello.config_version,
        "local_version": hello.local_version,
        "reported": hello.reported,
        "free_flash": hello.free_flash,
        "free_heap": hello.free_heap,
        "wake_cause": hello.wake_cause,
        "battery_mv": hello.battery_mv,
        "key_ids": [key_id.hex() for key_id in hello.key_ids],
        "sequence": hello.sequence,
        "shadow_sha8": None if hello.shadow is None else hello.shadow.sha8.hex(),
    }


def _event(event: w.Event) -> Row:
    return {
        "kind": event.kind,
        "score": event.score,
        "threshold": event.threshold,
        "route": event.route,
        "reason": event.reason,
        "model_sha8": event.model.hex(),
        "features": event.features,
    }


def _query(query: w.Query) -> Row:
    return {
        "deadline_ms": query.deadline_ms,
        "score": query.score,
        "model_sha8": query.model.hex(),
        "features": query.features,
        "reason": query.reason,
        "route": query.route,
    }


def _health(health: w.Health) -> Row:
    energy, radio = health.energy_uj, health.radio
    return {
        "period_ms": health.period_ms,
        "wakes": health.wakes,
        "battery_mv": health.battery_mv,
        "rssi": health.rssi,
        "free_heap": health.free_heap,
        "free_flash": health.free_flash,
        "awake_ms": health.awake_ms,
        "energy_uj": [energy.active, energy.radio, energy.sleep, energy.flash],
        "radio": [radio.sessions, radio.ms, radio.tx_bytes, radio.rx_bytes, radio.failures],
        "drops": health.drops,
        "errors": health.errors,
        "scores": health.scores,
        "resets": health.resets,
        "next_contact_ms": health.next_contact_ms,
        "sending_uj": health.sending_uj,
        "energy_mj": health.energy_mj,
        "line_holds": health.line_holds,
        "routes": health.routes,
        "shadow_sha8": None if health.shadow is None else health.shadow.hex(),
        "shadow_compared": health.shadow_compared,
        "shadow_disagreed": health.shadow_disagreed,
        "profile": _profile(health.profile),
    }


def _profile(profile: w.Profile | None) -> list[Any] | None:
    """The columns of a profile in the order of the wire, the model as hex and bytes as numbers."""
    if profile is None:
        return None
    return [profile.model.hex(), list(profile.scores), profile.first, list(profile.features)]


def _update(update: w.Update) -> Row:
    return {
        "state": update.state,
        "reason": update.reason,
        "name": update.name,
        "version": update.version,
        "sha8": update.sha8.hex(),
        "progress_bytes": update.progress_bytes,
        "detail": update.detail,
    }


_STREAMS: dict[type, int] = {
    w.Event: wire.EVENT,
    w.Query: wire.QUERY,
    w.Update: wire.UPDATE,
    w.Health: wire.HEALTH,
    w.Readings: wire.READINGS,
}

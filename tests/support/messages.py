"""Uplink messages with everything filled in that a test does not care about."""

from array import array
from collections.abc import Sequence
from typing import Any

from cloud import wire_types as w
from cloud.ingest.decode import read
from cloud.ingest.writer import Item
from contract import delta, wire
from contract.delta_encoder import Encoder

ROW_MS = 1000


def event(seq: int, epoch: int = 1, t_ms: int | None = None, **changes: Any) -> w.Event:
    """An anomaly; its time follows from its number."""
    fields: dict[str, Any] = {
        "kind": wire.EVENT_ANOMALY,
        "score": 2.0,
        "threshold": 1.0,
        "route": wire.ROUTE_DEVICE,
        "reason": wire.WHY_CLEAR,
        "model": bytes(8),
        "features": bytes(8),
    }
    return w.Event(epoch, seq, ROW_MS * seq if t_ms is None else t_ms, **(fields | changes))


def readings(
    seq: int,
    values: Sequence[Sequence[int]],
    epoch: int = 1,
    t_ms: int | None = None,
    base: tuple[tuple[int, int], Sequence[int]] | None = None,
) -> w.Readings:
    """A sealed frame of `values` (rows, cols), a row each second; `base` is ((epoch, seq), row)."""
    rows, cols = len(values), len(values[0])
    flat = array("i", [value for row in values for value in row])
    times = array("q", [ROW_MS * row for row in range(rows)])
    out = bytearray(wire.MAX_UP_BYTES)
    base_id, base_row = base or (None, None)
    first = bytes(out[: delta.first_row(flat, base_row, cols, out)])
    body = bytes(out[: Encoder().body(times, flat, rows, cols, out)])
    return w.Readings(epoch, seq, ROW_MS * seq if t_ms is None else t_ms, rows, cols, base_id, first, body)


def ramp(rows: int, cols: int = 2, start: int = 100) -> list[list[int]]:
    """Values (rows, cols) that are all different."""
    return [[start + 10 * row + channel for channel in range(cols)] for row in range(rows)]


def hello(epoch: int = 1, t_ms: int = 0, floors: Sequence[Sequence[int]] = (), **changes: Any) -> w.Hello:
    """An x64 board without a model."""
    fields: dict[str, Any] = {
        "proto": wire.PROTOCOL_VERSION,
        "floors": tuple(tuple(entry) for entry in floors),
        "config_version": 0,
        "model": None,
        "firmware": "0.1.0",
        "arch": "x64",
        "abi": 1539,
        "formats": wire.FORMAT_NATIVE,
        "schema_hash": bytes(8),
        "kind": "pump",
        "free_flash": 1_000_000,
        "free_heap": 90_000,
        "wake_cause": wire.WAKE_COLD,
        "battery_mv": 3700,
    }
    return w.Hello(epoch=epoch, t_ms=t_ms, **(fields | changes))


def item(device: str, message: Any) -> Item:
    """A message as it comes off the wire; bytes are a payload of any kind."""
    payload = message if isinstance(message, bytes) else w.encode(message)
    what = read(payload)
    assert not isinstance(what, w.Fetch)
    return Item(device, wire.topic(device, wire.KIND_UP), payload, what)

"""What the boards made against what the cloud holds, record by record.

The board's side is read from its RTC memory by its own firmware, and from the recording it played; the cloud's side
comes through the HTTP API. Neither side's counters are taken at their word where the records themselves can be counted.
"""

import json
import os
import subprocess
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud.client import Client
from contract import wire
from tools import firmware
from tools.demo.stage import Recording
from tools.rom import build_firmware

_DEADLINE_S = 30
_PAGE = 10_000

# Runs under MicroPython on a sleeping board's folder: load() only reads while the memory is whole.
_BOOKS = """
import json
from device.board.host import Board
from device.files import Files
from device.rtc_state import OK, RtcState
state = RtcState(Board(None), Files())
whole = state.load() == OK
print(json.dumps({"whole": whole, "epoch": state.epoch, "next_seq": list(state.next_seq), "resets": state.resets,
    "energy_uj": sum(state.energy_uj), "tx_bytes": state.tx_bytes}))
"""


@dataclass(frozen=True)
class Books:
    """A sleeping board's own account. next_seq: records made in this epoch, by stream as in wire.STREAMS."""

    epoch: int
    next_seq: tuple[int, ...]
    energy_uj: int
    """Since its last HEALTH record, like tx_bytes."""
    tx_bytes: int


@dataclass(frozen=True)
class Account:
    """One board: every record it made, and what became of it. Bytes are per reading."""

    device: str
    kind: str
    made: int
    stored: int
    lost: int
    duplicated: int
    """Records that the cloud holds more than once."""
    wrong: int
    """Readings whose values are not what the sensor gave."""
    alerts: int
    alerts_in_labels: int | None
    wire_bytes: float
    json_bytes: float
    model: str
    energy_mj: float

    @property
    def sound(self) -> bool:
        """Every record made is stored once, as it was measured."""
        return self.made > 0 and self.made == self.stored and not (self.lost or self.duplicated or self.wrong)


class AuditFailed(Exception):
    """A side could not be read; the message says which and why."""


def read_books(folder: Path) -> Books:
    """What a sleeping board says it made. Raises AuditFailed."""
    command = [firmware.program("micropython"), "-c", _BOOKS]
    environ = os.environ | {"EDGEWISE_BOARD_DIR": str(folder), "MICROPYPATH": str(build_firmware())}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    if done.returncode:
        raise AuditFailed(f"RTC memory of {folder.name} cannot be read:\n{done.stdout}{done.stderr}")
    found = json.loads(done.stdout)
    if not found["whole"]:
        raise AuditFailed(f"RTC memory of {folder.name} is not whole")
    return Books(found["epoch"], tuple(found["next_seq"]), found["energy_uj"], found["tx_bytes"])


def is_drained(client: Client, device: str, books: Books) -> bool:
    """True when the cloud has acknowledged every record the board made."""
    acknowledged = {
        (stream["epoch"], stream["stream"]): stream["acknowledged"]
        for stream in client.get(f"/devices/{device}")["streams"]
    }
    return all(
        acknowledged.get((books.epoch, name), 0) >= made
        for name, made in zip(wire.STREAM_NAMES, books.next_seq, strict=True)
    )


def account(client: Client, device: str, books: Books, played: Recording) -> Account:
    """Compare both sides of one board, which began with epoch 1 and kept its RTC memory. Raises AuditFailed."""
    if books.epoch != 1:
        raise AuditFailed(
            f"{device} began epoch {books.epoch}: it lost its RTC memory, which this run does not do to it"
        )
    detail = client.get(f"/devices/{device}")
    readings = _readings(client, device)
    events = _events(client, device)
    health = client.get(f"/devices/{device}/health", limit=1000)
    updates = client.get(f"/devices/{device}/updates", limit=1000)
    stored = {
        "reading": [(row["epoch"], row["seq"]) for row in readings],
        **{
            name: [(record["epoch"], record["seq"]) for record in records]
            for name, records in (("event", events), ("health", health), ("update", updates))
        },
    }
    made: dict[str, int] = dict(zip(wire.STREAM_NAMES, books.next_seq, strict=True))
    distinct = {name: len({key for key in keys if key[1] < made[name]}) for name, keys in stored.items()}
    # The API shows no questions one by one; the store's own book of that stream has to do.
    distinct["query"] = sum(stream["received"] for stream in detail["streams"] if stream["stream"] == "query")
    times = {row["at_ms"]: row["seq"] for row in readings}
    raised = [event for event in events if event["kind"] == wire.EVENT_NAMES[wire.EVENT_ANOMALY]]
    sent = sum(report["radio"]["tx_bytes"] for report in health) + books.tx_bytes
    used = sum(sum(report["energy_uj"].values()) for report in health) + books.energy_uj
    return Account(
        device=device,
        kind=detail["summary"]["kind"],
        made=sum(made.values()),
        stored=sum(distinct.values()),
        lost=sum(made[name] - distinct[name] for name in made),
        duplicated=sum(len(keys) - len(set(keys)) for keys in stored.values()),
        wrong=sum(not _as_measured(row, played) for row in readings),
        alerts=len(raised),
        alerts_in_labels=in_labels(raised, times, played),
        wire_bytes=sent / max(1, made["reading"]),
        json_bytes=_json_bytes(device, readings, played),
        model=model_text(detail["summary"]["model"]),
        energy_mj=used / 1000,
    )


def model_text(model: dict[str, Any] | None) -> str:
    """A model as a board names it, for people."""
    return f"{model['name']} {model['version']}" if model else "none"


def _readings(client: Client, device: str) -> list[dict[str, Any]]:
    """Every stored sample, values in counts."""
    rows: list[dict[str, Any]] = []
    found = client.get(f"/devices/{device}/readings", limit=_PAGE)
    if found["truncated"]:
        raise AuditFailed(f"{device} has more than {_PAGE} readings, too many for this audit")
    factors = [channel["factor"] for channel in found["channels"]]
    for at_ms, epoch, seq, values in found["rows"]:
        counts = [round(value / factor) for value, factor in zip(values, factors, strict=True)]
        rows.append({"at_ms": at_ms, "epoch": epoch, "seq": seq, "counts": counts, "values": values})
    return rows


def _events(client: Client, device: str) -> list[dict[str, Any]]:
    return client.get(f"/devices/{device}/events", limit=1000)


def _as_measured(row: dict[str, Any], played: Recording) -> bool:
    return np.array_equal(row["counts"], played.rows[row["seq"] % len(played.rows)])


def in_labels(events: list[dict[str, Any]], times: dict[int, int], played: Recording) -> int | None:
    """How many anomalies were raised on a window that holds a labelled sample; None without labels.

    times: sequence numbers of readings by when they were measured, ms. An event is dated when its window was scored,
    some ms after the last reading of that.
    """
    if played.labels is None:
        return None
    measured = sorted(times)
    hits = 0
    for event in events:
        at = bisect_right(measured, event["at_ms"])
        if at:
            last = times[measured[at - 1]]
            window = np.arange(last - played.window + 1, last + 1) % len(played.labels)
            hits += bool(played.labels[window].any())
    return hits


def _json_bytes(device: str, readings: list[dict[str, Any]], played: Recording) -> float:
    """Bytes of one JSON message per reading, as a board without a codec of its own would send it."""
    if not readings:
        return 0.0
    sizes: list[int] = []
    for row in readings:
        values = dict(zip(played.channels, row["values"], strict=True))
        sizes.append(len(json.dumps({"device": device, "time": row["at_ms"], "values": values})))
    return sum(sizes) / len(readings)

"""Prepare the folder of a simulated board: flash with configuration and recording, and the world it lives in.

The layout of the folder is in firmware/device/board/host.py, the recording's in firmware/device/sensors/replay.py.
"""

import json
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contract import wire
from contract.features import Features

RECORDING_NAME = "recording.bin"
_RECORDING_HEADER = "<4sHHII"
_RECORDING_MAGIC = b"EWS1"
INT32 = range(-(2**31), 2**31)


class ProvisioningError(ValueError):
    """A board that cannot be made; the message names the value and what it must be."""


@dataclass(frozen=True)
class Broker:
    """Where a board connects to, and as whom."""

    port: int
    host: str = "127.0.0.1"
    user: str | None = None
    password: str | None = None
    ca: str | None = None
    """Name of the CA's certificate on the board's flash, DER; with it the board insists on TLS."""


@dataclass(frozen=True)
class BoardPlan:
    """Everything config.json says; `settings` are those that the cloud may change later."""

    device: str
    kind: str
    schema: str
    interval_ms: int
    broker: Broker
    trusted_keys: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    log: bool = False
    first_epoch: int = 1

    def config(self) -> dict[str, Any]:
        """What config.json says, for a board that plays a recording."""
        config = asdict(self) | {"sensor": {"driver": "replay", "file": RECORDING_NAME}}
        config["broker"] = {key: value for key, value in config["broker"].items() if value is not None}
        return config


def read_login(text: str | bytes) -> dict[str, Any]:
    """What `edgewise device add` printed for one board: device, kind, broker, first_epoch. Raises ProvisioningError."""
    try:
        given: Any = json.loads(text)
        boards: list[Any] = given if isinstance(given, list) else [given]
        (given,) = boards
        broker = given["broker"]
        login = {key: broker[key] for key in ("host", "port", "user", "password")}
        texts = {"device": str(given["device"]), "kind": str(given["kind"])}
        return texts | {"broker": login, "first_epoch": int(given["first_epoch"])}
    except (ValueError, LookupError, TypeError):
        raise ProvisioningError("--login must be what `edgewise device add` prints for one board") from None


def write_recording(path: Path, channels: str, interval_ms: int, rows: Iterable[Sequence[int]]) -> int:
    """Write rows of counts, one per sample, as a recording; returns how many. Raises ProvisioningError.

    `channels` is what the feature schema has after `c=`; a board refuses a recording whose channels are not its own.
    """
    columns = len(channels.split(","))
    data = array("i")
    for number, row in enumerate(rows):
        if len(row) != columns or any(value not in INT32 for value in row):
            raise ProvisioningError(f"row {number} must be {columns} integers of 32 bits, is {list(row)}")
        data.extend(row)
    count = len(data) // columns
    if not count:
        raise ProvisioningError("a recording needs at least one row")
    path.write_bytes(_recording_head(channels, interval_ms, count) + data.tobytes())
    return count


def recording_bytes(channels: str, interval_ms: int, counts: np.ndarray[Any, np.dtype[np.int32]]) -> bytes:
    """The same of counts that are numbers of 32 bits already: (rows, columns of `channels`)."""
    return _recording_head(channels, interval_ms, len(counts)) + np.ascontiguousarray(counts, "<i4").tobytes()


def _recording_head(channels: str, interval_ms: int, rows: int) -> bytes:
    text = channels.encode()
    columns = len(channels.split(","))
    return struct.pack(_RECORDING_HEADER, _RECORDING_MAGIC, len(text), columns, rows, interval_ms) + text


def channels_of(schema: str) -> str:
    """The channel text of a feature schema: what follows `c=`. Raises SchemaError for a schema no board takes."""
    Features(schema)
    return next(part[2:] for part in schema.split(";") if part.startswith("c="))


def make_board(
    folder: Path, plan: BoardPlan, rows: Iterable[Sequence[int]], sample_ms: int, world: Mapping[str, Any] | None = None
) -> Path:
    """Make the folder of a simulated board that has never been switched on; returns it. Raises ProvisioningError.

    rows: the recording, counts; sample_ms: between two of them. world: what sim.json says, such as
    {"battery_mv": 3900, "outages": [[60000, 120000]]}.
    """
    if not wire.valid_device_id(plan.device):
        raise ProvisioningError(f"device id {plan.device!r} must be 1 to {wire.MAX_DEVICE_ID} of a-z, 0-9 and -")
    flash = folder / "flash"
    flash.mkdir(parents=True)
    write_recording(flash / RECORDING_NAME, channels_of(plan.schema), sample_ms, rows)
    (flash / "config.json").write_text(json.dumps(plan.config(), indent=1), encoding="utf-8")
    set_world(folder, world or {})
    return folder


def set_world(folder: Path, world: Mapping[str, Any]) -> None:
    """Change what the board's next wake finds: keys as in firmware/device/board/host.py."""
    (folder / "sim.json").write_text(json.dumps(dict(world)), encoding="utf-8")

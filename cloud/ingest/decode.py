"""Payloads -> typed messages, or the reason why not. Nothing here raises on what a board sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cloud import wire_types
from contract import wire
from contract.msgpack import Reader
from contract.wire import WireError

MAX_KEPT_BYTES = 8_192
"""Of a payload in quarantine; the contract's largest frame is half of it."""


class Numbers(NamedTuple):
    """Which sequence numbers a frame names: [seq, end)."""

    stream: int
    epoch: int
    seq: int
    end: int


@dataclass(frozen=True, slots=True)
class Poison:
    """A frame that cannot be taken. With readable `numbers` the stream goes on behind it."""

    reason: str
    detail: str
    numbers: Numbers | None = None

    @property
    def is_unknown_code(self) -> bool:
        return self.reason == wire.BAD_NAMES[wire.BAD_CODE]


def read(payload: bytes) -> wire_types.Uplink | Poison:
    """The message of a payload on `up`."""
    try:
        return wire_types.decode_uplink(payload)
    except WireError as error:
        return poison(error, payload)


def poison(error: WireError, payload: bytes) -> Poison:
    """Why a frame is set aside, with its numbers when its head can be read."""
    return Poison(wire.BAD_NAMES[error.code], error.detail, read_numbers(payload))


def read_numbers(payload: bytes) -> Numbers | None:
    """The numbers of a record whose head is sound, whatever follows it; None for anything else."""
    reader = Reader(payload)
    try:
        reader.take_array(3, wire.MAX_UP_BYTES)
        code = reader.take_int(0, 255)
        if code not in wire.STREAMS:
            return None
        epoch, seq = reader.take_int(1, wire.MAX_U32), reader.take_int(0, wire.MAX_U32)
        rows = 1
        if code == wire.READINGS:
            reader.take_int(0, wire.MAX_TIME_MS)
            rows = reader.take_int(1, wire.MAX_ROWS)
        return Numbers(code, epoch, seq, seq + rows)
    except WireError:
        return None

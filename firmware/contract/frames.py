"""Uplink frames as a board makes them, and what it reads from those it has stored.

A builder takes the fields in the order of contract/messages.py, writes the frame into the caller's buffer and gives
a view of it; a buffer too small is WireError(BAD_SIZE). What comes down is in downlink.py.
"""

import struct

from contract import wire
from contract.msgpack import Packer, Reader
from contract.wire import BAD_CODE, BAD_RANGE, MAX_TIME_MS, MAX_U32, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    RowId = tuple[int, int]  # epoch, seq
    PerStream = tuple[int, int, int, int, int, int]  # epoch, then one seq per stream
    Buffer = bytes | bytearray | memoryview
    WriteBuffer = bytearray | memoryview


def hello(
    buf: "WriteBuffer",
    epoch: int,
    t_ms: int,
    floors: "Sequence[PerStream]",
    config_version: int,
    model: "tuple[str, str, Buffer] | None",
    firmware: str,
    arch: str,
    abi: int,
    formats: int,
    schema_hash: "Buffer",
    kind: str,
    free_flash: int,
    free_heap: int,
    wake_cause: int,
    battery_mv: int,
    reported: "dict[str, Any]",
    key_ids: "Sequence[Buffer]",
    sequence: int,
    local_version: int = 0,
    shadow: "tuple[str, str, Buffer] | None" = None,
) -> memoryview:
    """HELLO: what the board is and holds."""
    packer = _begin(buf, wire.HELLO, 22)
    _put_ints(packer, (wire.PROTOCOL_VERSION, epoch, t_ms))
    packer.put(floors)
    packer.put_int(config_version)
    packer.put(model)
    packer.put_str(firmware)
    packer.put_str(arch)
    _put_ints(packer, (abi, formats))
    packer.put_bin(schema_hash)
    packer.put_str(kind)
    _put_ints(packer, (free_flash, free_heap, wake_cause, battery_mv))
    packer.put(reported)
    packer.put(key_ids)
    _put_ints(packer, (sequence, local_version))
    packer.put(shadow)
    return packer.view()


def readings(
    buf: "WriteBuffer",
    epoch: int,
    seq: int,
    t_ms: int,
    rows: int,
    cols: int,
    base: "RowId | None",
    first: "Buffer",
    body: "Buffer",
) -> memoryview:
    """READINGS: a sealed batch; `first` and `body` come from contract/delta.py."""
    packer = _begin(buf, wire.READINGS, 9)
    _put_ints(packer, (epoch, seq, t_ms, rows, cols))
    packer.put(base)
    packer.put_bin(first)
    packer.put_bin(body)
    return packer.view()


def event(
    buf: "WriteBuffer",
    epoch: int,
    seq: int,
    t_ms: int,
    kind: int,
    score: float,
    threshold: float,
    route: int,
    reason: int,
    model: "Buffer",
    features: "Sequence[int]",
) -> memoryview:
    """EVENT: an anomaly began or ended; `features` are int32 (n_features,)."""
    packer = _begin(buf, wire.EVENT, 11)
    _put_ints(packer, (epoch, seq, t_ms, kind))
    _put_score(packer, score)
    _put_score(packer, threshold)
    _put_ints(packer, (route, reason))
    packer.put_bin(model)
    _put_int32s(packer, features)
    return packer.view()


def query(
    buf: "WriteBuffer",
    epoch: int,
    seq: int,
    t_ms: int,
    deadline_ms: int,
    score: float,
    model: "Buffer",
    features: "Sequence[int]",
    reason: int,
    route: int,
) -> memoryview:
    """QUERY: asks a higher tier about `features`, int32 (n_features,)."""
    packer = _begin(buf, wire.QUERY, 10)
    _put_ints(packer, (epoch, seq, t_ms, deadline_ms))
    _put_score(packer, score)
    packer.put_bin(model)
    _put_int32s(packer, features)
    _put_ints(packer, (reason, route))
    return packer.view()


def health(
    buf: "WriteBuffer",
    epoch: int,
    seq: int,
    t_ms: int,
    period_ms: int,
    wakes: int,
    battery_mv: int,
    rssi: int,
    free_heap: int,
    free_flash: int,
    awake_ms: int,
    energy_uj: "Sequence[int]",
    radio: "Sequence[int]",
    drops: "Sequence[int]",
    errors: "Sequence[tuple[int, int]]",
    scores: "Sequence[int]",
    resets: int,
    next_contact_ms: int,
    routes: "Sequence[int]",
    sending_uj: int,
    energy_mj: int,
    line_holds: int,
    shadow: "Buffer | None",
    shadow_compared: int,
    shadow_disagreed: int,
    profile: "tuple[Buffer, Sequence[int], int, Buffer] | None",
) -> memoryview:
    """HEALTH: counters over a period. `energy_uj`, `radio` and `drops` have 4, 5 and 5 entries.

    profile: (sha8 of the model, its scores by bin, first feature, counts of features by bin), None for none.
    """
    packer = _begin(buf, wire.HEALTH, 26)
    _put_ints(packer, (epoch, seq, t_ms, period_ms, wakes, battery_mv, rssi, free_heap, free_flash, awake_ms))
    for counters in (energy_uj, radio, drops):
        _put_int_array(packer, counters)
    packer.put(errors)
    _put_int_array(packer, scores)
    _put_ints(packer, (resets, next_contact_ms))
    _put_int_array(packer, routes)
    _put_ints(packer, (sending_uj, energy_mj, line_holds))
    packer.put(shadow)
    _put_ints(packer, (shadow_compared, shadow_disagreed))
    if profile is None:
        packer.put_nil()
    else:
        model, counts, first, features = profile
        packer.put_array(4)
        packer.put_bin(model)
        _put_int_array(packer, counts)
        packer.put_int(first)
        packer.put_bin(features)
    return packer.view()


def update(
    buf: "WriteBuffer",
    epoch: int,
    seq: int,
    t_ms: int,
    state: int,
    reason: int,
    name: str,
    version: str,
    sha8: "Buffer",
    progress_bytes: int,
    detail: str,
) -> memoryview:
    """UPDATE: a step of a model update."""
    packer = _begin(buf, wire.UPDATE, 11)
    _put_ints(packer, (epoch, seq, t_ms, state, reason))
    packer.put_str(name)
    packer.put_str(version)
    packer.put_bin(sha8)
    packer.put_int(progress_bytes)
    packer.put_str(detail)
    return packer.view()


def fetch(buf: "WriteBuffer", sha8: "Buffer", offset: int, length: int) -> memoryview:
    """FETCH: asks for a piece of an artifact."""
    packer = _begin(buf, wire.FETCH, 4)
    packer.put_bin(sha8)
    _put_ints(packer, (offset, length))
    return packer.view()


class Fields:
    """Counts the fields of one message array down, so that older and newer senders are both understood."""

    def __init__(self, frame: "Buffer") -> None:
        self.reader = Reader(frame)
        self.left = self.reader.take_array(1, MAX_U32) - 1
        self.code = self.reader.take_int(0, MAX_U32)

    def need(self, count: int) -> Reader:
        """The reader, when `count` more fields are there; WireError(BAD_CUT) otherwise."""
        if self.left < count:
            raise WireError(wire.BAD_CUT, "%d fields missing" % (count - self.left))
        self.left -= count
        return self.reader

    def more(self) -> bool:
        """Takes account of one appended field; False where the sender is older than it."""
        if self.left == 0:
            return False
        self.left -= 1
        return True

    def finish(self) -> None:
        """Moves over the fields of a newer sender; nothing may follow the message."""
        for _ in range(self.left):
            self.reader.skip(wire.MAX_DEPTH - 1)
        self.reader.finish()


def peek_header(frame: "Buffer") -> "tuple[int, int, int, int]":
    """(code, epoch, seq, count) of an uplink frame: count is its rows for READINGS, 1 for other records.

    HELLO and FETCH are not records: their epoch, seq and count are 0. The rest of the frame is not looked at.
    """
    reader = Reader(frame)
    reader.take_array(1, MAX_U32)
    code = reader.take_int(0, MAX_U32)
    if code not in wire.STREAMS:
        if code in (wire.HELLO, wire.FETCH):
            return code, 0, 0, 0
        raise WireError(BAD_CODE, "%d" % code)
    epoch = reader.take_int(1, MAX_U32)
    seq = reader.take_int(0, MAX_U32)
    if code != wire.READINGS:
        return code, epoch, seq, 1
    reader.take_int(0, MAX_TIME_MS)
    return code, epoch, seq, reader.take_int(1, wire.MAX_ROWS)


def parse_readings(frame: "Buffer") -> "tuple[int, int, int, int, int, RowId | None, memoryview, memoryview]":
    """(epoch, seq, t_ms, rows, cols, base, first, body) of a READINGS frame; the last two are views into it.

    A board reads its own sealed frames with it, to turn them from key form to a difference and back.
    """
    fields = Fields(frame)
    if fields.code != wire.READINGS:
        raise WireError(BAD_CODE, "%d" % fields.code)
    reader = fields.need(8)
    epoch = reader.take_int(1, MAX_U32)
    seq = reader.take_int(0, MAX_U32)
    t_ms = reader.take_int(0, MAX_TIME_MS)
    rows = reader.take_int(1, wire.MAX_ROWS)
    cols = reader.take_int(1, wire.MAX_CHANNELS)
    base = None
    if not reader.take_nil():
        reader.take_array(2, 2)
        base = (reader.take_int(1, MAX_U32), reader.take_int(0, MAX_U32))
    first = reader.take_bin(1, 5 * wire.MAX_CHANNELS)
    body = reader.take_bin(0, wire.MAX_UP_BYTES)
    fields.finish()
    return epoch, seq, t_ms, rows, cols, base, first, body


def _begin(buf: "WriteBuffer", code: int, count: int) -> Packer:
    packer = Packer(buf)
    packer.put_array(count)
    packer.put_int(code)
    return packer


def _put_ints(packer: Packer, values: "Sequence[int]") -> None:
    for value in values:
        packer.put_int(value)


def _put_int_array(packer: Packer, values: "Sequence[int]") -> None:
    packer.put_array(len(values))
    _put_ints(packer, values)


def _put_score(packer: Packer, score: float) -> None:
    """A finite float 32: an infinite score is as good as the greatest there is, NaN is none at all."""
    if score != score:
        raise WireError(BAD_RANGE, "a score is not a number")
    packer.put_f32(max(-wire.MAX_FLOAT32, min(wire.MAX_FLOAT32, score)))


def _put_int32s(packer: Packer, values: "Sequence[int]") -> None:
    start = packer.put_bin_head(4 * len(values))
    for index in range(len(values)):
        struct.pack_into("<i", packer.buf, start + 4 * index, values[index])

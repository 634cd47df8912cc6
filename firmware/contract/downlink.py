"""Downlink frames as a board takes them apart: every field held against its type and bounds, plain tuples out.

A frame is refused whole, with WireError and nothing else, or understood whole. What goes up is in frames.py.
"""

from contract import wire
from contract.frames import Fields
from contract.msgpack import ARRAY, BOOL, FLOAT, INT, STR, Reader
from contract.wire import BAD_CODE, BAD_RANGE, BAD_SIZE, BAD_TYPE, MAX_TIME_MS, MAX_U32, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INTEGERS = (-0x80000000, MAX_U32)  # of a setting or an argument


def parse_downlink(frame: bytes | bytearray | memoryview) -> "tuple[Any, ...]":
    """The fields of a message to the board, its code first.

    (ACK, cloud_ms, [(epoch, 5 x seq)], flags, heard_ms or None), (WANT, config_version, config, offer, local_version,
    [statement], shadow) with `offer` and `shadow` None or (name, version, sequence, sha256, size, format, arch, leave,
    patch, patch_size, patch_base), (CHUNK, sha8, offset, data, total), (ANSWER, epoch, seq, verdict, score, tier), (DO,
    id, verb, args). Bytes are views into `frame`.
    """
    if len(frame) > wire.MAX_DOWN_BYTES:
        raise WireError(BAD_SIZE, "%d bytes" % len(frame))
    fields = Fields(frame)
    parse = _PARSERS.get(fields.code)
    if parse is None:
        raise WireError(BAD_CODE, "%d" % fields.code)
    values = parse(fields)
    fields.finish()
    return (fields.code,) + values


def _parse_ack(fields: Fields) -> "tuple[Any, ...]":
    reader = fields.need(2)
    cloud_ms = reader.take_int(0, MAX_TIME_MS)
    acks: "list[tuple[int, ...]]" = []
    for _ in range(reader.take_array(0, wire.MAX_ACKS)):
        reader.take_array(6, 6)
        acks.append(
            (reader.take_int(1, MAX_U32),) + tuple([reader.take_int(0, MAX_U32) for _ in range(len(wire.STREAMS))])
        )
    flags = reader.take_int(0, 255) if fields.more() else 0
    heard_ms = reader.take_int(0, MAX_TIME_MS) if fields.more() and not reader.take_nil() else None
    return cloud_ms, acks, flags, heard_ms


def _parse_want(fields: Fields) -> "tuple[Any, ...]":
    reader = fields.need(2)
    version = reader.take_int(0, MAX_U32)
    config: "dict[str, Any]" = {}
    for _ in range(reader.take_map(0, wire.MAX_SETTINGS)):
        key = reader.take_str(1, 32)
        if key in config:
            raise WireError(BAD_TYPE, "key %s twice" % key)
        config[key] = _setting(reader)
    offer = None
    if fields.more() and not reader.take_nil():
        offer = _parse_offer(reader)
    local_version = reader.take_int(0, MAX_U32) if fields.more() else 0
    statements: "list[Any]" = []
    if fields.more():
        for _ in range(reader.take_array(0, wire.MAX_STATEMENTS)):
            statements.append(reader.take_bin(1, wire.MAX_STATEMENT_BYTES))
    shadow = None
    if fields.more() and not reader.take_nil():
        shadow = _parse_offer(reader)
    return version, config, offer, local_version, statements, shadow


def _parse_offer(reader: Reader) -> "tuple[Any, ...]":
    count = reader.take_array(7, MAX_U32)
    offer = (
        reader.take_str(1, wire.MAX_MODEL_NAME),
        reader.take_str(1, wire.MAX_VERSION),
        reader.take_int(0, MAX_U32),
        reader.take_bin(32, 32),
        reader.take_int(1, wire.MAX_ARTIFACT_BYTES),
        reader.take_int(0, 255),
        reader.take_str(1, wire.MAX_ARCH),
    )
    leave = reader.take_bin(0, wire.MAX_STATEMENT_BYTES) if count > 7 else b""
    patch = _digest8(reader) if count > 8 else None
    patch_size = reader.take_int(0, MAX_U32) if count > 9 else 0
    patch_base = _digest8(reader) if count > 10 else None
    for _ in range(count - 11):
        reader.skip(wire.MAX_DEPTH - 2)
    return offer + (leave, patch, patch_size, patch_base)


def _digest8(reader: Reader) -> "Any":
    return None if reader.take_nil() else reader.take_bin(8, 8)


def _parse_chunk(fields: Fields) -> "tuple[Any, ...]":
    reader = fields.need(4)
    return (
        reader.take_bin(8, 8),
        reader.take_int(0, MAX_U32),
        reader.take_bin(0, wire.MAX_CHUNK_BYTES),
        reader.take_int(0, wire.MAX_ARTIFACT_BYTES),
    )


def _parse_answer(fields: Fields) -> "tuple[Any, ...]":
    reader = fields.need(4)
    epoch = reader.take_int(1, MAX_U32)
    seq = reader.take_int(0, MAX_U32)
    verdict = reader.take_int(0, 255)
    score = _finite(reader.take_float())
    tier = reader.take_int(0, 255) if fields.more() else wire.ROUTE_CLOUD
    return epoch, seq, verdict, score, tier


def _parse_do(fields: Fields) -> "tuple[Any, ...]":
    reader = fields.need(2)
    number = reader.take_int(0, MAX_U32)
    verb = reader.take_str(1, 32)
    args: "list[Any]" = []
    if fields.more():
        for _ in range(reader.take_array(0, 8)):
            args.append(_scalar(reader))
    return number, verb, args


_PARSERS = {
    wire.ACK: _parse_ack,
    wire.WANT: _parse_want,
    wire.CHUNK: _parse_chunk,
    wire.ANSWER: _parse_answer,
    wire.DO: _parse_do,
}


def _setting(reader: Reader) -> "Any":
    """A value of a configuration: a scalar, or a list of integers, one per channel."""
    if reader.peek() != ARRAY:
        return _scalar(reader)
    return [reader.take_int(*_INTEGERS) for _ in range(reader.take_array(0, wire.MAX_CHANNELS))]


def _scalar(reader: Reader) -> "Any":
    """A bool, int, float or text, held to the bounds of messages.py."""
    kind = reader.peek()
    if kind == BOOL:
        return reader.take_bool()
    if kind == INT:
        return reader.take_int(*_INTEGERS)
    if kind == FLOAT:
        return _finite(reader.take_float())
    if kind == STR:
        return reader.take_str(0, wire.MAX_TEXT)
    raise WireError(BAD_TYPE, "not a scalar")


def _finite(value: float) -> float:
    if not -wire.MAX_FLOAT32 <= value <= wire.MAX_FLOAT32:  # never true of NaN
        raise WireError(BAD_RANGE, "a float is infinite or not a number")
    return value

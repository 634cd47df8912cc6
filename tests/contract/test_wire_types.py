"""The cloud's typed view and the board's hand-written code say the same of every frame; both follow messages.py."""

import inspect
import json
from pathlib import Path
from typing import Any

import msgpack as oracle
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud import wire_types
from contract import downlink, frames, messages, wire
from contract.wire import WireError
from tests.contract.suite.spec_frames import plain

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text("utf-8"))
BUILDERS = {message.code: getattr(frames, message.name.lower()) for message in messages.UPLINK}


def fields(message: Any) -> list[Any]:
    """Code and fields of a typed message, nested ones as lists."""
    found = msgspec.to_builtins(message, builtin_types=(bytes,))
    return as_lists(found)


def as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def expected(vector: dict[str, Any]) -> list[Any]:
    return [frames_features(field) for field in vector["fields"]]


def frames_features(field: Any) -> Any:
    if isinstance(field, dict) and list(field) == ["int32"]:
        return b"".join(value.to_bytes(4, "little", signed=True) for value in field["int32"])
    return plain(field)


def ids(vector: dict[str, Any]) -> str:
    return vector["name"]


@pytest.mark.parametrize("vector", VECTORS["up"] + VECTORS["up_older"], ids=ids)
def test_uplink_vectors_are_decoded_and_missing_fields_filled_in(vector: dict[str, Any]) -> None:
    assert fields(wire_types.decode_uplink(bytes.fromhex(vector["hex"]))) == expected(vector)


@pytest.mark.parametrize("vector", VECTORS["up"], ids=ids)
def test_fields_of_a_newer_board_are_skipped(vector: dict[str, Any]) -> None:
    newer = oracle.packb([*oracle.unpackb(bytes.fromhex(vector["hex"])), {"new": [1, b"x"]}, None])
    assert fields(wire_types.decode_uplink(newer)) == expected(vector)


@pytest.mark.parametrize("vector", VECTORS["down"] + VECTORS["down_newer"] + VECTORS["down_older"], ids=ids)
def test_downlink_vectors_are_decoded(vector: dict[str, Any]) -> None:
    assert fields(wire_types.decode_downlink(bytes.fromhex(vector["hex"]))) == expected(vector)


@pytest.mark.parametrize("vector", VECTORS["down"], ids=ids)
def test_what_the_cloud_encodes_a_board_parses(vector: dict[str, Any]) -> None:
    message = wire_types.decode_downlink(bytes.fromhex(vector["hex"]))
    parsed = downlink.parse_downlink(wire_types.encode(message))
    assert as_lists(as_bytes(parsed)) == expected(vector)


def as_bytes(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [as_bytes(item) for item in value]
    return bytes(value) if isinstance(value, memoryview) else value


@pytest.mark.parametrize("message", messages.UPLINK, ids=lambda message: message.name)
def test_builders_take_the_fields_of_the_table_in_order(message: messages.Message) -> None:
    names = list(inspect.signature(BUILDERS[message.code]).parameters)
    assert names == ["buf", *(field.name for field in message.fields if field.name != "proto")]


@pytest.mark.parametrize("message", messages.MESSAGES, ids=lambda message: message.name)
def test_defaults_come_last(message: messages.Message) -> None:
    optional = [field.default != messages.REQUIRED for field in message.fields]
    assert optional == sorted(optional)


def test_streams_are_the_messages_that_are_records() -> None:
    assert {message.code for message in messages.MESSAGES if message.stream} == set(wire.STREAMS)


REFUSED_UPLINK = [
    ("unknown code", [99, 1], wire.BAD_CODE),
    ("downlink code", [32, 0, [], 0], wire.BAD_CODE),
    ("no array", {"code": 2}, wire.BAD_TYPE),
    ("empty array", [], wire.BAD_CUT),
    ("code of the wrong type", ["2", 1], wire.BAD_TYPE),
    ("missing fields", [7, b"12345678", 0], wire.BAD_CUT),
    ("epoch 0", [2, 0, 0, 0, 1, 1, None, b"\x02", b""], wire.BAD_RANGE),
    ("241 rows", [2, 1, 0, 0, 241, 1, None, b"\x02", b""], wire.BAD_RANGE),
    ("17 channels", [2, 1, 0, 0, 1, 17, None, b"\x02", b""], wire.BAD_RANGE),
    ("time of 49 bits", [2, 1, 0, 2**48, 1, 1, None, b"\x02", b""], wire.BAD_RANGE),
    ("base that is no row", [2, 1, 0, 0, 1, 1, [1], b"\x02", b""], wire.BAD_SIZE),
    ("true for a number", [2, 1, True, 0, 1, 1, None, b"\x02", b""], wire.BAD_TYPE),
    ("text for bytes", [2, 1, 0, 0, 1, 1, None, "\x02", b""], wire.BAD_TYPE),
    ("infinite score", [3, 1, 0, 0, 1, float("inf"), 0.5, 0, 0, bytes(8), b""], wire.BAD_RANGE),
    ("score that is no number", [3, 1, 0, 0, 1, float("nan"), 0.5, 0, 0, bytes(8), b""], wire.BAD_RANGE),
    ("half a feature", [3, 1, 0, 0, 1, 0.5, 0.5, 0, 0, bytes(8), b"123"], wire.BAD_TYPE),
    ("129 features", [3, 1, 0, 0, 1, 0.5, 0.5, 0, 0, bytes(8), bytes(516)], wire.BAD_SIZE),
    ("four drop counters", [5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, [0] * 4, [0] * 5, [0] * 4, [], []], wire.BAD_SIZE),
]


@pytest.mark.parametrize(("frame", "code"), [case[1:] for case in REFUSED_UPLINK], ids=[c[0] for c in REFUSED_UPLINK])
def test_a_malformed_uplink_frame_is_refused_with_its_code(frame: Any, code: int) -> None:
    with pytest.raises(WireError) as refused:
        wire_types.decode_uplink(oracle.packb(frame))
    assert refused.value.code == code, refused.value


@pytest.mark.parametrize("vector", VECTORS["up"], ids=ids)
def test_every_cut_of_an_uplink_frame_is_refused(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["hex"])
    for cut in range(len(frame)):
        with pytest.raises(WireError) as refused:
            wire_types.decode_uplink(frame[:cut])
        assert refused.value.code == wire.BAD_CUT
    with pytest.raises(WireError) as refused:
        wire_types.decode_uplink(frame + b"\0")
    assert refused.value.code == wire.BAD_TRAILING


def test_frames_above_the_limits_are_refused_unread() -> None:
    for decode, limit in (
        (wire_types.decode_uplink, wire.MAX_UP_BYTES),
        (wire_types.decode_downlink, wire.MAX_DOWN_BYTES),
    ):
        with pytest.raises(WireError) as refused:
            decode(bytes(limit + 1))
        assert refused.value.code == wire.BAD_SIZE


@given(st.data())
@settings(max_examples=600)
def test_board_and_cloud_refuse_the_same_damaged_downlink_frames(data: st.DataObject) -> None:
    frame = bytearray.fromhex(data.draw(st.sampled_from(VECTORS["down"] + VECTORS["down_newer"]))["hex"])
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        by_cloud: Any = fields(wire_types.decode_downlink(bytes(frame)))
    except WireError as error:
        by_cloud = error
    try:
        by_board: Any = as_lists(as_bytes(downlink.parse_downlink(bytes(frame))))
    except WireError as error:
        by_board = error
    if isinstance(by_board, WireError):
        # The board is the stricter one: key twice, text and depth in fields it does not know.
        strict = by_board.code in (wire.BAD_DEPTH, wire.BAD_SIZE, wire.BAD_TYPE)
        assert isinstance(by_cloud, WireError) or strict, (by_board, by_cloud)
    else:
        assert by_board == by_cloud

"""contract/msgpack.py against the msgpack package: the same bytes out, the same values in."""

import math
from typing import Any

import msgpack as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import msgpack
from contract.wire import BAD_DEPTH, BAD_SIZE, WireError

BUFFER_BYTES = 65536
DEPTH = 6

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=8), inner, max_size=20),
    max_leaves=40,
)


def in_order(value: Any) -> Any:
    """The value with the keys of its maps sorted, as contract/msgpack.py writes them."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(values)
def test_packs_the_bytes_of_the_oracle(value: Any) -> None:
    buf = bytearray(BUFFER_BYTES)
    end = msgpack.pack_into(buf, 0, value, max_depth=DEPTH + 40)
    assert buf[:end] == oracle.packb(in_order(value))


@given(values)
def test_unpacks_what_the_oracle_packed(value: Any) -> None:
    packed: bytes = oracle.packb(value)
    if depth(value) > DEPTH:
        with pytest.raises(WireError) as refused:
            msgpack.unpack(packed, DEPTH)
        assert refused.value.code == BAD_DEPTH
    else:
        assert msgpack.unpack(packed, DEPTH) == value


@given(values, st.data())
@settings(max_examples=300)
def test_takes_of_damaged_frames_what_the_oracle_takes(value: Any, data: st.DataObject) -> None:
    damaged = bytearray(oracle.packb(value))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    agree(bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged))


@given(st.binary(max_size=60))
@settings(max_examples=500)
def test_takes_of_any_bytes_what_the_oracle_takes(data: bytes) -> None:
    agree(data)


def agree(data: bytes) -> None:
    """Both take `data` for the same value; what only the oracle takes is outside the subset."""
    try:
        found = msgpack.unpack(data, DEPTH, 200)
    except WireError as error:
        if error.code in (BAD_DEPTH, BAD_SIZE):
            return  # limits the oracle does not have
        with pytest.raises((ValueError, oracle.UnpackException, Outside)):
            oracle.unpackb(data, object_pairs_hook=pairs, ext_hook=outside, strict_map_key=False)
    else:
        expected = oracle.unpackb(data)
        assert same(found, expected)


class Outside(Exception):
    """The oracle met something that the subset leaves out."""


def outside(code: int, data: bytes) -> None:
    raise Outside(code, data)


def pairs(items: list[tuple[Any, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in items]
    if any(not isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise Outside(keys)
    return dict(items)


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, where one NaN is as good as another."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b

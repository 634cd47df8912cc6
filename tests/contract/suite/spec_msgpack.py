"""The msgpack subset: bytes of the msgpack package out, strict limits in."""

import struct

from contract import msgpack
from contract.msgpack import Packer, Reader
from contract.wire import BAD_CUT, BAD_DEPTH, BAD_NAMES, BAD_RANGE, BAD_SIZE, BAD_TRAILING, BAD_TYPE
from tests.contract.suite.check import refused, unhex, vectors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def plain(value: "Any") -> "Any":
    """A value of the vectors: {"bin": hex} is bytes, {"f32": x} the float x."""
    if isinstance(value, dict):
        if list(value) == ["bin"]:
            return unhex(value["bin"])
        if list(value) == ["f32"]:
            return value["f32"]
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def test_values_are_packed_to_the_bytes_of_the_vectors():
    buf = bytearray(2048)
    for vector in vectors("msgpack")["values"]:
        value = vector["value"]
        packer = Packer(buf)
        if isinstance(value, dict) and list(value) == ["f32"]:
            packer.put_f32(value["f32"])
        else:
            packer.put(plain(value))
        assert bytes(packer.view()) == unhex(vector["hex"]), vector


def test_bytes_of_the_vectors_are_unpacked_to_their_values():
    found = vectors("msgpack")
    for vector in found["values"] + found["accepted"]:
        value = msgpack.unpack(unhex(vector["hex"]))
        assert value == plain(vector["value"]), vector
        assert type(value) is type(plain(vector["value"])), vector


def test_what_the_vectors_refuse_is_refused_for_the_same_reason():
    for vector in vectors("msgpack")["refused"]:
        refused(BAD_NAMES.index(vector["code"]), msgpack.unpack, unhex(vector["hex"]))


def test_skip_accepts_and_refuses_what_take_does():
    found = vectors("msgpack")
    for vector in found["values"] + found["accepted"]:
        reader = Reader(unhex(vector["hex"]))
        reader.skip()
        reader.finish()
    for vector in found["refused"]:
        if vector["why"] not in ("a second value", "a map key that is no text", "the same key twice"):
            refused(BAD_NAMES.index(vector["code"]), Reader(unhex(vector["hex"])).skip)


def test_every_cut_of_a_message_is_refused():
    buf = bytearray(256)
    end = msgpack.pack_into(buf, 0, [1, -300, 1 << 40, "text", b"bytes" * 9, {"key": [None, True, 0.5]}])
    for cut in range(end):
        refused(BAD_CUT, msgpack.unpack, buf[:cut])


def test_depth_counts_arrays_and_maps():
    nested = unhex("9181a161918001")[:-1]
    assert msgpack.unpack(nested, 4) == [{"a": [{}]}]
    refused(BAD_DEPTH, msgpack.unpack, nested, 3)
    refused(BAD_DEPTH, msgpack.pack_into, bytearray(64), 0, [[[[[]]]]], 4)


def test_the_item_budget_counts_values_and_keys_of_all_levels():
    message = unhex("9282a16101a1620203")  # [{"a": 1, "b": 2}, 3]: 7 items with both heads
    assert msgpack.unpack(message, 4, 7) == [{"a": 1, "b": 2}, 3]
    refused(BAD_SIZE, msgpack.unpack, message, 4, 6)


def test_a_lie_about_a_count_is_found_before_anything_is_made():
    for head in ("dd00ffffff", "df007fffff", "dcffff", "deffff"):
        refused(BAD_CUT, msgpack.unpack, unhex(head) + bytes(100))


def test_a_buffer_too_small_is_refused_and_nothing_beyond_it_written():
    for value in (1, 300, 1 << 20, 1 << 40, -1, -300, 0.5, "text", "t" * 40, b"bytes", [1, 2, 3], {"a": 1}, None, True):
        buf = bytearray(64)
        end = msgpack.pack_into(buf, 0, value)
        for size in range(end):
            small = bytearray(size)
            refused(BAD_SIZE, msgpack.pack_into, small, 0, value)


def test_what_msgpack_cannot_hold_is_refused():
    buf = bytearray(64)
    refused(BAD_RANGE, msgpack.pack_into, buf, 0, 1 << 64)
    refused(BAD_RANGE, msgpack.pack_into, buf, 0, -(1 << 63) - 1)
    refused(BAD_TYPE, msgpack.pack_into, buf, 0, object())
    refused(BAD_TYPE, msgpack.pack_into, buf, 0, {1: 2})
    refused(BAD_TYPE, msgpack.pack_into, buf, 0, "\ud800")


def test_map_keys_are_written_in_order_whatever_order_they_came_in():
    one = bytearray(64)
    other = bytearray(64)
    pairs = [("b", 1), ("a", 2), ("aa", 3), ("", 4)]
    end = msgpack.pack_into(one, 0, dict(pairs))
    assert msgpack.pack_into(other, 0, dict(reversed(pairs))) == end
    assert one == other
    assert bytes(one[:end]) == unhex("84 a0 04 a161 02 a26161 03 a162 01")


def test_integers_are_held_to_their_bounds():
    assert Reader(unhex("cd0100")).take_int(256, 256) == 256
    refused(BAD_RANGE, Reader(unhex("cd0100")).take_int, 0, 255)
    refused(BAD_RANGE, Reader(unhex("ff")).take_int, 0, 255)
    refused(BAD_TYPE, Reader(unhex("c3")).take_int, 0, 255)
    refused(BAD_TYPE, Reader(unhex("ca3f800000")).take_int, 0, 255)


def test_an_integer_is_taken_where_a_float_is_due():
    assert Reader(unhex("03")).take_float() == 3.0
    assert isinstance(Reader(unhex("03")).take_float(), float)
    refused(BAD_TYPE, Reader(unhex("a131")).take_float)


def test_text_is_held_to_characters_and_bytes_to_bytes():
    text = unhex("a8") + "äöüß".encode()
    assert Reader(text).take_str(4, 4) == "äöüß"
    refused(BAD_SIZE, Reader(text).take_str, 0, 3)
    refused(BAD_SIZE, Reader(text).take_str, 5, 8)
    assert bytes(Reader(unhex("c403010203")).take_bin(3, 3)) == b"\x01\x02\x03"
    refused(BAD_SIZE, Reader(unhex("c403010203")).take_bin, 0, 2)
    refused(BAD_SIZE, Reader(unhex("c403010203")).take_bin, 4, 9)


def test_bytes_are_views_into_the_frame_not_copies():
    frame = bytearray(unhex("c403010203"))
    taken = Reader(frame).take_bin(0, 3)
    frame[2] = 9
    assert bytes(taken) == b"\x09\x02\x03"


def test_float32_is_rounded_and_overflows_to_infinity():
    buf = bytearray(16)
    for value, expected in ((0.1, 0.1), (1e39, float("inf")), (-1e39, float("-inf")), (3.4028234e38, 3.4028234e38)):
        packer = Packer(buf)
        packer.put_f32(value)
        found = Reader(packer.view()).take_float()
        assert found == expected or abs(found - expected) <= 1e-7 * abs(expected), (value, found)


def test_float64_survives_unchanged():
    buf = bytearray(16)
    for value in (0.1, -1e300, 5e-324, float("inf")):
        end = msgpack.pack_into(buf, 0, value)
        assert end == 9
        assert struct.pack(">d", msgpack.unpack(buf[:end])) == bytes(buf[1:9])


def test_bytes_after_the_value_are_refused():
    refused(BAD_TRAILING, msgpack.unpack, unhex("9000"))

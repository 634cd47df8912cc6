"""Frames: the board's builders and parsers against the golden vectors, and the compatibility rule."""

from array import array

from contract import downlink, frames, msgpack, wire
from contract.wire import BAD_CODE, BAD_CUT, BAD_NAMES, BAD_RANGE, BAD_SIZE, BAD_TRAILING
from tests.contract.suite.check import refused, unhex, vectors
from tests.contract.suite.spec_msgpack import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BUILDERS: "dict[int, Any]" = {
    wire.HELLO: frames.hello,
    wire.READINGS: frames.readings,
    wire.EVENT: frames.event,
    wire.QUERY: frames.query,
    wire.HEALTH: frames.health,
    wire.UPDATE: frames.update,
    wire.FETCH: frames.fetch,
}


def argument(value: "Any") -> "Any":
    """A field of the vectors as a builder takes it."""
    if isinstance(value, dict) and list(value) == ["int32"]:
        return array("i", value["int32"])
    return plain(value)


def arguments(vector):
    """What to call the builder of a vector with: everything but the code, and the version that hello() knows."""
    fields = vector["fields"]
    return [argument(field) for field in fields[2 if fields[0] == wire.HELLO else 1 :]]


def same(found, expected):
    """Equal, where views stand for bytes and tuples for lists."""
    if isinstance(found, memoryview):
        return bytes(found) == expected
    if isinstance(found, (list, tuple)):
        return len(found) == len(expected) and all(same(a, b) for a, b in zip(found, expected))
    return found == expected


def test_builders_make_the_bytes_of_the_vectors():
    buf = bytearray(wire.MAX_UP_BYTES)
    for vector in vectors("wire")["up"]:
        made = BUILDERS[vector["fields"][0]](buf, *arguments(vector))
        assert bytes(made) == unhex(vector["hex"]), vector["name"]


def test_builders_refuse_a_buffer_that_ends_early():
    for vector in vectors("wire")["up"]:
        for size in range(len(unhex(vector["hex"]))):
            refused(BAD_SIZE, BUILDERS[vector["fields"][0]], bytearray(size), *arguments(vector))


def test_downlink_messages_are_parsed_to_the_fields_of_the_vectors():
    for vector in vectors("wire")["down"]:
        found = downlink.parse_downlink(unhex(vector["hex"]))
        assert same(found, plain(vector["fields"])), (vector["name"], found)


def test_fields_of_a_newer_cloud_are_skipped():
    for vector in vectors("wire")["down_newer"]:
        found = downlink.parse_downlink(unhex(vector["hex"]))
        assert same(found, plain(vector["fields"])), (vector["name"], found)


def test_fields_an_older_cloud_does_not_send_have_their_defaults():
    for vector in vectors("wire")["down_older"]:
        found = downlink.parse_downlink(unhex(vector["hex"]))
        assert same(found, plain(vector["fields"])), (vector["name"], found)


def test_what_the_vectors_refuse_is_refused_for_the_same_reason():
    for vector in vectors("wire")["down_refused"]:
        try:
            refused(BAD_NAMES.index(vector["code"]), downlink.parse_downlink, unhex(vector["hex"]))
        except AssertionError as error:
            raise AssertionError("%s: %s" % (vector["why"], error))


def test_every_cut_of_a_downlink_message_is_refused():
    for vector in vectors("wire")["down"]:
        frame = unhex(vector["hex"])
        for cut in range(len(frame)):
            refused(BAD_CUT, downlink.parse_downlink, frame[:cut])


def test_a_downlink_frame_above_its_limit_is_refused_unread():
    refused(BAD_SIZE, downlink.parse_downlink, bytes(wire.MAX_DOWN_BYTES + 1))


def test_the_header_says_which_records_a_frame_holds():
    headers = [frames.peek_header(unhex(vector["hex"])) for vector in vectors("wire")["up"]]
    assert headers == [
        (wire.HELLO, 0, 0, 0),
        (wire.HELLO, 0, 0, 0),
        (wire.READINGS, 3, 250, 2),
        (wire.READINGS, 3, 65536, 1),
        (wire.EVENT, 3, 0, 1),
        (wire.EVENT, 4294967295, 4294967295, 1),
        (wire.QUERY, 3, 1, 1),
        (wire.HEALTH, 3, 4, 1),
        (wire.UPDATE, 3, 2, 1),
        (wire.FETCH, 0, 0, 0),
    ]


def test_the_header_of_an_unknown_or_downlink_code_is_refused():
    refused(BAD_CODE, frames.peek_header, unhex("926301"))
    refused(BAD_CODE, frames.peek_header, unhex("9420009003"))


def test_a_board_reads_its_sealed_frames_back():
    for vector in vectors("wire")["up"]:
        if vector["fields"][0] == wire.READINGS:
            found = frames.parse_readings(unhex(vector["hex"]))
            assert same(found, plain(vector["fields"][1:])), (vector["name"], found)
        else:
            refused(BAD_CODE, frames.parse_readings, unhex(vector["hex"]))


def test_a_frame_is_turned_from_key_form_to_a_difference_and_back_with_the_same_body():
    key = unhex(vectors("wire")["up"][2]["hex"])
    epoch, seq, t_ms, rows, cols, _, first, body = frames.parse_readings(key)
    out = bytearray(64)
    based = bytes(frames.readings(out, epoch, seq, t_ms, rows, cols, (epoch, seq - 1), b"\x02\x04", body))
    epoch, seq, t_ms, rows, cols, base, _, body = frames.parse_readings(based)
    assert base == (epoch, seq - 1)
    assert bytes(frames.readings(bytearray(64), epoch, seq, t_ms, rows, cols, None, first, body)) == key


def test_bytes_after_a_message_are_refused():
    for vector in vectors("wire")["down"]:
        refused(BAD_TRAILING, downlink.parse_downlink, unhex(vector["hex"]) + b"\xc0")


def test_a_builder_takes_views_and_arrays_as_they_lie_in_memory():
    sha8 = memoryview(bytearray(b"01234567"))
    made = frames.event(bytearray(64), 1, 2, 3, 1, 0.5, 0.25, 0, 0, sha8, memoryview(array("i", [7, -7])))
    fields = msgpack.unpack(made)
    assert fields[9] == b"01234567"
    assert fields[10] == b"\x07\x00\x00\x00\xf9\xff\xff\xff"


def test_an_infinite_score_is_sent_as_the_greatest_and_one_that_is_no_number_not_at_all():
    sha8 = bytes(8)
    buf = bytearray(64)
    for score in (float("inf"), float("-inf"), 1e300, -1e300):
        sent = msgpack.unpack(frames.event(buf, 1, 2, 3, 1, score, 0.5, 0, 0, sha8, []))[5]
        assert abs(sent) <= wire.MAX_FLOAT32
        assert (sent > 0) == (score > 0)
        assert abs(sent) > 3.4e38
    refused(BAD_RANGE, frames.event, buf, 1, 2, 3, 1, float("nan"), 0.5, 0, 0, sha8, [])
    refused(BAD_RANGE, frames.query, buf, 1, 2, 3, 1000, float("nan"), sha8, [], 0, 2)

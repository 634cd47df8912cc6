"""What cannot be taken is told apart, and where the head is sound, so are its numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud import wire_types as w
from cloud.ingest.decode import Numbers, Poison, read, read_numbers
from contract import wire
from tests.support.messages import event, hello, ramp, readings

EVENT = w.encode(event(7, epoch=3))
FRAME = w.encode(readings(40, ramp(30), epoch=2))


@pytest.mark.parametrize(
    ("payload", "code", "numbers"),
    [
        (b"", wire.BAD_CUT, None),
        (EVENT[:-1], wire.BAD_CUT, Numbers(wire.EVENT, 3, 7, 8)),
        (FRAME[:-10], wire.BAD_CUT, Numbers(wire.READINGS, 2, 40, 70)),
        (FRAME + b"\x00", wire.BAD_TRAILING, Numbers(wire.READINGS, 2, 40, 70)),
        (FRAME + bytes(wire.MAX_UP_BYTES), wire.BAD_SIZE, Numbers(wire.READINGS, 2, 40, 70)),
        (b"\x93\x7f\x01\x02", wire.BAD_CODE, None),
        (EVENT.replace(b"\x03\x03\x07", b"\x03\x03\xa1x"), wire.BAD_TYPE, None),
        (EVENT.replace(b"\x03\x03\x07", b"\x03\x00\x07"), wire.BAD_RANGE, None),
        (b"\x81\xa1a\x01", wire.BAD_TYPE, None),
        (b"\xc1", wire.BAD_TYPE, None),
        (w.encode(hello())[:-2], wire.BAD_CUT, None),
    ],
)
def test_poison_is_told_apart(payload: bytes, code: int, numbers: Numbers | None):
    poison = read(payload)
    assert isinstance(poison, Poison)
    assert (poison.reason, poison.numbers) == (wire.BAD_NAMES[code], numbers)


def test_sound_messages_come_through():
    assert read(EVENT) == event(7, epoch=3)
    assert isinstance(read(FRAME), w.Readings)


def test_a_record_with_an_unknown_field_at_the_end_is_taken():
    longer = bytes([EVENT[0] + 1]) + EVENT[1:] + b"\x2a"
    assert read(longer) == event(7, epoch=3)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_raise(payload: bytes):
    read(payload)
    read_numbers(payload)


@settings(max_examples=500)
@given(st.data())
def test_no_mutation_raises(data: st.DataObject):
    payload = bytearray(data.draw(st.sampled_from([EVENT, FRAME, w.encode(hello())])))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    what = read(bytes(payload))
    if isinstance(what, Poison) and what.numbers is not None:
        assert what.numbers.seq < what.numbers.end

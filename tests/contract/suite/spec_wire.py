"""Topics, device ids and the tables of names."""

from contract import wire
from contract.wire import BAD_TOPIC
from tests.contract.suite.check import refused


def test_device_ids_hold_letters_digits_and_hyphens_only():
    for good in ("a", "pump-3", "0123456789abcdefghijklmnopqrstuv"):
        assert wire.valid_device_id(good), good
    for bad in ("", "Pump", "a.b", "a/b", "a b", "a*", "a>", "a+", "a#", "ä", "a_b", "a" * 33, "a\n", "a\x00"):
        assert not wire.valid_device_id(bad), bad


def test_a_topic_is_split_into_what_it_was_made_of():
    for kind in (wire.KIND_UP, wire.KIND_ACK, wire.KIND_WANT, wire.KIND_DO, wire.KIND_STATE):
        assert wire.split_topic(wire.topic("pump-3", kind)) == ("pump-3", kind)
    assert wire.topic("pump-3", wire.KIND_UP) == "ew/1/pump-3/up"


def test_other_topics_are_refused():
    for bad in ("", "ew/1/pump-3", "ew/1/pump-3/up/more", "ew/2/pump-3/up", "ew/1//up", "ew/1/Pump/up", "x/1/a/up"):
        refused(BAD_TOPIC, wire.split_topic, bad)


def test_every_number_has_one_name_and_every_name_one_number():
    for prefix in ("WAKE_", "ROUTE_", "WHY_", "UPDATE_", "REASON_", "FAULT_", "VERDICT_", "BAD_"):
        names = getattr(wire, prefix + "NAMES")
        numbers = [getattr(wire, name) for name in dir(wire) if name.startswith(prefix) and name != prefix + "NAMES"]
        assert sorted(numbers) == list(range(len(names))), prefix
        assert len(set(names)) == len(names), prefix


def test_every_stream_has_a_name():
    assert len(wire.STREAM_NAMES) == len(set(wire.STREAM_NAMES)) == len(wire.STREAMS) == len(set(wire.STREAMS))


def test_an_error_says_what_is_wrong_and_where():
    error = wire.WireError(wire.BAD_CUT, "at byte 7")
    assert error.code == wire.BAD_CUT
    assert str(error) == "cut short: at byte 7"

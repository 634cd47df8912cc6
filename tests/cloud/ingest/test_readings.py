"""Frames of readings: key form in the store, bases resolved against it, extremes."""

import msgspec

from cloud import wire_types as w
from cloud.ingest.readings import LastRows
from cloud.store import tables as t
from contract import delta, wire
from tests.support.messages import ramp, readings
from tests.support.store import BOARD, Store


def stored_values(row: dict) -> list[list[int]]:
    offsets, values = delta.decode(row["rows"], row["cols"], row["first"], row["body"])
    cols = row["cols"]
    assert list(offsets) == [1000 * at for at in range(row["rows"])]
    return [list(values[at * cols : (at + 1) * cols]) for at in range(row["rows"])]


def test_a_key_frame_is_stored_as_it_came_with_its_extremes(store: Store):
    frame = readings(0, [[5, -7], [9, -7], [4, 2]], t_ms=60_000)
    store.write(frame)
    (row,) = store.rows(t.frames)
    assert (row["first"], row["body"]) == (frame.first, frame.body)
    assert (row["t0_ms"], row["t1_ms"]) == (60_000, 62_000)
    assert (msgspec.msgpack.decode(row["lows"]), msgspec.msgpack.decode(row["highs"])) == ([4, -7], [9, 2])


def test_a_based_frame_is_stored_in_key_form_so_it_stands_alone(store: Store):
    store.write(readings(0, ramp(4)))
    store.write(readings(4, ramp(3, start=500), base=((1, 3), ramp(4)[-1])))
    rows = store.rows(t.frames)
    assert stored_values(rows[1]) == ramp(3, start=500)
    key = readings(4, ramp(3, start=500))
    assert (rows[1]["first"], rows[1]["body"]) == (key.first, key.body)


def test_a_base_may_be_any_stored_row_also_of_an_earlier_epoch(store: Store):
    store.write(readings(0, ramp(4)))
    store.write(readings(0, ramp(2, start=900), epoch=2, base=((1, 1), ramp(4)[1])))
    assert stored_values(store.rows(t.frames)[1]) == ramp(2, start=900)


def test_a_base_may_come_in_the_same_batch(store: Store):
    store.write(readings(0, ramp(4)), readings(4, ramp(4, start=700), base=((1, 3), ramp(4)[-1])))
    assert stored_values(store.rows(t.frames)[1]) == ramp(4, start=700)


def test_an_unknown_base_asks_for_a_key_frame_and_waits_for_it(store: Store):
    outcome = store.write(readings(0, ramp(4), base=((1, 99), [1, 2])))
    assert outcome.need_key == {BOARD}
    assert store.rows(t.frames) == []
    assert store.rows(t.quarantine) == []
    assert store.next_seq(wire.READINGS) == 0
    outcome = store.write(readings(0, ramp(4)))
    assert outcome.need_key == set()
    assert store.next_seq(wire.READINGS) == 4


def test_a_base_with_another_number_of_channels_is_no_base(store: Store):
    store.write(readings(0, ramp(4, cols=3)))
    outcome = store.write(readings(4, ramp(4, cols=2), base=((1, 3), [1, 2])))
    assert outcome.need_key == {BOARD}


def test_an_undecodable_body_is_set_aside_and_the_stream_goes_on(store: Store):
    good = readings(0, ramp(30))
    bad = w.Readings(1, 0, 0, 30, 2, None, good.first, good.body[:-3])
    store.write(bad, readings(30, ramp(2)))
    assert [row["reason"] for row in store.rows(t.quarantine)] == [wire.BAD_NAMES[wire.BAD_BODY]]
    account = store.account(wire.READINGS)
    assert (account["next_seq"], account["received"], account["set_aside"]) == (32, 2, 30)


def test_poison_that_is_sent_again_is_kept_once(store: Store):
    good = readings(0, ramp(30))
    bad = w.Readings(1, 0, 0, 30, 2, None, good.first, good.body[:-3])
    store.write(bad)
    outcome = store.write(bad, bad)
    assert outcome.counts["poison_again"] == 2
    assert len(store.rows(t.quarantine)) == 1
    assert store.account(wire.READINGS)["set_aside"] == 30


def test_the_cache_of_last_rows_is_bounded():
    rows = LastRows(capacity=3)
    rows.keep({("b", 1, seq): (seq,) for seq in range(10)})
    assert len(rows._rows) == 3

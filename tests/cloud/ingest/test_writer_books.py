"""What is stored, and what the books say: order, duplicates, gaps, floors, restarts."""

import pytest
from sqlalchemy.exc import DBAPIError

from cloud.ingest.writer import Item
from cloud.store import tables as t
from contract import wire
from tests.support.messages import event, hello, item, ramp, readings
from tests.support.store import BOARD, Store


def books(**changes: int) -> dict[str, int]:
    zero = dict.fromkeys(("next_seq", "high_seq", "received", "declared_dropped", "set_aside", "duplicates"), 0)
    return zero | changes


def floors(epoch: int = 1, **lowest: int) -> list[int]:
    return [epoch, *(lowest.get(name, 0) for name in wire.STREAM_NAMES)]


def test_records_in_order_are_stored_and_acknowledged(store: Store):
    store.write(*(event(seq) for seq in range(3)))
    store.write(event(3))
    assert [row["seq"] for row in store.rows(t.events)] == [0, 1, 2, 3]
    assert store.account() == books(next_seq=4, high_seq=4, received=4)


def test_a_record_that_comes_again_is_counted_and_not_stored_twice(store: Store):
    store.write(event(0), event(0), event(1))
    store.write(event(1), event(0))
    assert [row["seq"] for row in store.rows(t.events)] == [0, 1]
    assert store.account() == books(next_seq=2, high_seq=2, received=2, duplicates=3)


def test_a_gap_holds_the_acknowledgement_back_until_it_is_filled(store: Store):
    store.write(event(0), event(2), event(5))
    assert store.next_seq() == 1
    store.write(event(6), event(1))
    assert store.next_seq() == 3
    store.write(event(4), event(3))
    assert store.account() == books(next_seq=7, high_seq=7, received=7)


def test_out_of_order_within_one_batch_counts_as_in_order(store: Store):
    store.write(*(event(seq) for seq in (3, 1, 4, 0, 2)))
    assert store.account() == books(next_seq=5, high_seq=5, received=5)


def test_a_long_gap_is_walked_in_steps(store: Store):
    for start in range(1, 1301, 100):
        store.write(*(event(seq) for seq in range(start, start + 100)))
    assert store.next_seq() == 0
    store.write(event(0))
    assert store.next_seq() == 1301


def test_frames_of_readings_count_by_rows(store: Store):
    store.write(readings(0, ramp(10)), readings(10, ramp(5)))
    store.write(readings(15, ramp(1)), readings(10, ramp(5)))
    assert [(row["seq"], row["rows"]) for row in store.rows(t.frames)] == [(0, 10), (10, 5), (15, 1)]
    assert store.account(wire.READINGS) == books(next_seq=16, high_seq=16, received=16, duplicates=5)


def test_streams_and_epochs_are_numbered_apart(store: Store):
    store.write(event(0), event(0, epoch=2), readings(0, ramp(3)), event(1, epoch=2))
    assert store.next_seq() == 1
    assert store.next_seq(epoch=2) == 2
    assert store.next_seq(wire.READINGS) == 3


def test_floors_give_up_what_the_board_holds_no_longer(store: Store):
    store.write(event(0), event(4), event(5))
    outcome = store.write(hello(floors=[floors(event=8, reading=30)]))
    assert outcome.counts["records_declared_dropped"] == 3 + 2 + 30
    assert store.account() == books(next_seq=8, high_seq=8, received=3, declared_dropped=5)
    assert store.account(wire.READINGS) == books(next_seq=30, high_seq=30, declared_dropped=30)


def test_a_floor_below_what_is_stored_changes_nothing(store: Store):
    store.write(event(0), event(1))
    store.write(hello(floors=[floors(event=1)]))
    assert store.account() == books(next_seq=2, high_seq=2, received=2)


def test_the_next_record_after_a_floor_is_acknowledged(store: Store):
    store.write(event(0), event(9))
    store.write(hello(floors=[floors(event=8)]))
    assert store.next_seq() == 8
    store.write(event(8))
    assert store.account() == books(next_seq=10, high_seq=10, received=3, declared_dropped=7)


def test_a_huge_floor_is_one_row_and_no_work(store: Store):
    store.write(hello(floors=[floors(event=wire.MAX_U32)]))
    assert store.next_seq() == wire.MAX_U32
    assert len(store.rows(t.skipped)) == 1


def test_a_record_that_was_given_up_and_comes_after_all_is_stored(store: Store):
    store.write(hello(floors=[floors(event=10, reading=100)]))
    store.write(event(4), readings(20, ramp(30)))
    assert store.account() == books(next_seq=10, high_seq=10, received=1, declared_dropped=9)
    assert store.account(wire.READINGS) == books(next_seq=100, high_seq=100, received=30, declared_dropped=70)
    spans = [(row["stream"], row["seq"], row["count"]) for row in store.rows(t.skipped)]
    assert spans == [
        (wire.READINGS, 0, 20),
        (wire.READINGS, 50, 50),
        (wire.EVENT, 0, 4),
        (wire.EVENT, 5, 5),
    ]
    store.write(event(4))
    assert store.account()["duplicates"] == 1


def test_a_frame_with_other_boundaries_is_set_aside_and_not_counted_twice(store: Store):
    store.write(readings(0, ramp(10)))
    outcome = store.write(readings(5, ramp(10)))
    assert outcome.counts["frames_set_aside"] == 1
    assert [row["seq"] for row in store.rows(t.frames)] == [0]
    assert store.rows(t.quarantine)[0]["reason"] == "overlapping frame"
    assert store.account(wire.READINGS) == books(next_seq=15, high_seq=15, received=10, set_aside=5)


def test_a_number_used_for_another_record_is_set_aside(store: Store):
    store.write(event(0, t_ms=1000), readings(0, ramp(2), t_ms=0))
    store.write(event(0, t_ms=2000), readings(0, ramp(2), t_ms=9000))
    assert [row["reason"] for row in store.rows(t.quarantine)] == ["number used twice"] * 2
    assert store.rows(t.events)[0]["t_ms"] == 1000


@pytest.mark.parametrize("seq", [2**31, wire.MAX_U32])
def test_a_seq_far_away_is_stored_and_the_gap_shows(store: Store, seq: int):
    store.write(event(0), event(seq))
    account = store.account()
    assert (account["next_seq"], account["high_seq"], account["received"]) == (1, seq + 1, 2)
    store.write(event(1))
    assert store.next_seq() == 2


def test_records_of_an_unknown_device_are_set_aside(store: Store):
    outcome = store.write(event(0), device="stranger")
    assert outcome.acks == {}
    assert [row["reason"] for row in store.rows(t.quarantine, "stranger")] == ["unknown device"]
    assert store.rows(t.streams, "stranger") == []


def test_a_batch_that_fails_leaves_nothing_behind(store: Store):
    unstorable = Item(BOARD, "", b"", event(1, t_ms=2**70))
    with pytest.raises((OverflowError, DBAPIError)):  # SQLite's driver says the one, PostgreSQL's the other
        store.write_items([item(BOARD, event(0)), unstorable])
    assert store.rows(t.events) == []
    assert store.rows(t.streams) == []

"""What the store knows of a device."""

from cloud import wire_types as w
from cloud.ingest.writer import Item
from cloud.store import tables as t
from tests.support.messages import event, hello
from tests.support.store import BOARD, NOW_MS, Store


def test_a_hello_is_the_devices_row(store: Store):
    model = w.ModelRef("flow", "1.2.0", b"\xab" * 8)
    store.write(hello(model=model, reported={"interval_ms": 1000}, key_ids=(b"\x01" * 8,), sequence=7, local_version=2))
    (row,) = store.rows(t.devices)
    assert (row["model_name"], row["model_version"], row["model_sha8"]) == ("flow", "1.2.0", "ab" * 8)
    assert (row["reported"], row["key_ids"]) == ({"interval_ms": 1000}, ["01" * 8])
    assert (row["sequence"], row["local_version"], row["hello_ms"], row["last_seen_ms"]) == (7, 2, NOW_MS, NOW_MS)


def test_the_last_hello_of_a_batch_counts(store: Store):
    store.write(hello(battery_mv=3700), hello(battery_mv=3600))
    assert store.rows(t.devices)[0]["battery_mv"] == 3600


def test_a_hello_that_comes_behind_a_later_one_changes_nothing_but_what_its_floors_give_up(store: Store):
    store.write(hello(epoch=2, t_ms=5000, battery_mv=3600))
    store.write(hello(epoch=2, t_ms=4000, battery_mv=3700, floors=[(2, 3, 0, 0, 0, 0)]))
    store.write(hello(epoch=1, t_ms=90_000, battery_mv=3800))
    (row,) = store.rows(t.devices)
    assert (row["epoch"], row["hello_t_ms"], row["battery_mv"]) == (2, 5000, 3600)
    assert store.next_seq(epoch=2) == 3
    store.write(hello(epoch=2, t_ms=5000, battery_mv=3500))  # the same moment, said twice in one session
    store.write(hello(epoch=3, t_ms=10, battery_mv=3400))
    assert store.rows(t.devices)[0]["battery_mv"] == 3400


def test_what_a_board_no_longer_knows_of_is_not_waited_for(store: Store):
    """Its flash was wiped, or it has had more epochs than a HELLO lists: nothing of epoch 1 will fill the gap."""
    store.write(event(0), event(3))
    outcome = store.write(hello(epoch=2, floors=[(2, 0, 0, 0, 0, 0)]))
    assert outcome.counts["records_declared_dropped"] == 2
    assert store.next_seq() == 4
    assert store.account()["declared_dropped"] == 2
    store.write(event(1))  # it lay in the broker's queue
    assert (store.account()["received"], store.account()["declared_dropped"]) == (3, 1)


def test_what_a_board_may_still_hold_is_waited_for(store: Store):
    store.write(event(0), event(3))
    store.write(hello(epoch=2))  # lists nothing at all
    store.write(hello(epoch=2, floors=[(1, 1, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0)]))
    store.write(hello(epoch=20, floors=[(epoch, 0, 0, 0, 0, 0) for epoch in range(13, 21)]))  # no room for more
    store.write(hello(epoch=1, t_ms=50, floors=[(1, 1, 0, 0, 0, 0)]))  # late
    assert store.next_seq() == 1
    assert store.account()["declared_dropped"] == 0


def test_presence_follows_the_retained_state_and_is_no_contact(store: Store):
    store.write_items([Item(BOARD, "", b"1", True)])
    store.write_items([Item(BOARD, "", b"1", True)], at_ms=NOW_MS + 1_000)
    (row,) = store.rows(t.devices)
    assert (row["online"], row["online_ms"], row["last_seen_ms"]) == (True, NOW_MS, None)
    store.write_items([Item(BOARD, "", b"0", False)], at_ms=NOW_MS + 2_000)
    (row,) = store.rows(t.devices)
    assert (row["online"], row["online_ms"]) == (False, NOW_MS + 2_000)


def test_records_say_nothing_about_presence(store: Store):
    store.write_items([Item(BOARD, "", b"1", True)])
    store.write(event(0), at_ms=NOW_MS + 5_000)
    (row,) = store.rows(t.devices)
    assert (row["online"], row["online_ms"], row["last_seen_ms"]) == (True, NOW_MS, NOW_MS + 5_000)


def test_what_was_set_aside_is_counted_at_the_device(store: Store):
    store.write(b"\x93\x7f\x01\x02", b"junk", event(0))
    (row,) = store.rows(t.devices)
    assert (row["set_aside"], row["unknown_codes"]) == (2, 1)

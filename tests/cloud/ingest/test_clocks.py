"""When an epoch began: estimated, known, corrected; clocks that run fast or jump."""

from cloud.ingest.clocks import MAX_SHIFT_MS
from cloud.store import tables as t
from tests.support.messages import event, hello
from tests.support.store import BOARD, NOW_MS, Store

_DAY_MS = 86_400_000
_TEN_YEARS_MS = 3650 * _DAY_MS


def epoch(store: Store, number: int = 1) -> tuple[int, int]:
    """(began_ms, quality)."""
    (row,) = [row for row in store.rows(t.epochs) if row["epoch"] == number]
    return row["began_ms"], row["quality"]


def test_without_a_hello_the_start_is_estimated_and_hello_is_asked_for(store: Store):
    outcome = store.write(event(0, t_ms=5_000))
    assert outcome.say_hello == {BOARD}
    assert epoch(store) == (NOW_MS - 5_000, t.QUALITY_ESTIMATED)


def test_a_hello_makes_the_start_known_and_moves_all_records_with_one_row(store: Store):
    store.write(event(0, t_ms=5_000))  # it waited a minute in the board
    outcome = store.write(hello(t_ms=70_000), at_ms=NOW_MS + 5_000)
    assert outcome.say_hello == set()
    assert epoch(store) == (NOW_MS - 65_000, t.QUALITY_HELLO)
    assert store.rows(t.events)[0]["t_ms"] == 5_000
    assert store.write(event(1, t_ms=71_000)).say_hello == set()


def test_a_hello_that_waited_in_the_broker_is_put_right_by_the_next_message(store: Store):
    store.write(hello(t_ms=10_000), at_ms=NOW_MS + 30_000)  # said at NOW, heard half a minute later
    store.write(event(0, t_ms=40_100), at_ms=NOW_MS + 30_100)
    assert epoch(store) == (NOW_MS - 10_000, t.QUALITY_HELLO)


def test_an_old_record_does_not_move_the_start(store: Store):
    store.write(hello(t_ms=100_000))
    store.write(event(0, t_ms=1_000), at_ms=NOW_MS + 500)
    assert epoch(store) == (NOW_MS - 100_000, t.QUALITY_HELLO)


def test_the_calendar_of_a_board_does_not_matter(store: Store):
    """A board in the year 2000 sends the same messages as any other: they carry no date."""
    store.write(hello(t_ms=0))
    store.write(event(0, t_ms=4_294_967_296 + 5), at_ms=NOW_MS + 4_294_967_296 + 5)  # beyond a 49.7-day tick
    assert epoch(store) == (NOW_MS, t.QUALITY_HELLO)


def test_a_clock_that_jumps_ten_years_ahead_marks_the_epoch_and_moves_nothing(store: Store):
    store.write(hello(t_ms=1_000))
    store.write(event(0, t_ms=2_000 + _TEN_YEARS_MS), at_ms=NOW_MS + 1_000)
    assert epoch(store) == (NOW_MS - 1_000, t.QUALITY_JUMPED)
    assert len(store.rows(t.events)) == 1
    store.write(event(1, t_ms=3_000), at_ms=NOW_MS + 2_000)
    assert epoch(store) == (NOW_MS - 1_000, t.QUALITY_JUMPED)


def test_a_clock_that_jumps_back_changes_nothing(store: Store):
    store.write(hello(t_ms=50_000))
    store.write(event(0, t_ms=10), at_ms=NOW_MS + 1_000)
    assert epoch(store) == (NOW_MS - 50_000, t.QUALITY_HELLO)


def test_a_fast_clock_is_followed_so_that_no_reading_lies_in_the_future(store: Store):
    store.write(hello(t_ms=0))
    for minute in range(1, 6):
        store.write(event(minute - 1, t_ms=600_000 * minute), at_ms=NOW_MS + 1_000 * minute)
    began_ms, _ = epoch(store)
    assert began_ms + 600_000 * 5 == NOW_MS + 5_000
    assert MAX_SHIFT_MS > 600_000


def test_epochs_have_clocks_of_their_own(store: Store):
    store.write(hello(epoch=1, t_ms=1_000))
    store.write(hello(epoch=2, t_ms=10), event(0, epoch=1, t_ms=500), at_ms=NOW_MS + _DAY_MS)
    assert epoch(store, 1) == (NOW_MS - 1_000, t.QUALITY_HELLO)
    assert epoch(store, 2) == (NOW_MS + _DAY_MS - 10, t.QUALITY_HELLO)


def test_a_gap_that_stays_asks_for_the_floors(store: Store):
    store.write(hello(), event(0))
    assert store.write(event(5)).say_hello == set()  # just out of order, as far as anybody knows
    assert store.write(event(6)).say_hello == {BOARD}
    assert store.write(hello(floors=[[1, 5, 0, 0, 0, 0]]), event(7)).say_hello == set()
    assert store.write(event(8)).say_hello == set()


def test_hello_is_asked_for_the_newest_epoch_only(store: Store):
    store.write(hello(epoch=5))
    assert store.write(event(0, epoch=3)).say_hello == set()  # no HELLO will ever name its clock
    assert store.write(event(0, epoch=6)).say_hello == {BOARD}
    assert store.write(hello(epoch=6), event(1, epoch=6)).say_hello == set()

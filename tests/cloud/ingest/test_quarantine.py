"""Quarantine is bounded, one device does not push the others out, and what it holds can be taken again."""

import pytest

from cloud import wire_types as w
from cloud.frames import service as frames
from cloud.ingest import quarantine
from cloud.ingest.decode import MAX_KEPT_BYTES
from cloud.ingest.replay import asked, mark_replayed
from cloud.ingest.writer import Writer
from cloud.store import tables as t
from cloud.store.engine import writing
from contract import wire
from tests.support.messages import event
from tests.support.store import BOARD, NOW_MS, Store

JUNK = b"\x93\x7f\x01"


def test_the_bytes_are_kept_whole_up_to_a_limit(store: Store):
    store.write(JUNK, JUNK + bytes(3 * MAX_KEPT_BYTES))
    kept = store.rows(t.quarantine)
    assert kept[0]["payload"] == JUNK
    assert (len(kept[1]["payload"]), kept[1]["size"]) == (MAX_KEPT_BYTES, 3 * MAX_KEPT_BYTES + 3)


def test_one_device_keeps_its_newest_only(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine, "MAX_PER_DEVICE", 5)
    store.add("other")
    store.write(JUNK, device="other")
    outcome = store.write(*(JUNK + bytes([number]) for number in range(12)))
    assert outcome.counts["quarantine_removed"] == 7
    assert [row["payload"][-1] for row in store.rows(t.quarantine)] == [7, 8, 9, 10, 11]
    assert len(store.rows(t.quarantine, "other")) == 1


@pytest.mark.parametrize(("limit", "value"), [("MAX_ROWS", 6), ("MAX_BYTES", 6 * 1003)])
def test_the_table_is_bounded_by_rows_and_bytes(store: Store, monkeypatch: pytest.MonkeyPatch, limit: str, value: int):
    monkeypatch.setattr(quarantine, limit, value)
    monkeypatch.setattr(quarantine, "_TRIM_ROWS", 1)
    for number in range(3):
        store.write(*[JUNK + bytes([number]) * 1000] * 4)
    kept = store.rows(t.quarantine)
    assert [row["payload"][-1] for row in kept] == [1, 1, 2, 2, 2, 2]


def replay_all(store: Store) -> int:
    """What the ingest process does when it polls; returns how many were written."""

    async def work(engine) -> int:
        ids, items = await asked(engine)
        if items:
            await Writer(engine).write(items, NOW_MS)
        await mark_replayed(engine, ids)
        return len(items)

    return store.run(work)


def ask(store: Store, frame: int) -> None:
    store.run(lambda engine: frames.ask_replay(engine, frame))


def test_a_frame_of_a_device_that_was_unknown_is_stored_by_replay(store: Store):
    store.write(event(0), device="late")
    store.add("late")
    assert replay_all(store) == 0
    ask(store, 1)
    assert replay_all(store) == 1
    assert [row["seq"] for row in store.rows(t.events, "late")] == [0]
    assert store.rows(t.quarantine, "late")[0]["replayed_ms"] is not None
    assert replay_all(store) == 0


def test_replayed_numbers_are_received_and_no_longer_set_aside(store: Store):
    store.write(event(0))
    # The very frame a newer cloud understands: here its bytes are put right in place.
    sound = w.encode(event(1))
    store.write(sound[:-1])
    assert store.account()["set_aside"] == 1

    async def mend(engine) -> None:
        async with writing(engine).begin() as connection:
            await connection.execute(t.quarantine.update().values(payload=sound, size=len(sound)))

    store.run(mend)
    ask(store, 1)
    replay_all(store)
    account = store.account()
    assert (account["next_seq"], account["received"], account["set_aside"]) == (2, 2, 0)
    assert store.rows(t.skipped) == []


def test_what_is_still_bad_stays(store: Store):
    store.write(JUNK)
    ask(store, 1)
    assert replay_all(store) == 0
    (row,) = store.rows(t.quarantine)
    assert row["reason"] == wire.BAD_NAMES[wire.BAD_CODE]
    assert row["replayed_ms"] is not None


def test_frames_are_listed_newest_first_and_shown_with_their_bytes(store: Store):
    store.write(JUNK, b"junk")
    found = store.run(lambda engine: frames.list_frames(engine, BOARD))
    assert [frame.id for frame in found] == [2, 1]
    shown = store.run(lambda engine: frames.show_frame(engine, 1))
    assert shown.payload == JUNK.hex()

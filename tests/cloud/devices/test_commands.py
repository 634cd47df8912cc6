"""Commands to boards: what no board would do is refused, and a number is never used again."""

from typing import Any

import pytest
import sqlalchemy as sa

from cloud.devices import commands
from cloud.devices.commands import MAX_WAITING, command
from cloud.errors import BadRequest, Conflict, NotFound
from cloud.store import tables as t
from cloud.store.engine import writing
from contract import policy, wire
from tests.support.store import BOARD, NOW_MS, Store

WINDOW = wire.VERB_RAW_WINDOW


def noted(store: Store, verb: str, *args: Any, device: str = BOARD) -> int:
    async def work(engine: Any) -> int:
        async with writing(engine).begin() as connection:
            return await command(connection, device, verb, args)

    return store.run(work)


def test_numbers_rise_within_a_second_and_where_the_clock_was_set_back(store: Store, monkeypatch: pytest.MonkeyPatch):
    numbers: list[int] = []
    for at_ms in (NOW_MS, NOW_MS + 100, NOW_MS - 86_400_000, NOW_MS + 5000):
        monkeypatch.setattr(commands, "now_ms", lambda at_ms=at_ms: at_ms)
        numbers.append(noted(store, WINDOW))
    now_s = NOW_MS // 1000
    assert numbers == [now_s, now_s + 1, now_s + 2, now_s + 5]


def test_numbers_rise_where_the_store_was_put_back_to_an_older_state(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Boards have seen what this store has forgotten, and pass over what is not above it."""
    monkeypatch.setattr(commands, "now_ms", lambda: NOW_MS)
    seen = noted(store, WINDOW, policy.MAX_RAW_WINDOWS)

    async def forget(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.delete(t.commands))

    store.run(forget)
    monkeypatch.setattr(commands, "now_ms", lambda: NOW_MS + 60_000)
    assert seen < noted(store, WINDOW, 1) <= wire.MAX_U32
    assert [(row["verb"], row["args"], row["sent_ms"]) for row in store.rows(t.commands)] == [(WINDOW, [1], None)]


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("reboot", ()),
        (WINDOW, (0,)),
        (WINDOW, (policy.MAX_RAW_WINDOWS + 1,)),
        (WINDOW, ("2",)),
        (WINDOW, (True,)),
        (WINDOW, (1, 2)),
    ],
)
def test_what_no_board_would_do_is_refused(store: Store, verb: str, args: tuple[Any, ...]):
    with pytest.raises(BadRequest):
        noted(store, verb, *args)
    assert store.rows(t.commands) == []


def test_a_board_that_is_not_there_gets_none(store: Store):
    with pytest.raises(NotFound):
        noted(store, WINDOW, device="stranger")


def test_commands_that_nobody_sends_do_not_pile_up(store: Store):
    for _ in range(MAX_WAITING):
        noted(store, WINDOW)
    with pytest.raises(Conflict, match="ingest"):
        noted(store, WINDOW)

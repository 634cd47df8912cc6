"""Commands to boards: what no board would do is refused, and a number is never used again."""

from typing import Any

import pytest
import sqlalchemy as sa

from cloud.devices.commands import MAX_WAITING, command
from cloud.errors import BadRequest, Conflict, NotFound
from cloud.store import tables as t
from cloud.store.engine import writing
from contract import policy, wire
from tests.support.store import BOARD, Store

WINDOW = wire.VERB_RAW_WINDOW


def noted(store: Store, verb: str, *args: Any, device: str = BOARD) -> int:
    async def work(engine: Any) -> int:
        async with writing(engine).begin() as connection:
            return await command(connection, device, verb, args)

    return store.run(work)


def test_numbers_rise_even_when_old_commands_are_gone(store: Store):
    first = noted(store, WINDOW)
    second = noted(store, WINDOW, policy.MAX_RAW_WINDOWS)

    async def forget(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.delete(t.commands))

    store.run(forget)
    assert first < second < noted(store, WINDOW, 1)
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

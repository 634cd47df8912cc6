"""FETCH is answered at a bounded rate for each board; commands leave in their order, once a board listens."""

from typing import Any, cast

import pytest

from cloud import wire_types as w
from cloud.devices.commands import command
from cloud.ingest.downlink import ARTIFACT_BYTES_PER_S, Chunks, send_commands
from cloud.ingest.mqtt import Link, LinkLost
from cloud.models.blobs import Blobs
from cloud.store import tables as t
from cloud.store.engine import writing
from contract import wire
from tests.support.messages import hello
from tests.support.store import BOARD, Store


class Broker:
    """What a Link leads to: keeps what is published, goes away at the given one."""

    def __init__(self) -> None:
        self.got: list[tuple[str, w.Do, bool]] = []
        self.goes_at: int | None = None

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if len(self.got) == self.goes_at:
            raise LinkLost("gone")
        message = w.decode_downlink(payload)
        assert isinstance(message, w.Do)
        self.got.append((topic, message, retain))


def ask(store: Store, windows: int) -> int:
    async def work(engine: Any) -> int:
        async with writing(engine).begin() as connection:
            return await command(connection, BOARD, wire.VERB_RAW_WINDOW, [windows])

    return store.run(work)


def send(store: Store, broker: Broker) -> int:
    return store.run(lambda engine: send_commands(engine, cast("Link", broker)))


def test_a_command_waits_until_its_board_has_subscribed_which_a_hello_shows(store: Store):
    """Before its first session a board has no subscription: the broker takes the command and drops it."""
    broker = Broker()
    number = ask(store, 2)
    store.write(False)  # the broker's word that nobody is there
    assert send(store, broker) == 0
    assert store.rows(t.commands)[0]["sent_ms"] is None
    store.write(hello())
    assert send(store, broker) == 1
    assert broker.got == [(wire.topic(BOARD, wire.KIND_DO), w.Do(number, wire.VERB_RAW_WINDOW, (2,)), False)]
    assert send(store, broker) == 0


def test_commands_whose_sending_was_cut_go_again_all_of_them_in_their_order(store: Store):
    store.write(hello())
    numbers = [ask(store, windows) for windows in (1, 2, 3)]
    broker = Broker()
    broker.goes_at = 2
    with pytest.raises(LinkLost):
        send(store, broker)
    broker.goes_at = None
    assert send(store, broker) == 3
    assert [message.id for _, message, _ in broker.got] == [*numbers[:2], *numbers], "what a board knows it passes over"
    assert send(store, broker) == 0


def test_a_board_that_asks_too_fast_waits_and_others_do_not(store: Store):
    now = 0.0

    async def work(engine) -> list[bool]:
        nonlocal now
        chunks = Chunks(engine, Blobs(store.settings.blobs_url), clock=lambda: now)
        fetch = w.Fetch(bytes(8), 0, wire.MAX_CHUNK_BYTES)
        answered = [await chunks.answer("greedy", fetch) is not None for _ in range(18)]
        answered.append(await chunks.answer("modest", fetch) is not None)
        now = wire.MAX_CHUNK_BYTES / ARTIFACT_BYTES_PER_S
        answered += [await chunks.answer("greedy", fetch) is not None for _ in range(2)]
        return answered

    assert store.run(work) == [True] * 16 + [False] * 2 + [True] + [True, False]

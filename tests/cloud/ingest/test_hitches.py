"""Stores that hesitate, time out or are away: what one session of ingest does then, and that it goes on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.event import listen

from cloud import wire_types as w
from cloud.devices.configuration import configure
from cloud.ingest import downlink
from cloud.ingest.downlink import Chunks
from cloud.ingest.mqtt import Link, LinkLost
from cloud.ingest.session import Parts, Session
from cloud.ingest.writer import Item, Outcome, Writer
from cloud.models import keys
from cloud.models.blobs import Blobs
from cloud.models.service import Audience, Registry
from cloud.settings import load_settings
from cloud.store import tables as t
from cloud.store.engine import make_engine, writing
from contract import wire
from model_export.keys import PublisherKey
from tests.support.artifacts import digest, make, new_key
from tests.support.messages import event, hello, item
from tests.support.store import BOARD, Store


class Broker:
    """What a Link leads to. `hesitates_s`: how long each publish takes to reach it, the first one first."""

    def __init__(self, *hesitates_s: float) -> None:
        self.got: list[Any] = []
        self.gone = asyncio.Event()
        self._hesitates_s = list(hesitates_s)

    def send(self, _topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.got.append(w.decode_downlink(payload))

    async def publish(self, _topic: str, payload: bytes, *, retain: bool) -> None:
        if self._hesitates_s:
            await asyncio.sleep(self._hesitates_s.pop(0))
        if self.gone.is_set():
            raise LinkLost("gone")
        self.got.append(w.decode_downlink(payload))

    async def lost(self) -> None:
        await asyncio.Event().wait()

    @property
    def link(self) -> Link:
        return cast("Link", self)


def parts_of(engine: Any, store: Store) -> Parts:
    return Parts.on(engine, Blobs(store.settings.blobs_url))


async def for_a_while(session: Session, link: Link, seconds: float) -> None:
    """What `edgewise up` makes of a session, and its end."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stopping.set)
    await session.work(link, stopping)


class Hesitant(Writer):
    """The deadline of a statement passes once: such an error has no words."""

    deadlines = 1

    async def write(self, items: Sequence[Item], now_ms: int) -> Outcome:
        if self.deadlines:
            self.deadlines -= 1
            raise TimeoutError
        return await super().write(items, now_ms)


def test_a_batch_whose_deadline_passed_is_written_again(store: Store) -> None:
    async def work(engine: Any) -> list[Outcome]:
        parts = parts_of(engine, store)
        parts.writer = Hesitant(engine)
        return await Session(parts).write([item(BOARD, event(0))])

    (outcome,) = store.run(work)
    assert outcome.counts["event_records"] == 1


def test_a_database_that_refuses_connections_ends_no_session(tmp_path: Path) -> None:
    pytest.importorskip("asyncpg")
    nobody = load_settings({"EDGEWISE_DATABASE_URL": "postgresql://127.0.0.1:1/none"}, data_dir=tmp_path)

    async def work() -> None:
        engine = make_engine(nobody)
        await for_a_while(Session(Parts.on(engine, Blobs("memory:///"))), Broker().link, 0.1)

    asyncio.run(work())


def test_the_wish_that_was_read_last_reaches_the_broker_last(store: Store) -> None:
    """WANT is retained: an older one that comes late would stay until the next change."""

    async def work(engine: Any) -> list[int]:
        broker = Broker(0.3)
        session = Session(parts_of(engine, store))
        await configure(engine, BOARD, {"interval_ms": 2000})

        async def changed_meanwhile() -> None:
            await asyncio.sleep(0.1)
            await configure(engine, BOARD, {"interval_ms": 3000})
            await session.publish_wants(broker.link, [BOARD])

        await asyncio.gather(session.publish_wants(broker.link), changed_meanwhile())
        return [want.config_version for want in broker.got]

    versions = store.run(work)
    assert versions == sorted(versions)
    assert len(versions) == 2


def test_many_hellos_cost_one_turn_of_writing(store: Store) -> None:
    names = [f"many-{at}" for at in range(30)]
    store.add(*names)

    async def work(engine: Any) -> tuple[int, int]:
        for name in names:
            await configure(engine, name, {"interval_ms": 2000})
        turns = 0

        def count(_connection: Any) -> None:
            nonlocal turns
            turns += 1

        broker, session = Broker(), Session(parts_of(engine, store))
        listen(engine.sync_engine, "begin", count)
        await session.publish_wants(broker.link, names)
        return len(broker.got), turns

    assert store.run(work) == (30, 2)  # one to read, one to write


def test_nothing_is_left_running_of_a_session_whose_link_broke(store: Store) -> None:
    async def work(engine: Any) -> set[str]:
        await configure(engine, BOARD, {"interval_ms": 2000})
        broker = Broker()
        broker.gone.set()
        with pytest.raises(LinkLost):
            await Session(parts_of(engine, store)).work(broker.link, asyncio.Event())
        await asyncio.sleep(0)
        return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert store.run(work) == set()


@pytest.mark.parametrize("already_asked", [False, True])
def test_a_question_of_a_board_that_was_removed_is_passed_over(
    store: Store, caplog: pytest.LogCaptureFixture, already_asked: bool
) -> None:
    store.write(hello())
    store.write(w.Query(1, 0, 1000, 0, 9.4, bytes(8), bytes(8), wire.WHY_MARGIN))

    async def work(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.delete(t.devices))
        parts = parts_of(engine, store)
        parts.inference.ask([(BOARD, 1, 0)] if already_asked else [])
        await for_a_while(Session(parts), Broker().link, 0.1)

    store.run(work)
    assert caplog.messages == []


def published(store: Store, key: PublisherKey) -> bytes:
    """An artifact in the registry."""
    data = make(key)

    async def work(engine: Any) -> None:
        blobs = Blobs(store.settings.blobs_url)
        async with writing(engine).begin() as connection:
            await keys.trust(connection, key.public.hex(), "", 1)
        await Registry(engine, blobs).publish([data], [], Audience())

    store.run(work)
    return data


class Slow(Blobs):
    """A store that takes its time."""

    async def get(self, digest: str) -> bytes:
        await asyncio.sleep(0.2)
        return await super().get(digest)


def test_a_batch_does_not_wait_for_a_blob_for_long_and_the_blob_comes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink, "READ_S", 0.05)
    data = published(store, new_key())
    fetch = w.Fetch(bytes.fromhex(digest(data))[:8], 0, 100)

    async def work(engine: Any) -> list[Any]:
        chunks = Chunks(engine, Slow(store.settings.blobs_url))
        first = [await chunks.answer(BOARD, fetch) for _ in range(3)]
        await asyncio.sleep(0.3)
        return [*first, await chunks.answer(BOARD, fetch)]

    *waited, found = store.run(work)
    assert waited == [None, None, None]
    assert found == w.encode(w.Chunk(fetch.sha8, 0, data[:100], len(data)))


def test_a_blob_store_that_fails_delays_a_fetch_and_ends_nothing(store: Store) -> None:
    data = published(store, new_key())
    fetch = w.Fetch(bytes.fromhex(digest(data))[:8], 0, 100)
    folder = store.settings.data_dir / "blobs" / "sha256"
    folder.rename(folder.with_name("away"))
    folder.touch()

    async def work(engine: Any) -> list[Any]:
        chunks = Chunks(engine, Blobs(store.settings.blobs_url))
        return [await chunks.answer(BOARD, fetch) for _ in range(2)]

    assert store.run(work) == [None, None]

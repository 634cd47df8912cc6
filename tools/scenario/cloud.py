"""The cloud of a simulated board: ingest's own code on a SQLite store, told the time by the simulator.

What a board publishes goes through the same decoding, deduplication, transaction and acknowledgement as in the ingest
process (cloud/ingest); only the socket to the broker is left out. Times in the store are the scenario's.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from cloud import wire_types as w
from cloud.ingest.acks import Acks
from cloud.ingest.mqtt import Delivery
from cloud.ingest.session import sort_deliveries
from cloud.ingest.writer import Writer
from cloud.settings import load_settings
from cloud.store.engine import make_engine, writing
from cloud.store.tables import devices, events, frames, health, metadata, quarantine, queries, streams
from contract import wire

START_MS = 1_767_225_600_000  # 2026-01-01: the scenario's moment 0 by the cloud's clock
JSON_TOPIC = "json/"

Line = tuple[int, int]
"""One line of the naive uplink: which boot of its board, and the board's time."""


class Said(NamedTuple):
    """A message of the cloud, that leaves later_ms after the commit."""

    topic: str
    payload: bytes
    retain: bool
    later_ms: int


@dataclass
class Stored:
    """What the cloud holds of one board, all times in ms of the scenario where they are the cloud's.

    by_stream: wire stream name to (received, declared dropped, set aside, came again). events: (epoch, t_ms, kind,
    stored at). readings: (epoch, first t_ms, last t_ms, rows, stored at) of each frame.
    """

    by_stream: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    events: list[tuple[int, int, int, int]] = field(default_factory=list[tuple[int, int, int, int]])
    readings: list[tuple[int, int, int, int, int]] = field(default_factory=list[tuple[int, int, int, int, int]])
    queries: int = 0
    set_aside: int = 0
    health: int = 0


class Cloud:
    """Of one board, on a database file of its own. Not to be used inside a running event loop.

    judge: whether a window that ends at a moment of the scenario holds an anomaly; who asks by QUERY is told so,
    answer_ms after the commit. None: nobody answers.
    """

    def __init__(
        self, folder: Path, device: str, kind: str, judge: Callable[[int], bool] | None = None, answer_ms: int = 0
    ) -> None:
        self._device = device
        self._judge = judge
        self._answer_ms = answer_ms
        settings = load_settings({"EDGEWISE_DATABASE_URL": f"sqlite:///{folder / 'cloud.sqlite'}"}, data_dir=folder)
        self._loop = asyncio.new_event_loop()
        self._engine = make_engine(settings)
        event.listen(self._engine.sync_engine, "connect", _forget_safety)
        event.listen(self._engine.sync_engine, "connect", _spare_thread)
        self._writer = Writer(self._engine)
        self._acks = Acks(self._engine)
        self._json: dict[Line, int] = {}
        self._json_again = 0
        self.counts: Counter[str] = Counter()
        self._run(self._prepare(kind))

    async def _prepare(self, kind: str) -> None:
        async with writing(self._engine).begin() as connection:
            await connection.run_sync(metadata.create_all)
            row = {"device": self._device, "kind": kind, "credential": 1, "created_ms": START_MS}
            await connection.execute(sa.insert(devices).values(row))

    def _run(self, work: object) -> object:
        return self._loop.run_until_complete(work)  # type: ignore[arg-type]

    def close(self) -> None:
        """Let go of the database."""
        self._run(self._engine.dispose())
        self._loop.close()

    def take(self, messages: list[tuple[str, bytes]], stored_ms: int) -> list[Said]:
        """Store a batch; what the cloud says then."""
        own = [(topic, payload) for topic, payload in messages if topic.startswith(wire.TOPIC_PREFIX)]
        for topic, payload in messages:
            if topic.startswith(JSON_TOPIC):
                self._take_json(payload, stored_ms)
        return self._run(self._ingest(own, START_MS + stored_ms)) if own else []  # type: ignore[return-value]

    def _take_json(self, payload: bytes, stored_ms: int) -> None:
        told = json.loads(payload)
        line = (int(told["boot"]), int(told["t"]))
        self._json_again += line in self._json
        self._json.setdefault(line, stored_ms)

    async def _ingest(self, messages: list[tuple[str, bytes]], now_ms: int) -> list[Said]:
        items, _fetches = sort_deliveries([Delivery(topic, payload, 0, 1, False) for topic, payload in messages])
        outcome = await self._writer.write(items, now_ms)
        self.counts.update(outcome.counts)
        await self._acks.note(outcome.acks, outcome.hellos)
        said: list[Said] = []
        for device in outcome.acks:
            flags = wire.ACK_NEED_KEY if device in outcome.need_key else 0
            flags |= wire.ACK_SAY_HELLO if device in outcome.say_hello else 0
            said.append(Said(wire.topic(device, wire.KIND_ACK), self._acks.message(device, flags, now_ms), True, 0))
        for item in items:
            if isinstance(item.what, w.Query) and self._judge is not None:
                said.append(self._answer(item.what, self._judge(now_ms - START_MS)))
        return said

    def _answer(self, query: w.Query, anomalous: bool) -> Said:
        verdict = wire.VERDICT_ANOMALY if anomalous else wire.VERDICT_NORMAL
        answer = w.Answer(query.epoch, query.seq, verdict, float(anomalous), query.route)
        return Said(wire.topic(self._device, wire.KIND_DO), w.encode(answer), False, self._answer_ms)

    def json_lines(self) -> tuple[dict[Line, int], int]:
        """Of the naive uplink: when each line was stored first, and how many came again."""
        return self._json, self._json_again

    def stored(self) -> Stored:
        """The books at the end."""
        return self._run(self._stored())  # type: ignore[return-value]

    async def _stored(self) -> Stored:
        found = Stored()
        names = dict(zip(wire.STREAMS, wire.STREAM_NAMES, strict=True))
        async with self._engine.connect() as connection:
            for row in await connection.execute(sa.select(streams)):
                books = found.by_stream.setdefault(names[row.stream], [0, 0, 0, 0])
                for at, count in enumerate((row.received, row.declared_dropped, row.set_aside, row.duplicates)):
                    books[at] += count
            query = sa.select(events.c.epoch, events.c.t_ms, events.c.kind, events.c.received_ms)
            for epoch, t_ms, kind, at_ms in await connection.execute(query.order_by(events.c.received_ms)):
                found.events.append((epoch, t_ms, kind, at_ms - START_MS))
            query = sa.select(frames.c.epoch, frames.c.t0_ms, frames.c.t1_ms, frames.c.rows, frames.c.received_ms)
            for epoch, t0_ms, t1_ms, rows, at_ms in await connection.execute(query):
                found.readings.append((epoch, t0_ms, t1_ms, rows, at_ms - START_MS))
            for name, table in (("queries", queries), ("health", health), ("set_aside", quarantine)):
                count = (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
                setattr(found, name, count)
        return found


def _forget_safety(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    """This store ends with the simulation: it needs no flush to the disk at each commit."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.execute("PRAGMA journal_mode=MEMORY")
    cursor.close()


def _spare_thread(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    """Run statements where they are asked for: aiosqlite hands each to a thread, which is half the cost of this store.

    That takes the one method through which aiosqlite's connection and cursors hand over; would it be called otherwise,
    the thread would be back and every result the same.
    """

    async def at_once(function: Callable[..., object], *args: object, **named: object) -> object:
        return function(*args, **named)

    driver: Any = connection.driver_connection  # type: ignore[attr-defined]
    driver._execute = at_once

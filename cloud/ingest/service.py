"""The ingest process: broker -> fair queue -> batch -> transaction -> acknowledgements.

A message is acknowledged to the broker after the commit of the transaction that stored it or set it aside, and to its
board by the ACK that follows. Until then the broker keeps it, and the board keeps its record. So a batch that is lost
with the process, the link or the database comes again, and the writer stores each record once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud import wire_types as w
from cloud.broker import ingest_login
from cloud.clock import now_ms
from cloud.ingest.acks import Acks
from cloud.ingest.decode import Poison, read, read_numbers
from cloud.ingest.downlink import Chunks, publish_wants
from cloud.ingest.fair import FairQueue
from cloud.ingest.mqtt import Delivery, Link, LinkLost, connect
from cloud.ingest.replay import asked, mark_replayed
from cloud.ingest.writer import Item, Outcome, Writer
from cloud.models.blobs import Blobs
from cloud.settings import Settings
from cloud.store.engine import insert, writing
from cloud.store.tables import services
from contract import wire
from contract.wire import WireError

log = logging.getLogger("ingest")

MAX_BATCH = 500
"""Messages of one transaction: about 20 ms of work, so that others wait little for the write lock."""

LINGER_S = 0.01
"""How long a batch waits for company. A commit costs a disk flush; at full load it never waits."""

POLL_S = 0.5
BEAT_S = 1.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
TOPICS = (f"{wire.TOPIC_PREFIX}+/{wire.KIND_UP}", f"{wire.TOPIC_PREFIX}+/{wire.KIND_STATE}")


class Ingest:
    """One ingest process. `run` works until `stop` is called."""

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        self._settings = settings
        self._engine = engine
        self._writer = Writer(engine)
        self._acks = Acks(engine)
        self._chunks = Chunks(engine, Blobs(settings.blobs_url))
        self.counts: Counter[str] = Counter()
        """What happened since the start; the heartbeat puts it where /metrics finds it."""
        self._started_ms = now_ms()
        self._stopping = asyncio.Event()
        self._ready = False

    def stop(self) -> None:
        """Ends `run` after the batch at hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Connects, works, and connects again when the link is lost; the heartbeat goes on meanwhile."""
        beat = asyncio.create_task(self._beat_for_ever())
        pause_s = _FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                try:
                    await self._session()
                    return
                except LinkLost as lost:
                    if self._ready:
                        pause_s = _FIRST_PAUSE_S
                    log.warning("link lost reason=%r retry_in_s=%.2f", lost.reason, pause_s)
                self._ready = False
                self.counts["links_lost"] += 1
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._ready = False
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def _session(self) -> None:
        """One connection. Its queue ends with it: what was not acknowledged on it comes again on the next one."""
        queue = FairQueue()
        arrived = asyncio.Event()
        shed: list[Delivery] = []

        def on_message(delivery: Delivery) -> None:
            if not queue.offer(delivery.topic, delivery):
                shed.append(delivery)
            arrived.set()

        async with connect(ingest_login(self._settings), on_message) as link:
            await link.subscribe(TOPICS)
            self._ready = True
            await self._beat()
            log.info("connected host=%s port=%d", self._settings.host, self._settings.mqtt_port)
            tasks: list[asyncio.Task[Any]] = [
                asyncio.create_task(self._batches(link, queue, arrived, shed), name="batches"),
                asyncio.create_task(self._polls(link), name="polls"),
                asyncio.create_task(link.lost(), name="link"),
                asyncio.create_task(self._stopping.wait(), name="stop"),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if tasks[3] in done:
                    await tasks[0]  # the batch at hand
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _batches(self, link: Link, queue: FairQueue, arrived: asyncio.Event, shed: list[Delivery]) -> None:
        while not self._stopping.is_set():
            if not queue.size:
                arrived.clear()
                await self._until(arrived)
                if queue.size < MAX_BATCH:
                    await asyncio.sleep(LINGER_S)
            if shed:
                self.counts["messages_shed"] += len(shed)
                link.acknowledge(shed)
                shed.clear()
            taken = [delivery for _, delivery in queue.take(MAX_BATCH)]
            if taken:
                await self._batch(link, queue, taken)

    async def _batch(self, link: Link, queue: FairQueue, deliveries: Sequence[Delivery]) -> None:
        items, fetches = sort_deliveries(deliveries)
        outcomes = await self._write(items) if items else []
        queue.done(deliveries)
        link.acknowledge(deliveries)
        for device, fetch in fetches:
            chunk = await self._chunks.answer(device, fetch)
            if chunk is None:
                self.counts["fetches_delayed"] += 1
            else:
                link.send(wire.topic(device, wire.KIND_DO), chunk)
                self.counts["chunks_sent"] += 1
        for outcome in outcomes:
            await self._tell(link, outcome)
        self.counts["messages"] += len(deliveries)
        self.counts["message_bytes"] += sum(len(delivery.payload) for delivery in deliveries)
        self.counts["batches"] += 1

    async def _tell(self, link: Link, outcome: Outcome) -> None:
        """Publishes what follows from a committed batch."""
        self.counts.update(outcome.counts)
        await self._acks.note(outcome.acks)
        clock_ms = now_ms()
        for device in outcome.acks:
            flags = wire.ACK_NEED_KEY if device in outcome.need_key else 0
            flags |= wire.ACK_SAY_HELLO if device in outcome.say_hello else 0
            link.send(wire.topic(device, wire.KIND_ACK), self._acks.message(device, flags, clock_ms), retain=True)
        for device in outcome.hellos:
            # The broker may have lost its retained copy: a HELLO costs one more.
            await publish_wants(self._engine, link, device)

    async def _write(self, items: Sequence[Item]) -> list[Outcome]:
        """Stores a batch, however long the database refuses; a message it can never store is set aside."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                outcome = await self._writer.write(items, now_ms())
            except (OperationalError, InterfaceError, OSError) as error:
                # Locked, full, unreachable: nothing was acknowledged, so waiting loses nothing.
                if self._ready:
                    log.error("store refuses a batch cause=%r", str(error.args[0]))
                self._ready = False
                if self._stopping.is_set():
                    raise LinkLost("stopped before the store took the batch") from error
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - whatever one message breaks must not stop the others
                return await self._write_apart(items, error)
            else:
                self._ready = True
                return [outcome]

    async def _write_apart(self, items: Sequence[Item], error: Exception) -> list[Outcome]:
        """Finds the message that breaks a batch, by halves, and sets it aside."""
        if len(items) > 1:
            half = len(items) // 2
            return [*await self._write(items[:half]), *await self._write(items[half:])]
        item = items[0]
        log.error("message cannot be stored device=%s cause=%s", item.device, type(error).__name__, exc_info=error)
        if isinstance(item.what, Poison) and item.what.numbers is None:
            raise error  # not even its bytes can be kept: the store itself is broken
        numbers = None if isinstance(item.what, Poison) else read_numbers(item.payload)
        poison = Poison("cannot be stored", f"{type(error).__name__}: {error}", numbers)
        return await self._write([Item(item.device, item.topic, item.payload, poison)])

    async def _polls(self, link: Link) -> None:
        """What other processes ask of this one through the database."""
        while True:
            try:
                self.counts["wants_published"] += await publish_wants(self._engine, link)
                await self._replay(link)
            except SQLAlchemyError as error:
                log.warning("poll failed cause=%r", str(error.args[0]))
            await asyncio.sleep(POLL_S)

    async def _replay(self, link: Link) -> None:
        ids, items = await asked(self._engine)
        for outcome in await self._write(items) if items else []:
            await self._tell(link, outcome)
        if ids:
            await mark_replayed(self._engine, ids)  # after the commit: a replay that is cut short is done again

    async def _beat_for_ever(self) -> None:
        while True:
            try:
                await self._beat()
            except SQLAlchemyError as error:
                log.warning("heartbeat failed cause=%r", str(error.args[0]))
            await asyncio.sleep(BEAT_S)

    async def _beat(self) -> None:
        row = {
            "service": "ingest",
            "pid": os.getpid(),
            "started_ms": self._started_ms,
            "beat_ms": now_ms(),
            "ready": self._ready,
            "counters": dict(self.counts),
        }
        async with writing(self._engine).begin() as connection:
            statement = insert(services, connection.dialect).values(row)
            await connection.execute(statement.on_conflict_do_update(index_elements=["service"], set_=row))

    async def _until(self, event: asyncio.Event) -> None:
        """Waits for an event or for the end of the process."""
        waits = [asyncio.create_task(event.wait()), asyncio.create_task(self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def sort_deliveries(deliveries: Sequence[Delivery]) -> tuple[list[Item], list[tuple[str, w.Fetch]]]:
    """What goes to the store, and what is answered without it."""
    items: list[Item] = []
    fetches: list[tuple[str, w.Fetch]] = []
    for delivery in deliveries:
        topic, payload = delivery.topic, delivery.payload
        try:
            device, kind = wire.split_topic(topic)
        except WireError as error:
            items.append(Item("", topic, payload, Poison(wire.BAD_NAMES[error.code], error.detail)))
            continue
        if kind == wire.KIND_STATE:
            items.append(Item(device, topic, payload, payload == b"1"))
            continue
        what = read(payload)
        if isinstance(what, w.Fetch):
            fetches.append((device, what))
        else:
            items.append(Item(device, topic, payload, what))
    return items, fetches

"""One connection to the broker: its queue, its batches, and what other processes ask for meanwhile.

Nothing here is cancelled: a transaction that is cut short by a cancellation may leave its connection with the write
lock held. When the link is lost or the process is to end, `ended` is set, and both loops finish the step they are in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud import wire_types as w
from cloud.clock import now_ms
from cloud.inference.service import Inference
from cloud.ingest.acks import Acks
from cloud.ingest.decode import Poison, read, read_numbers
from cloud.ingest.downlink import Chunks, publish_wants, send_commands
from cloud.ingest.fair import FairQueue
from cloud.ingest.mqtt import Delivery, Link, LinkLost
from cloud.ingest.replay import asked, mark_replayed
from cloud.ingest.writer import Item, Outcome, Writer
from cloud.models.blobs import Blobs
from cloud.store.engine import cause_of, passes
from contract import wire
from contract.wire import WireError

log = logging.getLogger("ingest")

MAX_BATCH = 1_000
"""Messages of one transaction: some 50 ms of work, so that other processes wait little for the write lock."""

LINGER_S = 0.01
"""How long a batch waits for company. A commit costs a disk flush; at full load it never waits."""

POLL_S = 0.5
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_T = TypeVar("_T")


@dataclass
class Parts:
    """What outlives a connection."""

    engine: AsyncEngine
    writer: Writer
    acks: Acks
    chunks: Chunks
    inference: Inference
    counts: Counter[str] = field(default_factory=Counter[str])
    """What happened since the start; the heartbeat puts it where /metrics finds it."""
    storing: bool = True
    """False while the store refuses batches."""

    @classmethod
    def on(cls, engine: AsyncEngine, blobs: Blobs, tier: int = wire.ROUTE_CLOUD) -> Parts:
        counts = Counter[str]()
        inference = Inference(engine, blobs, tier, counts)
        return cls(engine, Writer(engine), Acks(engine), Chunks(engine, blobs), inference, counts)


class Session:
    """The work between one CONNACK and the loss of that link."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._queue = FairQueue()
        self._shed: list[Delivery] = []
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._publishing = asyncio.Lock()

    def on_message(self, delivery: Delivery) -> None:
        """Takes what the link delivers; called by it. What is not acknowledged in this session comes in the next."""
        if not self._queue.offer(delivery.topic, delivery):
            self._shed.append(delivery)
        self._arrived.set()

    async def work(self, link: Link, stopping: asyncio.Event) -> None:
        """Until `stopping` is set; raises LinkLost when the link is lost first."""
        workers = [asyncio.create_task(work) for work in (self._batches(link), self._polls(link), self._answers(link))]
        lost, stop = asyncio.create_task(link.lost()), asyncio.create_task(stopping.wait())
        await asyncio.wait([*workers, lost, stop], return_when=asyncio.FIRST_COMPLETED)
        self._ended.set()
        self._arrived.set()
        await asyncio.wait(workers)
        ended = [*workers, lost] if lost.done() else workers
        lost.cancel()
        stop.cancel()
        for task in ended:
            task.result()

    async def _batches(self, link: Link) -> None:
        while not self._ended.is_set():
            if not self._queue.size:
                self._arrived.clear()
                await self._arrived.wait()
                if self._queue.size < MAX_BATCH:
                    await asyncio.sleep(LINGER_S)
            if self._shed:
                self._parts.counts["messages_shed"] += len(self._shed)
                link.acknowledge(self._shed)
                self._shed.clear()
            taken = [delivery for _, delivery in self._queue.take(MAX_BATCH)]
            if taken:
                await self.take(link, taken)

    async def take(self, link: Link, deliveries: Sequence[Delivery]) -> None:
        """One batch of messages: stores, acknowledges and answers them."""
        items, fetches = sort_deliveries(deliveries)
        outcomes = await self.write(items) if items else []
        self._queue.done(deliveries)
        link.acknowledge(deliveries)
        for outcome in outcomes:
            await self._tell(link, outcome)
        for device, fetch in fetches:
            await self._serve(link, device, fetch)
        counts = self._parts.counts
        counts["messages"] += len(deliveries)
        counts["message_bytes"] += sum(len(delivery.payload) for delivery in deliveries)
        counts["batches"] += 1

    async def _serve(self, link: Link, device: str, fetch: w.Fetch) -> None:
        chunk = await self._insist(lambda: self._parts.chunks.answer(device, fetch))
        if chunk is None:
            self._parts.counts["fetches_delayed"] += 1
        else:
            link.send(wire.topic(device, wire.KIND_DO), chunk)
            self._parts.counts["chunks_sent"] += 1

    async def _tell(self, link: Link, outcome: Outcome) -> None:
        """Publishes what follows from a committed batch."""
        self._parts.counts.update(outcome.counts)
        acks = self._parts.acks
        await self._insist(lambda: acks.note(outcome.acks, outcome.hellos))
        clock_ms = now_ms()
        for device in outcome.acks:
            flags = wire.ACK_NEED_KEY if device in outcome.need_key else 0
            flags |= wire.ACK_SAY_HELLO if device in outcome.say_hello else 0
            link.send(wire.topic(device, wire.KIND_ACK), acks.message(device, flags, clock_ms), retain=True)
        self._parts.inference.ask(outcome.questions)
        # The broker may have lost its retained copy: a HELLO costs one more.
        await self._insist(lambda: self.publish_wants(link, list(outcome.hellos)))

    async def publish_wants(self, link: Link, devices: Sequence[str] | None = None) -> int:
        """downlink.publish_wants, one at a time: what was read first has to reach the broker first."""
        async with self._publishing:
            return await publish_wants(self._parts.engine, link, devices)

    async def write(self, items: Sequence[Item]) -> list[Outcome]:
        """Stores a batch, however long the store refuses; a message it can never store is set aside."""
        try:
            return [await self._insist(lambda: self._parts.writer.write(items, now_ms()))]
        except Exception as error:
            if isinstance(error, LinkLost):
                raise
            return await self._write_apart(items, error)

    async def _insist(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """The result of `work`, which is done again for as long as the store refuses. Raises what does not pass."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                result = await work()
            except Exception as error:
                if not passes(error):
                    raise
                # Locked, full, unreachable: what was not stored was not acknowledged, so waiting loses nothing.
                if self._parts.storing:
                    log.error("store refuses cause=%r", cause_of(error))
                self._parts.storing = False
                if self._ended.is_set():
                    raise LinkLost("it ended while the store refused") from error
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._parts.storing = True
                return result

    async def _write_apart(self, items: Sequence[Item], error: Exception) -> list[Outcome]:
        """Finds the message that breaks a batch, by halves, and sets it aside."""
        if len(items) > 1:
            half = len(items) // 2
            return [*await self.write(items[:half]), *await self.write(items[half:])]
        item = items[0]
        log.error("message cannot be stored device=%s cause=%s", item.device, type(error).__name__, exc_info=error)
        if isinstance(item.what, Poison) and item.what.numbers is None:
            raise error  # not even its bytes can be kept: the store itself is broken
        numbers = None if isinstance(item.what, Poison) else read_numbers(item.payload)
        poison = Poison("cannot be stored", f"{type(error).__name__}: {error}", numbers)
        return await self.write([Item(item.device, item.topic, item.payload, poison)])

    async def _answers(self, link: Link) -> None:
        """Answers to QUERY. A store that refuses makes them wait, as it does everything else."""
        while not self._ended.is_set():
            try:
                await self._parts.inference.serve(link, self._ended)
            except (SQLAlchemyError, OSError) as error:
                log.warning("answers wait cause=%r", cause_of(error))
                await wait_for(self._ended, POLL_S)

    async def _polls(self, link: Link) -> None:
        """What other processes ask of this one through the database."""
        while not self._ended.is_set():
            try:
                self._parts.counts["wants_published"] += await self.publish_wants(link)
                self._parts.counts["commands_sent"] += await send_commands(self._parts.engine, link)
                await self._replay(link)
            except (SQLAlchemyError, OSError) as error:
                log.warning("poll failed cause=%r", cause_of(error))
            await wait_for(self._ended, POLL_S)

    async def _replay(self, link: Link) -> None:
        ids, items = await asked(self._parts.engine)
        for outcome in await self.write(items) if items else []:
            await self._tell(link, outcome)
        if ids:
            await mark_replayed(self._parts.engine, ids)  # after the commit: a replay that is cut short is done again


def sort_deliveries(deliveries: Sequence[Delivery]) -> tuple[list[Item], list[tuple[str, w.Fetch]]]:
    """What goes to the store, and what is answered without it."""
    items: list[Item] = []
    fetches: list[tuple[str, w.Fetch]] = []
    for delivery in deliveries:
        topic, payload = delivery.topic, delivery.payload
        try:
            device, kind = _split_topic(topic)
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


_split_topic = lru_cache(maxsize=20_000)(wire.split_topic)  # checking every character costs as much as a decode


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

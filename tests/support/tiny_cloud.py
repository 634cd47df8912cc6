"""The least a board needs of the cloud, with every liberty a test wants: to fall silent, to forget, to ask for things.

The real ingest is tried in tests/cloud and tests/system; this one exists to do what that one never does on purpose.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any

import aiomqtt

from cloud import wire_types as w
from contract import delta, wire

_RANKS = {stream: rank for rank, stream in enumerate(wire.STREAMS)}
_CODES: dict[type, int] = {
    w.Readings: wire.READINGS,
    w.Event: wire.EVENT,
    w.Query: wire.QUERY,
    w.Health: wire.HEALTH,
    w.Update: wire.UPDATE,
}
RecordId = tuple[str, int, int, int]  # device, epoch, stream, seq


def without_opinion(query: w.Query) -> list[w.Answer]:
    """`answers` of a cloud that cannot judge: the board decides alone as in silence, and does not listen for 3 s first.

    A window on which a shadow disagrees is no question.
    """
    asked = query.reason < wire.WHY_SHADOW_ANOMALY
    return [w.Answer(query.epoch, query.seq, wire.VERDICT_UNKNOWN, 0.0)] if asked else []


class TinyCloud:
    """Takes what boards send and acknowledges it. Use as an async context manager.

    records: each record by its identity, readings row by row as (t_ms, values). order: identities in order of arrival.
    times_received: how often each identity came. hellos: HELLO messages by device. based: READINGS frames that came as
    a difference. silent: receive nothing and say nothing. flags: ACK flags of the next ACK only. answers: what it says
    to a QUERY, message by message, as soon as one comes.
    """

    def __init__(self, port: int) -> None:
        self.records: dict[RecordId, Any] = {}
        self.order: list[RecordId] = []
        self.times_received: defaultdict[RecordId, int] = defaultdict(int)
        self.hellos: defaultdict[str, list[w.Hello]] = defaultdict(list)
        self.based = 0
        self.key_frames = 0
        self.silent = False
        self.flags = 0
        self.answers: Callable[[w.Query], list[w.Answer]] = lambda _query: []
        self.artifacts: dict[bytes, bytes] = {}
        self.fetches = 0
        self._port = port
        self._next: defaultdict[str, dict[int, list[int]]] = defaultdict(dict)
        self._client: aiomqtt.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def __aenter__(self) -> "TinyCloud":
        self._task = asyncio.create_task(self._serve())
        async with asyncio.timeout(10):
            await self._ready.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def of(self, device: str, stream: int) -> list[Any]:
        """The records of one stream of a board, in the order of their identities."""
        return [self.records[key] for key in sorted(self.records) if key[0] == device and key[2] == stream]

    async def want(
        self,
        device: str,
        version: int,
        config: dict[str, Any],
        model: w.Offer | None = None,
        local_version: int = 0,
        shadow: w.Offer | None = None,
    ) -> None:
        """Publish, retained, what the board shall be."""
        message = w.Want(version, config, model, local_version, shadow=shadow)  # pyright: ignore[reportArgumentType]
        await self._publish(device, wire.KIND_WANT, w.encode(message), retain=True)

    async def do(self, device: str, message: w.Downlink) -> None:
        """Send a command, or an answer."""
        await self._publish(device, wire.KIND_DO, w.encode(message))

    async def forge_ack(self, device: str, message: w.Ack) -> None:
        """Publish, retained, an ACK that is not this cloud's."""
        await self._publish(device, wire.KIND_ACK, w.encode(message), retain=True)

    async def forget_below(self, device: str, epoch: int, next_seqs: list[int]) -> None:
        """As after a restore from a backup: expect these sequence numbers, and say so."""
        self._next[device][epoch] = list(next_seqs)
        for key in [key for key in self.records if key[:2] == (device, epoch)]:
            if key[3] >= next_seqs[_RANKS[key[2]]]:
                del self.records[key]
        await self.acknowledge(device)

    async def acknowledge(self, device: str) -> None:
        """Publish the ACK, retained."""
        acks = tuple((epoch, *numbers) for epoch, numbers in sorted(self._next[device].items()))[-wire.MAX_ACKS :]
        flags, self.flags = self.flags, 0
        message = w.Ack(round(time.time() * 1000), acks, flags)  # pyright: ignore[reportArgumentType]
        await self._publish(device, wire.KIND_ACK, w.encode(message), retain=True)

    async def _serve(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port) as client:
            self._client = client
            await client.subscribe("ew/1/+/up", qos=1)
            self._ready.set()
            async for message in client.messages:
                device, _ = wire.split_topic(str(message.topic))
                if not self.silent:
                    await self._take(device, w.decode_uplink(bytes(message.payload)))  # type: ignore[arg-type]

    async def _publish(self, device: str, kind: str, payload: bytes, retain: bool = False) -> None:
        assert self._client is not None
        await self._client.publish(wire.topic(device, kind), payload, qos=1, retain=retain)

    async def _take(self, device: str, message: w.Uplink) -> None:
        match message:
            case w.Fetch():
                self.fetches += 1
                data = self.artifacts.get(message.sha8, b"")
                chunk = data[message.offset : message.offset + message.length]
                await self._publish(
                    device, wire.KIND_DO, w.encode(w.Chunk(message.sha8, message.offset, chunk, len(data)))
                )
                return
            case w.Hello():
                self.hellos[device].append(message)
                for epoch, *floors in message.floors:
                    known = self._next[device].setdefault(epoch, [0] * len(wire.STREAMS))
                    for rank, floor in enumerate(floors):
                        known[rank] = max(known[rank], floor)
                        self._advance(device, epoch, rank)
            case w.Readings():
                if not self._take_readings(device, message):
                    self.flags |= wire.ACK_NEED_KEY
            case _:
                self._take_record(device, _CODES[type(message)], message.epoch, message.seq, message)
                if isinstance(message, w.Query):
                    for answer in self.answers(message):
                        await self.do(device, answer)
        await self.acknowledge(device)

    def _take_readings(self, device: str, message: w.Readings) -> bool:
        base = None
        if message.base is not None:
            row = self.records.get((device, message.base[0], wire.READINGS, message.base[1]))
            if row is None:
                return False
            base = row[1]
            self.based += 1
        else:
            self.key_frames += 1
        offsets, values = delta.decode(message.rows, message.cols, message.first, message.body, base)
        for number in range(message.rows):
            row = tuple(values[number * message.cols : (number + 1) * message.cols])
            self._take_record(
                device, wire.READINGS, message.epoch, message.seq + number, (message.t_ms + offsets[number], row)
            )
        return True

    def _take_record(self, device: str, stream: int, epoch: int, seq: int, record: Any) -> None:
        key = (device, epoch, stream, seq)
        self.times_received[key] += 1
        if key in self.records:
            assert self.records[key] == record, f"{key} came again with other contents"
            return
        self.records[key] = record
        self.order.append(key)
        self._next[device].setdefault(epoch, [0] * len(wire.STREAMS))
        self._advance(device, epoch, _RANKS[stream])

    def _advance(self, device: str, epoch: int, rank: int) -> None:
        known = self._next[device][epoch]
        while (device, epoch, wire.STREAMS[rank], known[rank]) in self.records:
            known[rank] += 1

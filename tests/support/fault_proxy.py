"""A TCP proxy before a real MQTT broker that goes wrong on purpose, one fault or several at a time.

It reads MQTT packet by packet in both directions, so that a fault can name what it strikes.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x80, 0x90
DISCONNECT = 0xE0
_DUP = 0x08


@dataclass
class Faults:
    """What goes wrong; may be changed at any time. All off: the proxy only passes on."""

    delay_s: float = 0.0  # of each packet, one way
    withhold: set[int] = field(default_factory=set[int])  # kinds of packets from the broker that never arrive
    withhold_after: int = 0  # ... from this many such packets on
    cut_at: set[int] = field(default_factory=set[int])  # kinds of packets from the broker that end the connection
    silent: bool = False  # the connection stays open and nothing passes: half-open
    silent_after_up: int | None = None  # ... from this many PUBLISH packets of the board on
    cut_up_bytes: int | None = None  # close both sides when the board has sent this many bytes
    cut_down_bytes: int | None = None  # ... or the broker
    refuse: bool = False  # accept and close at once


@dataclass(frozen=True)
class Packet:
    kind: int
    first: int
    body: bytes

    @property
    def dup(self) -> bool:
        return self.kind == PUBLISH and bool(self.first & _DUP)

    @property
    def packet_id(self) -> int:
        """Of a QoS 1 PUBLISH."""
        topic = int.from_bytes(self.body[:2], "big")
        return int.from_bytes(self.body[2 + topic : 4 + topic], "big")


class FaultProxy:
    """Listens on a loopback port of its own (`port`) and passes to the broker's.

    `up` has every packet a board has sent, `connections` counts them. `plan`, when set, gives each connection its
    faults by its number, from 1. Use as an async context manager.
    """

    def __init__(self, broker_port: int) -> None:
        self.faults = Faults()
        self.plan: Callable[[int], Faults] | None = None
        self.up: list[Packet] = []
        self.connections = 0
        self.port = 0
        self._broker_port = broker_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FaultProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def up_bytes(self) -> int:
        """What the boards have sent, in bytes."""
        return sum(len(_bytes_of(packet)) for packet in self.up)

    def published(self) -> list[Packet]:
        """The PUBLISH packets a board has sent at QoS 1."""
        return [packet for packet in self.up if packet.kind == PUBLISH and packet.first & 0x06]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        if self.plan:
            self.faults = self.plan(self.connections)
        try:
            if self.faults.refuse:
                return
            try:
                broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
            except OSError:
                return  # the broker is down: so is the way to it
            await self._join(reader, writer, *broker)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        broker_reader: asyncio.StreamReader,
        broker_writer: asyncio.StreamWriter,
    ) -> None:
        ways = {
            asyncio.create_task(self._pass_on(reader, broker_writer, self._strikes_up())),
            asyncio.create_task(self._pass_on(broker_reader, writer, self._strikes_down())),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            broker_writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, strikes: "_Strikes") -> None:
        """One direction: packets leave `delay_s` after they came, however many are under way."""
        under_way: asyncio.Queue[tuple[float, Packet | None]] = asyncio.Queue()
        reading = asyncio.create_task(_read_all(reader, under_way))
        passed = 0
        try:
            while True:
                came, packet = await under_way.get()
                await asyncio.sleep(max(0.0, came + self.faults.delay_s - time.monotonic()))
                if packet is None:
                    return
                if strikes.swallows(packet):
                    continue
                if strikes.ends(packet):
                    return
                data = _bytes_of(packet)
                cut = strikes.cut_bytes()
                if cut is not None and passed + len(data) > cut:
                    writer.write(data[: cut - passed])
                    return
                writer.write(data)
                await writer.drain()
                passed += len(data)
        except ConnectionError:
            return
        finally:
            reading.cancel()

    def _strikes_up(self) -> "_Strikes":
        published = 0

        def swallows(packet: Packet) -> bool:
            nonlocal published
            self.up.append(packet)
            published += packet.kind == PUBLISH
            after = self.faults.silent_after_up
            if after is not None and published > after:
                self.faults.silent = True
            return self.faults.silent

        return _Strikes(swallows, lambda _packet: False, lambda: self.faults.cut_up_bytes)

    def _strikes_down(self) -> "_Strikes":
        seen: Counter[int] = Counter()

        def swallows(packet: Packet) -> bool:
            if packet.kind in self.faults.withhold:
                seen[packet.kind] += 1
                if seen[packet.kind] > self.faults.withhold_after:
                    return True
            return self.faults.silent

        return _Strikes(swallows, lambda packet: packet.kind in self.faults.cut_at, lambda: self.faults.cut_down_bytes)


class _Strikes(NamedTuple):
    swallows: Callable[[Packet], bool]
    ends: Callable[[Packet], bool]
    cut_bytes: Callable[[], int | None]


async def _read_all(reader: asyncio.StreamReader, into: "asyncio.Queue[tuple[float, Packet | None]]") -> None:
    while True:
        packet = await _read_packet(reader)
        into.put_nowait((time.monotonic(), packet))
        if packet is None:
            return


def _bytes_of(packet: Packet) -> bytes:
    size = len(packet.body)
    head = bytearray([packet.first])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + packet.body


async def _read_packet(reader: asyncio.StreamReader) -> Packet | None:
    try:
        first = (await reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return Packet(first & 0xF0, first, await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None

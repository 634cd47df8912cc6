"""Boards come back after one outage, all at once: jitter spreads them, and every record they hold is stored once."""

import asyncio
import random
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloud import wire_types as w
from cloud.broker import device_password
from cloud.settings import Settings
from cloud.store import tables as t
from contract import policy, wire
from tests.support.parts import Parts
from tests.support.talkers import Talker

SESSION_S = 20.0  # a board's own bound for a session
IN_FLIGHT = 1000  # sockets this process has open at once: boards have one each, a test has a limit of files
DEADLINE_S = 200
PUBLISH, PUBLISH_QOS1, SUBSCRIBE, CONNECT, DISCONNECT = 0x30, 0x32, 0x82, 0x10, b"\xe0\x00"


def text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def packet(head: int, body: bytes) -> bytes:
    """An MQTT 3.1.1 control packet."""
    size, length = b"", len(body)
    while True:
        size += bytes((length % 128 | (128 if length > 127 else 0),))
        length //= 128
        if not length:
            return bytes((head,)) + size + body


class Board:
    """A board after an outage: what the firmware writes in one flight, sent until an ACK covers all of it."""

    def __init__(self, settings: Settings, name: str, failures: int) -> None:
        self._settings = settings
        self._talker = Talker(settings, name)
        self._talker.measure()
        self._random = random.Random(name)
        self.failures = failures
        self.waits_ms: list[int] = []

    async def come_back(self, room: asyncio.Semaphore) -> None:
        """Wait, try, and wait twice as long after each failure, as contract.policy says."""
        while True:
            self.waits_ms.append(policy.backoff_ms(self.failures, self._random.randrange(policy.JITTER_RANGE)))
            await asyncio.sleep(self.waits_ms[-1] / 1000)
            async with room:
                try:
                    await asyncio.wait_for(self._session(), SESSION_S)
                    return
                except (TimeoutError, OSError, EOFError):
                    self.failures += 1

    async def _session(self) -> None:
        reader, writer = await asyncio.open_connection(self._settings.host, self._settings.mqtt_port)
        try:
            writer.write(self._flight())
            while not self._covered(await self._message(reader)):
                pass
            writer.write(DISCONNECT)
            await writer.drain()
        finally:
            writer.close()

    def _flight(self) -> bytes:
        name = self._talker.device
        login = text(name) + text(device_password(self._settings, name, 1))
        flight = packet(CONNECT, text("MQTT") + b"\x04\xc0\x00\x1e" + text(name) + login)
        kinds = ((wire.KIND_WANT, 0), (wire.KIND_ACK, 0), (wire.KIND_DO, 1))
        topics = b"".join(text(wire.topic(name, kind)) + bytes((qos,)) for kind, qos in kinds)
        flight += packet(SUBSCRIBE, b"\x00\x01" + topics)
        up = text(wire.topic(name, wire.KIND_UP))
        messages = [self._talker.hello(), *(sealed.message for sealed in self._talker.waiting)]
        for number, message in enumerate(messages, start=2):
            flight += packet(PUBLISH_QOS1, up + struct.pack(">H", number) + w.encode(message))
        return flight

    async def _message(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return head, await reader.readexactly(size)

    def _covered(self, message: tuple[int, bytes]) -> bool:
        head, body = message
        name_size = struct.unpack_from(">H", body)[0] if head & 0xF0 == PUBLISH else 0
        if not body[2 : 2 + name_size].endswith(b"/" + wire.KIND_ACK.encode()):
            return False
        ack = w.decode_downlink(body[2 + name_size :])
        assert isinstance(ack, w.Ack)
        stored = {entry[0]: entry[1:] for entry in ack.acks}.get(1, (0,) * len(wire.STREAMS))
        return all(stored[wire.STREAMS.index(stream)] >= made for stream, made in self._talker.made.items())

    @property
    def made(self) -> dict[int, int]:
        """Records by stream."""
        return self._talker.made


@pytest.fixture
def parts(request: pytest.FixtureRequest, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Parts]:
    made = Parts(tmp_path / "data", free_port(), [f"board-{number}" for number in range(request.param)])
    made.start_broker()
    made.start_ingest()
    yield made
    made.stop()


async def all_come_back(parts: Parts, failures: int) -> tuple[list[Board], float]:
    await parts.seconds_to_ready()
    boards = [Board(parts.settings, name, failures) for name in parts.devices]
    room = asyncio.Semaphore(IN_FLIGHT)
    began = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(board.come_back(room) for board in boards))
    return boards, time.monotonic() - began


@pytest.mark.timeout(DEADLINE_S + 60)
@pytest.mark.parametrize(
    ("parts", "failures"), [(1000, 2), pytest.param(10_000, 4, marks=pytest.mark.soak)], indirect=["parts"]
)
def test_boards_that_reconnect_after_one_outage_are_all_drained(parts: Parts, failures: int):
    """failures: sessions each board lost to the outage: after two it waits 4 to 8 s, after four 16 to 32 s."""
    boards, seconds = asyncio.run(all_come_back(parts, failures))
    made = sum(sum(board.made.values()) for board in boards)
    (books,) = parts.rows(
        sa.select(
            sa.func.sum(t.streams.c.received).label("received"),
            sa.func.sum(t.streams.c.next_seq).label("settled"),
            sa.func.sum(t.streams.c.set_aside + t.streams.c.declared_dropped).label("gone"),
        )
    )
    first = sorted(board.waits_ms[0] for board in boards)
    print(
        f"\n{len(boards)} boards: {made} records in {seconds:.1f} s, {books['received']} stored, 0 lost;"
        f" first tries between {first[0] / 1000:.1f} and {first[-1] / 1000:.1f} s,"
        f" {sum(len(board.waits_ms) > 1 for board in boards)} boards needed more than one"
    )
    assert (books["received"], books["settled"], books["gone"]) == (made, made, 0)
    part_ms = policy.backoff_ms(failures, 0) // 16  # the earliest try is as far from now as from the latest
    busiest = max(sum(1 for wait in first if at <= wait < at + part_ms) for at in range(0, first[-1], part_ms))
    assert busiest < len(boards) / 10, "a tenth of all in a sixteenth of the time is no spread"

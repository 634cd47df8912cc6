"""The ingest process between a real broker and a real store."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import sqlalchemy as sa

from cloud import wire_types as w
from cloud.broker import device_password
from cloud.ingest.session import Parts, Session
from cloud.ingest.writer import Item
from cloud.models.blobs import Blobs
from cloud.settings import Settings
from cloud.store import tables as t
from cloud.store.engine import make_engine, writing
from contract import wire
from tests.support import parts as processes
from tests.support.messages import event, hello, item, ramp, readings
from tests.support.store import BOARD, Store

DEVICES = [BOARD, "quiet", "flood"]
_DEADLINE_S = 10.0
_FLOOD = 8000  # messages; what waits for all of them may take _FLOOD_S
_FLOOD_S = 60.0


@pytest.fixture
def parts(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[processes.Parts]:
    made = processes.Parts(tmp_path / "data", free_port(), DEVICES)
    made.start_broker()
    made.start_ingest()
    asyncio.run(made.seconds_to_ready())
    yield made
    made.stop()


class Wire:
    """A connected board: sends what it is told, keeps what it hears."""

    def __init__(self, client: aiomqtt.Client, device: str) -> None:
        self.client = client
        self.device = device
        self.heard: list[Any] = []

    async def send(self, message: Any, qos: int = 1) -> None:
        payload = message if isinstance(message, bytes) else w.encode(message)
        await self.client.publish(wire.topic(self.device, wire.KIND_UP), payload, qos=qos, timeout=_FLOOD_S)

    async def hear(self, wanted: Callable[[Any], bool], deadline_s: float = _DEADLINE_S) -> Any:
        """The first downlink message that fits, of those heard before or from now on."""
        async with asyncio.timeout(deadline_s):
            while True:
                for message in self.heard:
                    if wanted(message):
                        return message
                await asyncio.sleep(0.01)

    async def acknowledged(
        self, next_seq: int, stream: int = wire.EVENT, epoch: int = 1, deadline_s: float = _DEADLINE_S
    ) -> w.Ack:
        """The ACK that reaches `next_seq`."""
        index = 1 + wire.STREAMS.index(stream)

        def reaches(message: Any) -> bool:
            return isinstance(message, w.Ack) and any(a[0] == epoch and a[index] >= next_seq for a in message.acks)

        return await self.hear(reaches, deadline_s)

    async def listen(self) -> None:
        async for message in self.client.messages:
            self.heard.append(w.decode_downlink(bytes(message.payload)))  # type: ignore[arg-type]


@asynccontextmanager
async def board(settings: Settings, device: str = BOARD) -> AsyncGenerator[Wire]:
    state = wire.topic(device, wire.KIND_STATE)
    async with aiomqtt.Client(
        settings.host,
        settings.mqtt_port,
        username=device,
        password=device_password(settings, device, 1),
        identifier=device,
        max_inflight_messages=500,
        timeout=3,
        will=aiomqtt.Will(state, b"0", qos=1, retain=True),
    ) as client:
        client.pending_calls_threshold = 10_000
        for kind in (wire.KIND_ACK, wire.KIND_WANT, wire.KIND_DO):
            await client.subscribe(wire.topic(device, kind), qos=1)
        await client.publish(state, b"1", qos=1, retain=True)
        connected = Wire(client, device)
        listener = asyncio.create_task(connected.listen())
        try:
            yield connected
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


def stored(parts: processes.Parts, table: sa.Table, device: str = BOARD) -> list[dict[str, Any]]:
    return parts.rows(sa.select(table).where(table.c.device == device).order_by(*table.primary_key.columns))


async def change(parts: processes.Parts, *statements: Any) -> None:
    engine = make_engine(parts.settings)
    async with writing(engine).begin() as connection:
        for statement in statements:
            await connection.execute(statement)
    await engine.dispose()


def test_a_record_is_stored_then_acknowledged_with_the_clouds_clock(parts: processes.Parts):
    async def story() -> w.Ack:
        async with board(parts.settings) as talking:
            await talking.send(hello())
            await talking.send(event(0))
            return await talking.acknowledged(1)

    ack = asyncio.run(story())
    assert abs(ack.cloud_ms - time.time() * 1000) < 5_000
    assert ack.flags == 0
    assert len(stored(parts, t.events)) == 1


def test_the_ack_is_there_for_a_board_that_wakes_later(parts: processes.Parts):
    async def story() -> w.Ack:
        async with board(parts.settings) as talking:
            await talking.send(event(0))
            await talking.acknowledged(1)
        async with board(parts.settings) as woken:
            return await woken.acknowledged(1)

    assert asyncio.run(story()).acks == ((1, 1, 0, 0, 0, 0),)


def test_an_unknown_epoch_asks_for_hello_and_an_unknown_base_for_a_key_frame(parts: processes.Parts):
    async def story() -> int:
        async with board(parts.settings) as talking:
            await talking.send(readings(0, ramp(3), base=((1, 77), [0, 0])))
            return (await talking.hear(lambda heard: isinstance(heard, w.Ack))).flags

    assert asyncio.run(story()) == wire.ACK_SAY_HELLO | wire.ACK_NEED_KEY


def test_malformed_frames_are_set_aside_and_ingest_goes_on(parts: processes.Parts):
    sound = w.encode(readings(0, ramp(20)))
    broken_body = w.Readings(1, 20, 0, 20, 2, None, b"\x01\x01", b"\xff\xff\xff")
    unreadable = [b"\x93\x7f\x01\x02", b"\xc1", b"", b"\x81\xa1a\x01"]
    poison = [sound[:-4], sound + bytes(5000), *unreadable, w.encode(broken_body)]

    async def story() -> None:
        async with board(parts.settings) as talking:
            for payload in poison:
                await talking.send(payload)
            await talking.send(event(0))
            await talking.acknowledged(1)
            await talking.acknowledged(40, wire.READINGS)

    asyncio.run(story())
    kept = stored(parts, t.quarantine)
    # The oversized one names the numbers of the cut one, which is in quarantine already: it is only counted.
    assert sorted((row["reason"], row["size"]) for row in kept) == [
        ("cut short", 0),
        ("cut short", len(sound) - 4),
        ("undecodable body", len(w.encode(broken_body))),
        ("unknown code", 4),
        ("wrong type", 1),
        ("wrong type", 4),
    ]
    (device,) = stored(parts, t.devices)
    assert (device["set_aside"], device["unknown_codes"]) == (6, 1)


def test_a_removed_device_is_set_aside(parts: processes.Parts):
    async def story() -> None:
        async with board(parts.settings) as talking:
            await change(parts, sa.delete(t.devices).where(t.devices.c.device == BOARD))
            await talking.send(event(0))
            async with asyncio.timeout(_DEADLINE_S):
                while not await asyncio.to_thread(stored, parts, t.quarantine):
                    await asyncio.sleep(0.05)

    asyncio.run(story())
    assert [row["reason"] for row in stored(parts, t.quarantine)] == ["unknown device"]
    assert stored(parts, t.events) == []


def test_presence_follows_birth_and_will(parts: processes.Parts):
    async def until(online: bool) -> None:
        async with asyncio.timeout(_DEADLINE_S):
            while (await asyncio.to_thread(stored, parts, t.devices))[0]["online"] is not online:
                await asyncio.sleep(0.05)

    async def story() -> None:
        async with board(parts.settings) as talking:
            await until(True)
            talking.client._client._sock.close()  # type: ignore[union-attr]
            await until(False)

    with pytest.raises(aiomqtt.MqttError):
        asyncio.run(story())


def test_a_flooding_board_does_not_starve_a_quiet_one(parts: processes.Parts):
    async def story() -> tuple[float, float]:
        async with board(parts.settings, "flood") as flood, board(parts.settings, "quiet") as quiet:
            sending = [asyncio.create_task(flood.send(event(seq))) for seq in range(_FLOOD)]
            await flood.acknowledged(1, deadline_s=_FLOOD_S)
            began = time.monotonic()
            await quiet.send(event(0))
            await quiet.acknowledged(1, deadline_s=_FLOOD_S)
            taken = time.monotonic() - began
            await asyncio.gather(*sending)
            await flood.acknowledged(_FLOOD, deadline_s=_FLOOD_S)
            return taken, time.monotonic() - began

    taken, flood_s = asyncio.run(story())
    peak_mb = parts.ingest_peak_mb()
    print(f"\na quiet board waited {taken:.2f} s for its ACK beside a flood of {flood_s:.2f} s; peak {peak_mb} MB")
    assert taken < flood_s / 2, "it waited for most of what others had sent"
    assert peak_mb < 150


def test_a_store_that_is_locked_delays_and_loses_nothing(parts: processes.Parts):
    async def story() -> None:
        async with board(parts.settings) as talking:
            lock = sqlite3.connect(parts.settings.data_dir / "edgewise.db", isolation_level=None)
            lock.execute("BEGIN IMMEDIATE")
            for seq in range(5):
                await talking.send(event(seq))
            with pytest.raises(TimeoutError):
                await talking.hear(lambda heard: isinstance(heard, w.Ack), deadline_s=1.0)
            lock.execute("ROLLBACK")
            lock.close()
            await talking.acknowledged(5)

    asyncio.run(story())
    assert [row["seq"] for row in stored(parts, t.events)] == list(range(5))


def test_a_message_that_cannot_be_stored_is_found_and_set_aside(store: Store):
    async def work(_engine: Any) -> int:
        engine = make_engine(store.settings)
        session = Session(Parts.on(engine, Blobs(store.settings.blobs_url)))
        unstorable = Item(BOARD, "t", w.encode(event(7)), event(7, t_ms=2**70))
        items = [*(item(BOARD, event(seq)) for seq in range(7)), unstorable, item(BOARD, event(8))]
        outcomes = await session.write(items)
        await engine.dispose()
        return sum(outcome.counts["frames_set_aside"] for outcome in outcomes)

    assert store.run(work) == 1
    assert [row["seq"] for row in store.rows(t.events)] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert [row["reason"] for row in store.rows(t.quarantine)] == ["cannot be stored"]
    assert store.next_seq() == 9


def artifact_rows(data: bytes, name: str = "flow") -> list[Any]:
    manifest = {"name": name, "version": "1.0.0", "sequence": 4, "format": "native", "arch": "x64"}
    return [
        sa.insert(t.models).values(
            name=name,
            version="1.0.0",
            sequence=4,
            schema="",
            schema_hash="",
            detector="",
            threshold=0,
            margin=0,
            card={},
            created_ms=0,
        ),
        sa.insert(t.artifacts).values(
            sha256=sha256(data).hexdigest(),
            name=name,
            version="1.0.0",
            arch="x64",
            abi=1539,
            format="native",
            size=len(data),
            key_id="",
            manifest=manifest,
            created_ms=0,
        ),
    ]


def test_fetch_is_answered_piece_by_piece_and_unknown_artifacts_are_told(parts: processes.Parts):
    data = bytes(range(256)) * 40

    async def story() -> tuple[bytes, w.Chunk]:
        await Blobs(parts.settings.blobs_url).put(data)
        await change(parts, *artifact_rows(data))
        got = bytearray()
        async with board(parts.settings) as talking:
            while len(got) < len(data):
                await talking.send(w.Fetch(sha256(data).digest()[:8], len(got), wire.MAX_CHUNK_BYTES), qos=0)
                at = len(got)
                chunk = await talking.hear(lambda heard, at=at: isinstance(heard, w.Chunk) and heard.offset == at)
                assert chunk.total == len(data)
                got += chunk.data
            await talking.send(w.Fetch(b"\x00" * 8, 5, 10), qos=0)
            return bytes(got), await talking.hear(lambda heard: isinstance(heard, w.Chunk) and heard.offset == 5)

    got, unknown = asyncio.run(story())
    assert got == data
    assert (unknown.data, unknown.total) == (b"", 0)


def test_what_a_board_shall_become_is_published_once_and_again_at_its_hello(parts: processes.Parts):
    data = b"artifact"

    def wanted(version: int, config: dict[str, Any]) -> Any:
        digest = sha256(data).hexdigest()
        return sa.insert(t.desired).values(
            device=BOARD, version=version, config=config, artifact_sha256=digest, changed_ms=0
        )

    async def story() -> tuple[w.Want, int]:
        async with board(parts.settings) as talking:
            await change(parts, *artifact_rows(data), wanted(3, {"interval_ms": 5000}))
            want = await talking.hear(lambda heard: isinstance(heard, w.Want))
            await asyncio.sleep(1.2)
            assert sum(isinstance(heard, w.Want) for heard in talking.heard) == 1
            talking.heard.clear()
            await talking.send(hello())
            await talking.hear(lambda heard: isinstance(heard, w.Want))
            return want, len(talking.heard)

    want, _ = asyncio.run(story())
    assert (want.config_version, want.config) == (3, {"interval_ms": 5000})
    assert want.model == w.Offer("flow", "1.0.0", 4, sha256(data).digest(), len(data), wire.FORMAT_NATIVE, "x64")
    assert stored(parts, t.desired)[0]["published_version"] == 3


def test_a_command_is_sent_once(parts: processes.Parts):
    async def story() -> list[Any]:
        async with board(parts.settings) as talking:
            await talking.send(hello())
            row = {"device": BOARD, "verb": wire.VERB_RAW_WINDOW, "args": [3], "created_ms": 0}
            await change(parts, sa.insert(t.commands).values(row))
            await talking.hear(lambda heard: isinstance(heard, w.Do))
            await asyncio.sleep(1.2)  # more than two polls
            return [heard for heard in talking.heard if isinstance(heard, w.Do)]

    assert asyncio.run(story()) == [w.Do(1, wire.VERB_RAW_WINDOW, (3,))]
    assert stored(parts, t.commands)[0]["sent_ms"] is not None


def test_the_heartbeat_tells_what_was_done(parts: processes.Parts):
    async def story() -> None:
        async with board(parts.settings) as talking:
            for seq in range(20):
                await talking.send(event(seq))
            await talking.acknowledged(20)
            await asyncio.sleep(1.2)

    asyncio.run(story())
    (row,) = parts.rows(sa.select(t.services))
    assert row["ready"]
    assert row["counters"]["event_records"] == 20
    assert row["counters"]["messages"] >= 20

"""The link to a real broker: nothing is acknowledged before we say so, and what was not comes again."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import pytest

from cloud.broker import ACK_WAIT_S, MAX_IN_FLIGHT, Login, device_password, ingest_login
from cloud.ingest.mqtt import Delivery, LinkLost, connect
from contract import wire
from tests.support.parts import Parts

DEVICE = "board-1"
UP = wire.topic(DEVICE, wire.KIND_UP)


@pytest.fixture
def parts(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Parts]:
    made = Parts(tmp_path / "data", free_port(), [DEVICE])
    made.start_broker()
    yield made
    made.stop()


def board(parts: Parts) -> aiomqtt.Client:
    password = device_password(parts.settings, DEVICE, 1)
    return aiomqtt.Client(
        parts.settings.host,
        parts.settings.mqtt_port,
        username=DEVICE,
        password=password,
        identifier=DEVICE,
        timeout=5,
    )


async def publish(parts: Parts, count: int, size: int = 20) -> None:
    """Messages numbered in their first two bytes."""
    async with board(parts) as client:
        for number in range(count):
            await client.publish(UP, number.to_bytes(2, "big") + bytes(size), qos=1)


async def receive(parts: Parts, wanted: int, acknowledge: int, deadline_s: float = 5) -> list[int]:
    """Numbers received on one link until `wanted` came; the first `acknowledge` of them are acknowledged."""
    got: list[Delivery] = []
    enough = asyncio.Event()

    def on_message(delivery: Delivery) -> None:
        got.append(delivery)
        if len(got) >= wanted:
            enough.set()

    async with connect(ingest_login(parts.settings), on_message) as link:
        await link.subscribe([f"{wire.TOPIC_PREFIX}+/{wire.KIND_UP}"])
        if wanted:
            await asyncio.wait_for(enough.wait(), deadline_s)
        link.acknowledge(got[:acknowledge])
        await asyncio.sleep(0.1)
    return [int.from_bytes(delivery.payload[:2], "big") for delivery in got]


def test_what_was_not_acknowledged_comes_again_on_the_next_link(parts: Parts):
    async def story() -> tuple[list[int], list[int]]:
        await receive(parts, 0, 0)  # leaves the session behind
        await publish(parts, 50)
        first = await receive(parts, 50, acknowledge=2)
        second = await receive(parts, 48, acknowledge=48, deadline_s=20)
        return first, second

    first, second = asyncio.run(story())
    assert first == list(range(50))
    assert sorted(second) == list(range(2, 50))


def test_what_was_acknowledged_does_not_come_again(parts: Parts):
    async def story() -> list[int]:
        await receive(parts, 0, 0)
        await publish(parts, 10)
        await receive(parts, 10, acknowledge=10)
        await publish(parts, 1)
        return await receive(parts, 1, acknowledge=1)

    assert asyncio.run(story()) == [0]


def test_a_message_delivered_again_has_the_packet_id_it_had(parts: Parts):
    """What FairQueue knows it by, while a slow store holds its PUBACK back."""

    async def story() -> list[Delivery]:
        got: list[Delivery] = []
        async with connect(ingest_login(parts.settings), got.append) as link:
            await link.subscribe([f"{wire.TOPIC_PREFIX}+/{wire.KIND_UP}"])
            await publish(parts, 3)
            while len(got) < 6:
                await asyncio.sleep(0.05)
            link.acknowledge(got)
        return got

    got = asyncio.run(asyncio.wait_for(story(), 2 * ACK_WAIT_S + 5))
    assert {(d.mid, d.payload) for d in got[3:]} == {(d.mid, d.payload) for d in got[:3]}


def test_the_broker_stops_at_its_in_flight_limit(parts: Parts):
    """The bound of what an ingest process holds in memory."""

    async def story() -> int:
        got: list[Delivery] = []
        async with connect(ingest_login(parts.settings), got.append) as link:
            await link.subscribe([f"{wire.TOPIC_PREFIX}+/{wire.KIND_UP}"])
            await publish(parts, MAX_IN_FLIGHT + 300, size=1)
            await asyncio.sleep(0.5)
            held = len({delivery.mid for delivery in got})  # a busy machine gets some of them twice
            link.acknowledge(got)
            while len(got) < MAX_IN_FLIGHT + 300:
                await asyncio.sleep(0.01)
            return held

    assert asyncio.run(asyncio.wait_for(story(), 30)) == MAX_IN_FLIGHT


def test_messages_of_every_size_come_through_the_buffered_socket(parts: Parts):
    sizes = [0, 1, 100, 127, 128, 4_000, 16_000, 20_000, 3, 0, 30_000] * 5

    async def story() -> list[int]:
        got: list[Delivery] = []
        async with connect(ingest_login(parts.settings), got.append) as link:
            await link.subscribe([f"{wire.TOPIC_PREFIX}+/{wire.KIND_UP}"])
            async with board(parts) as client:
                await asyncio.gather(*(client.publish(UP, b"x" * size, qos=1) for size in sizes))
            while len(got) < len(sizes):
                await asyncio.sleep(0.01)
            link.acknowledge(got)
        return [len(delivery.payload) for delivery in got]

    assert asyncio.run(asyncio.wait_for(story(), 20)) == sizes


def test_what_the_broker_acknowledged_survives_its_sigkill(parts: Parts):
    async def story() -> list[int]:
        await receive(parts, 0, 0)
        await publish(parts, 200)
        parts.kill_broker()
        parts.start_broker()
        return await receive(parts, 200, acknowledge=200)

    assert sorted(asyncio.run(story())) == list(range(200))


def test_a_lost_broker_is_noticed(parts: Parts):
    async def story() -> None:
        async with connect(ingest_login(parts.settings), lambda _delivery: None) as link:
            parts.kill_broker()
            await asyncio.wait_for(link.lost(), 5)

    with pytest.raises(LinkLost):
        asyncio.run(story())


def test_a_wrong_password_and_a_missing_broker_are_told(parts: Parts, free_port: Callable[[], int]):
    async def story(login: Login) -> None:
        async with connect(login, lambda _delivery: None):
            pass

    login = ingest_login(parts.settings)
    for wrong in (login._replace(password="x"), login._replace(port=free_port())):
        with pytest.raises(LinkLost):
            asyncio.run(story(wrong))


def test_a_subscription_that_is_not_allowed_is_told(parts: Parts):
    async def story() -> None:
        async with connect(ingest_login(parts.settings), lambda _delivery: None) as link:
            await link.subscribe(["other/topic"])

    with pytest.raises(LinkLost, match="refused"):
        asyncio.run(story())

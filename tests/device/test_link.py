"""device/link.py, mqtt.py and stream.py under MicroPython against a real broker that works."""

import asyncio
from pathlib import Path
from typing import Any

import aiomqtt

from contract import wire
from tests.support.broker import Broker
from tests.support.fault_proxy import CONNECT, DISCONNECT, PUBLISH, SUBSCRIBE, FaultProxy
from tests.support.micropython import run

SESSIONS = Path(__file__).parent / "on_board" / "sessions.py"


def test_a_session_costs_one_round_trip_after_the_connection(broker: Broker):
    """CONNECT, SUBSCRIBE, birth and frames leave together; the answers to all come back together."""

    async def measure() -> Any:
        async with FaultProxy(broker.port) as proxy:
            await run(SESSIONS, {"port": proxy.port})  # the broker makes its streams at the first session
            proxy.faults.delay_s = 0.1
            return (await run(SESSIONS, {"port": proxy.port, "frames": 6}))[0]

    result = asyncio.run(measure())
    print(f"session of 6 QoS 1 frames over a link of 200 ms round trip: {result['answered_us'] / 1000:.0f} ms")
    assert result["turns"] == 1
    assert 200 <= result["answered_us"] / 1000 < 300


def test_what_waited_for_the_board_arrives_in_the_first_round_trip(broker: Broker):
    async def deliver() -> Any:
        async with FaultProxy(broker.port) as proxy:
            await run(SESSIONS, {"port": proxy.port})  # makes the persistent session
            async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
                await cloud.publish("ew/1/pump-1/ack", b"\x94 ack", qos=1, retain=True)
                await cloud.publish("ew/1/pump-1/want", b"\x95 want", qos=1, retain=True)
                await cloud.publish("ew/1/pump-1/do", b"\x96 do", qos=1)
                await cloud.publish("ew/1/pump-2/do", b"\x96 not ours", qos=1)
            return (await run(SESSIONS, {"port": proxy.port, "linger_ms": 300}))[0]

    result = asyncio.run(deliver())
    assert result["resumed"]
    assert sorted(result["messages"]) == [["ack", 5, 0x94], ["do", 4, 0x96], ["want", 6, 0x95]]
    assert result["turns"] <= 2  # the second confirms the QoS 1 message


def test_the_state_topic_says_online_and_then_offline(broker: Broker):
    async def watch() -> list[tuple[bytes, bool]]:
        async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
            await cloud.subscribe("ew/1/+/state", qos=1)
            await run(SESSIONS, {"port": broker.port})
            seen: list[tuple[bytes, bool]] = []
            async with asyncio.timeout(5):
                async for message in cloud.messages:
                    seen.append((bytes(message.payload), message.retain))  # type: ignore[arg-type]
                    if len(seen) == 2:
                        break
            await cloud.unsubscribe("ew/1/+/state")
            await cloud.subscribe("ew/1/+/state", qos=1)
            async with asyncio.timeout(5):
                async for message in cloud.messages:
                    return [*seen, (bytes(message.payload), message.retain)]  # type: ignore[arg-type]
        return seen

    assert asyncio.run(watch()) == [(b"1", False), (b"0", False), (b"0", True)]


def test_a_session_ends_with_a_goodbye_and_not_with_the_will(broker: Broker):
    async def packets() -> list[int]:
        async with FaultProxy(broker.port) as proxy:
            await run(SESSIONS, {"port": proxy.port, "frames": 1})
            await asyncio.sleep(0.1)
            return [packet.kind for packet in proxy.up]

    assert asyncio.run(packets()) == [CONNECT, SUBSCRIBE, PUBLISH, PUBLISH, PUBLISH, DISCONNECT]


def test_a_message_over_the_limit_is_read_past_and_counted(broker: Broker):
    async def deliver() -> Any:
        async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
            await run(SESSIONS, {"port": broker.port})
            await cloud.publish("ew/1/pump-1/do", bytes(wire.MAX_DOWN_BYTES + 1), qos=1)
            await cloud.publish("ew/1/pump-1/do", bytes(100_000), qos=1)
            await cloud.publish("ew/1/pump-1/do", b"\x07" * wire.MAX_DOWN_BYTES, qos=1)
            return await run(SESSIONS, {"port": broker.port, "linger_ms": 1000, "sessions": 2})

    first, second = asyncio.run(deliver())
    assert first["refused"] == 2
    assert first["messages"] == [["do", wire.MAX_DOWN_BYTES, 7]]
    assert second["messages"] == [], "what was refused is confirmed too, or it would come for ever"


def test_bytes_and_time_of_the_radio_are_counted(broker: Broker):
    async def measure() -> tuple[Any, int]:
        async with FaultProxy(broker.port) as proxy:
            proxy.faults.delay_s = 0.02
            result = (await run(SESSIONS, {"port": proxy.port, "frames": 4, "size": 1000}))[0]
            await asyncio.sleep(0.1)
            return result, proxy.up_bytes

    result, up_bytes = asyncio.run(measure())
    sessions, ms, tx_bytes, rx_bytes, failures = result["counts"]
    assert (sessions, failures) == (1, 0)
    assert tx_bytes == up_bytes > 4000
    assert rx_bytes == 4 + 7 + 4 * 4  # CONNACK, SUBACK for three topics, PUBACKs
    assert 40 <= ms <= result["ms"] + 1


def test_packet_ids_wrap_within_one_session(broker: Broker):
    """70,000 QoS 1 publishes; umqtt.simple alone breaks the packet at id 65,536."""
    result = asyncio.run(
        run(SESSIONS, {"port": broker.port, "frames": 70_000, "size": 8, "budget_ms": 90_000}, deadline_s=100)
    )[0]
    print(f"70,000 QoS 1 publishes in one session: {result['ms'] / 1000:.1f} s, {70_000_000 / result['ms']:.0f} /s")
    assert result["fault"] == -1
    assert result["counts"][3] == 4 + 7 + 4 * 70_000, "one PUBACK for each"

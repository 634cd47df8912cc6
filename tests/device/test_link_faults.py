"""The hazards of a link: a broker that is gone, silent, half there, or speaks nonsense. No call passes its deadline."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from contract import wire
from tests.support.broker import Broker
from tests.support.fault_proxy import CONNACK, PUBACK, SUBACK, FaultProxy, Faults
from tests.support.micropython import run

SESSIONS = Path(__file__).parent / "on_board" / "sessions.py"
BUDGET_MS = 1500
SLACK_MS = 150  # of a loaded machine
_GOODBYE_BYTES = 24  # the last PUBLISH and DISCONNECT: a session cut there has succeeded

CASES: dict[str, tuple[Faults, set[int]]] = {
    "PUBACK withheld": (Faults(withhold={PUBACK}), {wire.FAULT_TIMEOUT}),
    "CONNACK withheld": (Faults(withhold={CONNACK}), {wire.FAULT_PROTOCOL, wire.FAULT_TIMEOUT}),
    "CONNACK and all else withheld": (Faults(withhold={CONNACK, SUBACK, PUBACK}), {wire.FAULT_TIMEOUT}),
    "SUBACK withheld": (Faults(withhold={SUBACK}), {wire.FAULT_TIMEOUT}),
    "half-open from the start": (Faults(silent=True), {wire.FAULT_TIMEOUT}),
    "half-open in the middle": (Faults(silent_after_up=2), {wire.FAULT_TIMEOUT}),
    "closed at once": (Faults(refuse=True), {wire.FAULT_CLOSED}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_session_ends_by_its_deadline_with_the_fault_that_struck(broker: Broker, case: str):
    faults, expected = CASES[case]

    async def struck() -> Any:
        async with FaultProxy(broker.port) as proxy:
            await run(SESSIONS, {"port": proxy.port})
            proxy.faults = faults
            return (await run(SESSIONS, {"port": proxy.port, "frames": 20, "budget_ms": BUDGET_MS}))[0]

    result = asyncio.run(struck())
    assert result["fault"] in expected, result
    assert result["cached"], "the way to the broker is there"
    assert result["ms"] <= BUDGET_MS + SLACK_MS
    assert result["counts"][4] == 1


@pytest.mark.parametrize("lwip", [False, True])
def test_nobody_listening_is_noticed_at_once(free_port: Callable[[], int], lwip: bool):
    result = asyncio.run(run(SESSIONS, {"port": free_port(), "lwip": lwip}))[0]
    assert (result["fault"], result["detail"]) == (wire.FAULT_CONNECT, "refused")
    assert result["cached"], "each session of an outage would scan and ask DHCP"
    assert result["ms"] < 500


def test_a_host_that_never_answers_costs_the_connect_deadline_only(free_port: Callable[[], int]):
    """A full accept queue: the SYN is dropped, as by a firewall."""

    async def connect() -> Any:
        port = free_port()
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port, backlog=1)
        server.get_loop().remove_reader(server.sockets[0].fileno())  # never accept
        fillers = [asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(4)]
        await asyncio.sleep(0.2)
        try:
            return (await run(SESSIONS, {"port": port, "budget_ms": BUDGET_MS}))[0]
        finally:
            for filler in fillers:
                filler.cancel()
            server.close()

    result = asyncio.run(connect())
    assert result["fault"] == wire.FAULT_CONNECT
    assert not result["cached"], "a lease of the network before would be kept for half a day"
    assert result["ms"] <= BUDGET_MS + SLACK_MS


def test_what_stayed_unanswered_is_sent_again_as_a_duplicate(broker: Broker):
    async def twice() -> tuple[list[Any], FaultProxy]:
        async with FaultProxy(broker.port) as proxy:
            proxy.plan = lambda number: Faults(withhold={PUBACK}, withhold_after=1) if number == 1 else Faults()
            arguments = {"port": proxy.port, "sessions": 2, "same_keys": True, "budget_ms": BUDGET_MS}
            return await run(SESSIONS, arguments), proxy

    results, proxy = asyncio.run(twice())
    assert [result["fault"] for result in results] == [wire.FAULT_TIMEOUT, -1]
    first, again = proxy.published()[:3], proxy.published()[3:]
    assert [packet.dup for packet in first] == [False, False, False]
    assert [packet.dup for packet in again] == [False, True, True], "the first was answered"
    assert [packet.packet_id for packet in again[1:]] == [packet.packet_id for packet in first[1:]]
    assert again[0].packet_id not in {packet.packet_id for packet in first}


def test_a_connection_cut_at_any_byte_is_a_link_error(broker: Broker):
    """Every byte of a session in both directions, one session each: no hang, no other exception, then a good one."""

    async def cuts() -> tuple[list[Any], int]:
        async with FaultProxy(broker.port) as proxy:
            await run(SESSIONS, {"port": proxy.port})
            sent, received = (await run(SESSIONS, {"port": proxy.port}))[0]["counts"][2:4]
            start = proxy.connections
            plans = [Faults(cut_up_bytes=cut) for cut in range(sent - _GOODBYE_BYTES)]
            plans += [Faults(cut_down_bytes=cut) for cut in range(received)] + [Faults()]
            proxy.plan = lambda number: plans[number - start - 1]
            arguments = {"port": proxy.port, "sessions": len(plans), "budget_ms": BUDGET_MS}
            return await run(SESSIONS, arguments), len(plans)

    results, count = asyncio.run(cuts())
    assert len(results) == count
    assert {result["fault"] for result in results[:-1]} == {wire.FAULT_CLOSED}
    assert max(result["ms"] for result in results) <= BUDGET_MS
    assert results[-1]["fault"] == -1
    print(f"{count - 1} cut sessions, slowest {max(result['ms'] for result in results)} ms")


def test_a_peer_that_speaks_nonsense_is_a_link_error():
    """300 answers of random bytes, most of them beginning like MQTT."""
    source = random.Random(20)
    beginnings = [b"", b"\x20\x02\x00\x00", b"\x20\x02\x01\x00\x90\x05\x00\x01\x00\x00\x01"]
    answers = [
        source.choice(beginnings) + source.choice([b"", b"\x30", b"\x32", b"\x40", b"\xd0"]) + source.randbytes(40)
        for _ in range(300)
    ]
    results = asyncio.run(_against_answers(answers))
    assert len(results) == 300
    assert all(result["fault"] >= 0 for result in results)
    assert max(result["ms"] for result in results) <= 500 + SLACK_MS


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"\x20\x02\x00\x05", wire.FAULT_LOGIN),
        (b"\x20\x02\x00\x00\x90\x05\x00\x01\x00\x80\x01", wire.FAULT_LOGIN),
        (b"\x20\x02\x00\x00\x20\x02\x00\x00", wire.FAULT_PROTOCOL),
        (b"\x30\xff\xff\xff\xff\x01", wire.FAULT_PROTOCOL),
        (b"\x20\x02\x00\x00\x30\x03\x00\x09x", wire.FAULT_PROTOCOL),
        (b"\x20\x02\x00\x00\x90\x05\x00\x09\x00\x00\x01", wire.FAULT_PROTOCOL),
        (b"\x20\x02\x00\x00\x36\x05\x00\x01x\x00\x01", wire.FAULT_PROTOCOL),
    ],
    ids=["login", "subscription", "two CONNACKs", "length", "topic past the end", "strange SUBACK", "QoS 3"],
)
def test_a_broker_that_breaks_the_rules_is_named_for_it(answer: bytes, fault: int):
    assert asyncio.run(_against_answers([answer]))[0]["fault"] == fault


def test_a_broker_that_restarts_in_the_middle_gets_everything(broker: Broker):
    """Two sessions of the same 2,000 frames; the broker is killed in the first and is back for the second."""

    async def restart() -> tuple[list[Any], set[int]]:
        async with _collector(broker.port) as collector:
            await collector.subscribe("ew/1/pump-1/up", qos=1)
        async with FaultProxy(broker.port) as proxy:
            arguments = {"port": proxy.port, "sessions": 2, "frames": 2000, "same_keys": True, "pause_ms": 2000}
            task = asyncio.create_task(run(SESSIONS, arguments))
            while len(proxy.up) < 500:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            results = await task
        seen: set[int] = set()
        async with _collector(broker.port) as collector, asyncio.timeout(20):
            async for message in collector.messages:
                seen.add(int.from_bytes(bytes(message.payload)[:4], "big"))  # type: ignore[arg-type]
                if len(seen) == 2000:
                    break
        return results, seen

    results, seen = asyncio.run(restart())
    assert results[0]["fault"] == wire.FAULT_CLOSED
    assert results[1]["fault"] == -1
    assert seen == set(range(2000))


def _collector(port: int) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", port, identifier="collector", clean_session=False)


async def _against_answers(answers: list[bytes]) -> list[Any]:
    """One session per answer with a peer that sends it and then falls silent."""
    left = iter(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(left))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await run(SESSIONS, {"port": port, "sessions": len(answers), "frames": 12, "budget_ms": 500})

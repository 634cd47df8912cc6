"""Selective upload: means of windows instead of samples, samples around an event and on request; by real firmware."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from pathlib import Path

from cloud import wire_types as w
from cloud.broker import ACK_WAIT_S
from contract import policy, wire
from tests.support import boards
from tests.support.boards import CALM, SPEED, WINDOW, press
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud
from tools.scenario.broker import packet
from tools.simulate import supervised

ANOMALY = range(20 * WINDOW, 22 * WINDOW)


def live(folder: Path, port: int, upload: int, command: w.Do | None = None, wakes: int = 30) -> TinyCloud:
    async def story() -> TinyCloud:
        made = boards.make(folder / "pump-1", port, boards.recording(5000, (ANOMALY,)), {"upload": upload})
        async with TinyCloud(port) as cloud, supervised([made], SPEED) as [board]:
            await board.run(wakes=wakes // 2)
            if command:
                await cloud.do("pump-1", command)
            await press(board)
            if command:
                await cloud.do("pump-1", command)  # the same number again
            await press(board)
            await board.run(wakes=wakes - wakes // 2)
            await press(board)
        return cloud

    return asyncio.run(story())


def rows(cloud: TinyCloud) -> list[tuple[int, list[int]]]:
    return [(t_ms, list(values)) for t_ms, values in cloud.of("pump-1", wire.READINGS)]


def full(cloud: TinyCloud) -> list[tuple[int, list[int]]]:
    """The rows that are samples: the next one follows within a window."""
    found = rows(cloud)
    return [row for row, after in itertools.pairwise(found) if after[0] - row[0] <= boards.SAMPLE_MS + 5]


def test_a_window_is_one_row_of_means_until_an_event_asks_for_samples(broker: Broker, tmp_path: Path):
    cloud = live(tmp_path, broker.port, policy.UPLOAD_EVENTS)
    events = cloud.of("pump-1", wire.EVENT)
    assert [event.kind for event in events] == [wire.EVENT_ANOMALY, wire.EVENT_CLEARED]
    assert all(len(event.features) == 4 * 12 for event in events), "features go with every event"
    samples = full(cloud)
    windows = len(rows(cloud)) - len(samples)
    print(f"{len(rows(cloud))} rows in place of {30 * WINDOW}: {windows} of means, {len(samples)} samples")
    assert 3 * (WINDOW - 1) <= len(samples) <= 4 * WINDOW, "the window of onset and of end, and the one after each"
    onset = events[0].t_ms
    assert any(abs(t_ms - onset) < WINDOW * boards.SAMPLE_MS and values[0] == 10 * CALM for t_ms, values in samples)
    calm = [values for t_ms, values in rows(cloud) if t_ms < onset - 2 * boards.INTERVAL_MS]
    assert len(calm) >= 15
    assert all(CALM <= values[0] < CALM + 50 for values in calm)
    assert set(cloud.times_received.values()) == {1}


def test_on_request_samples_of_as_many_windows_come_once(broker: Broker, tmp_path: Path):
    cloud = live(tmp_path, broker.port, policy.UPLOAD_ASKED, w.Do(7, "raw-window", (2,)))
    assert len(cloud.of("pump-1", wire.EVENT)) == 2, "the event brings no samples here"
    assert 2 * (WINDOW - 1) <= len(full(cloud)) <= 2 * WINDOW


def test_a_smaller_command_takes_nothing_from_one_that_came_before_it(broker: Broker, tmp_path: Path):
    async def story() -> TinyCloud:
        made = boards.make(tmp_path / "pump-1", broker.port, settings={"upload": policy.UPLOAD_ASKED})
        async with TinyCloud(broker.port) as cloud, supervised([made], SPEED) as [board]:
            await board.run(wakes=3)
            await cloud.do("pump-1", w.Do(1, "raw-window", (3,)))
            await cloud.do("pump-1", w.Do(2, "raw-window", (1,)))
            await press(board)
            await board.run(wakes=6)
            await press(board)
        return cloud

    cloud = asyncio.run(story())
    assert 3 * (WINDOW - 1) <= len(full(cloud)) <= 3 * WINDOW


def test_a_command_the_board_did_not_confirm_comes_in_its_next_session_and_is_done_once(
    tmp_path: Path, free_port: Callable[[], int]
):
    """A session that ends while a command is under way: the broker has sent it, and nobody has said that it came."""

    async def story() -> TinyCloud:
        made = boards.make(tmp_path / "pump-1", broker.port, settings={"upload": policy.UPLOAD_ASKED})
        async with TinyCloud(broker.port) as cloud, supervised([made], SPEED) as [board]:
            await board.run(wakes=3)
            with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as session:
                resume(session, "pump-1")
                await cloud.do("pump-1", w.Do(5, "raw-window", (2,)))
                assert heard(session) == w.Do(5, "raw-window", (2,))
            await asyncio.sleep(ACK_WAIT_S + 0.2)  # boards sleep longer
            for _ in range(3):
                await press(board)
                await board.run(wakes=2)
        return cloud

    broker = Broker(tmp_path / "nats", free_port(), free_port(), f'\n  ack_wait: "{ACK_WAIT_S}s"')
    broker.start()
    try:
        cloud = asyncio.run(story())
    finally:
        broker.kill()
    assert 2 * (WINDOW - 1) <= len(full(cloud)) <= 2 * WINDOW


def resume(session: socket.socket, device: str) -> None:
    """CONNECT as the device, whose session the broker has kept, and take its CONNACK."""
    name = device.encode()
    session.sendall(packet(0x10, b"\0\4MQTT\4\0\0\x1e" + len(name).to_bytes(2) + name))
    assert session.recv(4, socket.MSG_WAITALL) == b"\x20\2\1\0", "resumed"


def heard(session: socket.socket) -> w.Downlink:
    """The next message, which is left without its PUBACK."""
    first, size = session.recv(2, socket.MSG_WAITALL)
    assert first & 0xF2 == 0x32, "a PUBLISH at QoS 1"
    body = session.recv(size, socket.MSG_WAITALL)
    return w.decode_downlink(body[2 + int.from_bytes(body[:2]) + 2 :])


def test_a_command_that_is_not_known_or_out_of_bounds_changes_nothing(broker: Broker, tmp_path: Path):
    for number, command in enumerate(
        (w.Do(1, "reboot", ()), w.Do(2, "raw-window", (61,)), w.Do(3, "raw-window", ("x",)))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        broker.kill()
        broker.forget()
        broker.start()
        cloud = live(folder, broker.port, policy.UPLOAD_ASKED, command, wakes=8)
        assert full(cloud) == []
        assert len(rows(cloud)) >= 5

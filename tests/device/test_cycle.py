"""The wake cycle as boards run it: real firmware, one process per wake, a real broker, a cloud that takes notes."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

from contract import wire
from tests.support import boards
from tests.support.boards import INTERVAL_MS, SAMPLE_MS, SPEED, WINDOW, press, samples_taken
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud
from tools.simulate import SimulatedBoard, supervised


def board_log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def test_every_sample_is_stored_once_with_its_value_and_its_time(broker: Broker, tmp_path: Path):
    rows = boards.recording(5000)

    async def live() -> tuple[TinyCloud, SimulatedBoard]:
        folder = boards.make(tmp_path / "pump-1", broker.port, rows)
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=60)
            await press(board)
        return cloud, board

    cloud, board = asyncio.run(live())
    stored = cloud.of("pump-1", wire.READINGS)
    assert len(stored) == samples_taken(board) == 59 * WINDOW, "all wakes but the cold one bring a window"
    assert [list(values) for _, values in stored] == rows[: len(stored)]
    gaps = {later[0] - earlier[0] for earlier, later in itertools.pairwise(stored)}
    assert max(abs(gap - SAMPLE_MS) for gap in gaps) <= 5, "what a wake takes, the sleep after it is shorter"
    assert set(cloud.times_received.values()) == {1}
    assert cloud.based > 0, "most sessions begin with a difference to the last acknowledged row"
    assert len(cloud.hellos["pump-1"]) == 1
    assert not board_log(tmp_path / "pump-1")
    print(f"CPU per wake: {1000 * board.totals.cpu_s / board.totals.wakes:.1f} ms")


def test_an_anomaly_is_told_at_its_beginning_and_at_its_end(broker: Broker, tmp_path: Path):
    anomaly = range(20 * WINDOW + 3, 30 * WINDOW)

    async def live() -> tuple[TinyCloud, list[int]]:
        folder = boards.make(
            tmp_path / "pump-1", broker.port, boards.recording(1000, (anomaly,)), {"sync_interval_ms": 86_400_000}
        )
        told_at: list[int] = []
        async with TinyCloud(broker.port) as cloud:

            def note(board: SimulatedBoard, _wake: Any) -> None:
                if len(cloud.of("pump-1", wire.EVENT)) > len(told_at):
                    told_at.append(board.totals.wakes)

            async with supervised([folder], SPEED, on_wake=note) as [board]:
                await board.run(wakes=40)
        return cloud, told_at

    cloud, told_at = asyncio.run(live())
    began, ended = cloud.of("pump-1", wire.EVENT)
    assert (began.kind, ended.kind) == (wire.EVENT_ANOMALY, wire.EVENT_CLEARED)
    assert began.score > began.threshold
    assert (began.route, began.reason) == (wire.ROUTE_DEVICE, wire.WHY_NO_MODEL)
    assert len(began.features) == 4 * 12
    # Wake 1 is the cold one, wake n + 2 scores window n; the end is told after two calm windows.
    assert told_at == [22, 33], "told in the very wake that finds it, whatever the schedule"
    assert abs(began.t_ms - 21 * INTERVAL_MS) < 2000


def test_a_lasting_anomaly_is_told_again_now_and_then(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        folder = boards.make(tmp_path / "pump-1", broker.port, boards.recording(3000, (range(3000),)))
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=130)
        return cloud

    kinds = [event.kind for event in asyncio.run(live()).of("pump-1", wire.EVENT)]
    assert kinds == [wire.EVENT_ANOMALY] * 3, "at the onset and after each 60 wakes"


def test_a_called_board_talks_at_once(broker: Broker, tmp_path: Path):
    async def live() -> tuple[int, int]:
        folder = boards.make(tmp_path / "pump-1", broker.port, settings={"sync_interval_ms": 86_400_000})
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=5)
            before = len(cloud.of("pump-1", wire.READINGS))
            board.call(wire.WAKE_PIN)
            await board.run(wakes=1)
            assert board.totals.by_cause[wire.WAKE_PIN] == 1
            return before, len(cloud.of("pump-1", wire.READINGS))

    assert asyncio.run(live()) == (0, 4 * WINDOW)


def test_settings_of_the_cloud_are_in_force_from_the_next_wake_and_reported(broker: Broker, tmp_path: Path):
    async def live() -> tuple[TinyCloud, int]:
        folder = boards.make(tmp_path / "pump-1", broker.port)
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await cloud.want("pump-1", 3, {"interval_ms": 2 * INTERVAL_MS, "sync_interval_ms": 1000, "colour": 7})
            await board.run(wakes=4)
            assert board.last is not None
            return cloud, board.last.sleep_ms

    cloud, sleep_ms = asyncio.run(live())
    hello = cloud.hellos["pump-1"][-1]
    assert hello.config_version == 3
    assert hello.reported["interval_ms"] == 2 * INTERVAL_MS
    assert "colour" not in hello.reported
    assert 2 * INTERVAL_MS - 1000 < sleep_ms <= 2 * INTERVAL_MS


def test_a_sensitive_board_sends_neither_readings_nor_features(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        rows = boards.recording(1000, (range(5 * WINDOW, 8 * WINDOW),))
        folder = boards.make(tmp_path / "pump-1", broker.port, rows, {"sensitive": True})
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=20)
        return cloud

    cloud = asyncio.run(live())
    assert cloud.of("pump-1", wire.READINGS) == []
    assert [(event.kind, event.features) for event in cloud.of("pump-1", wire.EVENT)] == [
        (wire.EVENT_ANOMALY, b""),
        (wire.EVENT_CLEARED, b""),
    ]


def test_within_its_dead_band_a_channel_keeps_its_last_value(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        rows = [[1000 + n % 5, n] for n in range(1000)]
        folder = boards.make(tmp_path / "pump-1", broker.port, rows, {"deadband": [20], "heartbeat_rows": 32})
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=21)
            await press(board)
        return cloud

    stored = [list(values) for _, values in asyncio.run(live()).of("pump-1", wire.READINGS)]
    assert [count for _, count in stored] == list(range(len(stored)))
    changes = [n for n in range(1, len(stored)) if stored[n][0] != stored[n - 1][0]]
    assert {n % 32 for n in changes} == {0}, "only a heartbeat changes a value that stays within the band"
    assert all(abs(stored[n][0] - (1000 + n % 5)) <= 20 for n in range(len(stored)))


def test_health_is_reported_each_hour_of_the_boards_clock(broker: Broker, tmp_path: Path):
    async def live() -> TinyCloud:
        settings = {"interval_ms": 600_000, "sync_interval_ms": 600_000}
        world = {"battery_mv": 3890, "rssi": -71}
        folder = boards.make(tmp_path / "pump-1", broker.port, settings=settings, world=world)
        async with TinyCloud(broker.port) as cloud, supervised([folder], 100_000) as [board]:
            await board.run(wakes=20)
        return cloud

    records = asyncio.run(live()).of("pump-1", wire.HEALTH)
    assert len(records) in (3, 4), "the cold wake's, and one for each hour of 190 minutes that a session follows"
    health = records[-1]
    assert 3_600_000 <= health.period_ms < 5_000_000
    assert health.wakes == round(health.period_ms / 600_000)
    assert (health.battery_mv, health.rssi) == (3890, -71)
    assert health.radio.sessions >= 3
    assert health.radio.tx_bytes > 500
    assert health.energy_uj.sleep > 0
    assert health.energy_uj.active > 0
    assert 600_000 < health.next_contact_ms < 1_500_000
    assert sum(health.scores) == health.wakes, "every window's score is in the histogram"
    assert boards.faults(health) == {}


def test_a_board_that_will_come_back_later_than_it_said_says_so(broker: Broker, tmp_path: Path):
    """Its battery gets low, then its settings change: within the hour between two HEALTH records."""

    async def live() -> tuple[list[Any], list[Any], list[Any]]:
        folder = boards.make(tmp_path / "pump-1", broker.port)
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=6)
            before = cloud.of("pump-1", wire.HEALTH)
            (folder / "sim.json").write_text('{"battery_mv": 3400}')
            await board.run(wakes=8)
            low = cloud.of("pump-1", wire.HEALTH)[len(before) :]
            await cloud.want("pump-1", 1, {"sync_interval_ms": 40 * INTERVAL_MS})
            await press(board, 2)
            return before, low, cloud.of("pump-1", wire.HEALTH)[len(before) + len(low) :]

    (first,), (low,), (slow,) = asyncio.run(live())
    latest = 4 * INTERVAL_MS * 9 // 8
    assert first.next_contact_ms == latest - 1 + INTERVAL_MS
    assert low.next_contact_ms - INTERVAL_MS >= 4 * latest - 8
    assert slow.next_contact_ms - INTERVAL_MS >= 40 * latest - 80
    assert slow.t_ms < 3_600_000

"""Fourteen days without a network, as a board lives them: real firmware, virtual clock, a broker it cannot reach.

The sensor has more to say than flash can hold: sixteen channels of noise. What has to go are readings, oldest first;
every alert is kept, and after the network is back all that was kept arrives, most important first.
"""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from contract import wire
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud
from tools.provision import BoardPlan, make_board
from tools.provision import Broker as BrokerOf
from tools.simulate import SimulatedBoard, supervised

DAY_MS = 86_400_000
CHANNELS = 16
LOUD = 30_000  # beyond the SAFE limit of the first channel


def schema(window: int) -> str:
    channels = ",".join(f"c{number}:g:1" for number in range(CHANNELS))
    return f"v1;w={window};c={channels};f=max"


def rows_of(windows: int, window: int, anomalies: set[int]) -> list[list[int]]:
    """(windows * window, CHANNELS) of noise; the first channel is loud in the windows of `anomalies`."""
    rng = random.Random(14)
    rows: list[list[int]] = []
    for number in range(windows):
        for _ in range(window):
            row = [rng.randrange(1 << 30) for _ in range(CHANNELS)]
            row[0] = LOUD if number in anomalies else row[0] >> 16
            rows.append(row)
    return rows


async def live(
    folder: Path, port: int, interval_ms: int, window: int, program: Path | None
) -> tuple[TinyCloud, SimulatedBoard, int]:
    windows = 14 * DAY_MS // interval_ms
    # Two windows of each day are anomalous; each ends with two calm ones.
    per_day = DAY_MS // interval_ms
    anomalies = {day * per_day + offset for day in range(14) for offset in (1, per_day // 2)}
    plan = BoardPlan(
        "pump-1", "pump", schema(window), interval_ms, BrokerOf(port), settings={"sync_interval_ms": 4 * interval_ms}
    )
    rows = rows_of(windows + 100, window, anomalies)
    begin_ms, end_ms = 2 * interval_ms, 2 * interval_ms + 14 * DAY_MS
    world = {"outages": [[begin_ms, end_ms]]}
    made = make_board(folder / "pump-1", plan, rows, interval_ms // window, world)
    config = made / "flash" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"limits": {"c0.max": [0, 25_000]}}))
    async with TinyCloud(port) as cloud, supervised([made], 1e7, program=program) as [board]:
        await board.run(wakes=2)
        assert board.last is not None
        while board.last.clock_ms - (1 << 41) < end_ms:
            await board.run(wakes=1)
        at_end = len(cloud.order)
        for _ in range(80):
            if len(cloud.order) > at_end and not any((made / "flash/outbox").glob("r*")):
                break
            await board.run(wakes=1)
        return cloud, board, at_end


def check(cloud: TinyCloud, board: SimulatedBoard, at_end: int, interval_ms: int, window: int) -> None:
    end_t_ms = 2 * interval_ms + 14 * DAY_MS
    events = cloud.of("pump-1", wire.EVENT)
    while_away = [event for event in events if event.t_ms <= end_t_ms]
    kinds = [event.kind for event in while_away]
    dropped = dict(zip(wire.STREAM_NAMES, cloud.of("pump-1", wire.HEALTH)[-1].drops, strict=True))
    seqs = {name: sorted(key[3] for key in cloud.records if key[2] == stream) for name, stream in _STREAMS.items()}
    taken = window * board.totals.by_cause[wire.WAKE_TIMER]
    arrived = cloud.order[at_end:]
    print(
        f"{board.totals.wakes} wakes, {taken} samples, {board.totals.cpu_s:.0f} s CPU;"
        f" alerts of 14 days offline: {len(while_away)} of {4 * 14} arrived; readings: {len(seqs['reading'])} arrived,"
        f" {dropped['reading']} dropped; dropped by class: {dropped}"
    )
    assert kinds.count(wire.EVENT_ANOMALY) == kinds.count(wire.EVENT_CLEARED) == 2 * 14, "detection went on"
    days = {event.t_ms // DAY_MS for event in while_away}
    assert days == set(range(14))
    assert dropped["event"] == 0, "alerts are kept before readings"
    assert dropped["reading"] > 0, "or this test shows nothing"
    for name in ("event", "reading", "health"):
        first = seqs[name][0] if name != "reading" else 0
        expected = seqs[name][-1] + 1 - first
        assert len(seqs[name]) + dropped[name] == expected, f"each {name} is here or counted as dropped"
    gap = [early for early, late in zip(seqs["reading"], seqs["reading"][1:], strict=False) if late != early + 1]
    assert len(gap) <= 1, "what had to go was the oldest, in one piece"
    ranks = [wire.STREAMS.index(key[2]) for key in arrived if cloud_t_ms(cloud, key) <= end_t_ms]
    assert ranks == sorted(ranks), "what was kept arrives in the order of its importance"
    assert max(cloud.times_received.values()) == 1


_STREAMS = dict(zip(wire.STREAM_NAMES, wire.STREAMS, strict=True))


def cloud_t_ms(cloud: TinyCloud, key: Any) -> int:
    """When a record was made: a row of readings is (t_ms, values), everything else says it by name."""
    record = cloud.records[key]
    return record[0] if key[2] == wire.READINGS else record.t_ms


def test_two_weeks_without_a_network_cost_old_readings_and_no_alert(
    broker: Broker, tmp_path: Path, fast_wakes: Path | None
):
    interval_ms, window = 7_200_000, 32
    cloud, board, at_end = asyncio.run(live(tmp_path, broker.port, interval_ms, window, fast_wakes))
    check(cloud, board, at_end, interval_ms, window)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_weeks_of_windows_every_ten_minutes(broker: Broker, tmp_path: Path, fast_wakes: Path | None):
    interval_ms, window = 600_000, 16
    cloud, board, at_end = asyncio.run(live(tmp_path, broker.port, interval_ms, window, fast_wakes))
    check(cloud, board, at_end, interval_ms, window)

"""The whole firmware in the heap of the smallest board: frozen, 32-bit words, single floats, a compiled detector, and a
real broker. On this port `-X heapsize` is what a chip would have (tools/frozen_port.py).
"""

import asyncio
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from contract import wire
from model_export import keys
from model_export.keys import PublisherKey
from tests.device.test_over_the_air import offered, publish, steps, trusting
from tests.support import boards, small_board
from tests.support.boards import SPEED, WINDOW, press, samples_taken
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud
from tools.simulate import SimulatedBoard, Wake, WakeServer

PROGRAM = Path(__file__).with_name("on_board") / "measured_wake.py"
HEAP = "96k"  # what a board of the smallest kind is asked to have
# The least heap in which a board lives through all of this; lowered when it can be, raised only with a reason.
LEAST_HEAP = "88k"
TWO_MODELS_HEAP = "104k"  # in 96 kB it is chance whether the second one fits beside what verifies it
UPDATES = {"1.0.0": 20, "2.0.0": 60}  # version: the wake after which it is offered


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> PublisherKey:
    return keys.create(tmp_path_factory.mktemp("keys"), "main")


@dataclass
class Life:
    """What a board looked like at the end of each wake."""

    used: list[int] = field(default_factory=list[int])
    free: list[int] = field(default_factory=list[int])
    flash_bytes: list[int] = field(default_factory=list[int])
    flash_files: list[int] = field(default_factory=list[int])
    rtc_bytes: set[int] = field(default_factory=set[int])

    def note(self, board: SimulatedBoard, _wake: Wake) -> None:
        files = [path for path in (board.folder / "flash").rglob("*") if path.is_file()]
        self.flash_files.append(len(files))
        self.flash_bytes.append(sum(path.stat().st_size for path in files))
        self.rtc_bytes.add((board.folder / "rtc.bin").stat().st_size)

    def read_heap(self, folder: Path) -> None:
        for line in (folder / "heap").read_text().splitlines():
            used, free = line.split()
            self.used.append(int(used))
            self.free.append(int(free))


def measured(port: Path, folder: Path) -> Path:
    """A program that takes `-X heapsize=... -c ...` from the wake server, and runs a measured wake in their place."""
    script = folder / "measured"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(port))} -X "$2" {shlex.quote(str(PROGRAM))}\n')
    script.chmod(0o755)
    return script


async def live(
    port: int, folder: Path, program: Path, artifacts: dict[str, bytes], trust: dict[str, Any], wakes: int, heap: str
) -> tuple[TinyCloud, SimulatedBoard, Life]:
    """A board of `artifacts`, offered one after the other, that measures, scores, syncs and updates in `heap`."""
    life = Life()
    made = boards.make(folder / "pump-1", port, small_board.recording(), **trust)
    async with TinyCloud(port) as cloud, WakeServer(program=measured(program, folder)) as server:
        board = SimulatedBoard(made, server, SPEED * 100, on_wake=life.note, heap=heap)
        for number, (version, after) in enumerate(UPDATES.items(), start=1):
            await board.run(wakes=after - board.totals.wakes)
            await publish(cloud, number, artifacts[version], deflated=number > 1)
        await board.run(wakes=wakes - board.totals.wakes)
        await press(board)
    life.read_heap(made)
    return cloud, board, life


@pytest.fixture(scope="module")
def artifacts(publisher: PublisherKey, chip_port: Path) -> dict[str, bytes]:
    return small_board.artifacts(publisher, UPDATES)


def check(cloud: TinyCloud, board: SimulatedBoard, life: Life) -> None:
    """Nothing failed, nothing was lost, nothing grew since the updates were over."""
    log = (board.folder / "log.txt").read_text()
    assert not log, log[-2000:]
    happy = [wire.UPDATE_DOWNLOAD, wire.UPDATE_TRIAL, wire.UPDATE_COMMIT]
    assert steps(cloud) == [(version, state, wire.REASON_OK) for version in UPDATES for state in happy]
    stored = cloud.of("pump-1", wire.READINGS)
    assert len(stored) >= samples_taken(board) - len(UPDATES) * WINDOW, "only wakes that install measure nothing"
    rows = small_board.recording()
    assert [list(values) for _, values in stored] == [rows[n % len(rows)] for n in range(len(stored))]
    events = cloud.of("pump-1", wire.EVENT)
    assert any(event.reason == wire.WHY_CLEAR for event in events), "scored by the compiled model"
    assert all(boards.faults(health) == {} for health in cloud.of("pump-1", wire.HEALTH))

    begin = max(UPDATES.values()) + 40
    half = (board.totals.wakes - begin) // 2
    # What a wake has to say differs from wake to wake, and once in thousands a link breaks and takes another way: the
    # median must stay where it is, and the 99th percentile within what differs.
    for name, slack in (("used", 512), ("flash_bytes", 4096), ("flash_files", 1)):
        values: list[int] = getattr(life, name)[begin:]
        early, late = sorted(values[:half]), sorted(values[half:])
        high, later_high = early[len(early) * 99 // 100], late[len(late) * 99 // 100]
        print(f"{name} after a wake: median {median(early)}, then {median(late)}; 99th percentile {high}, {later_high}")
        print(f"  most ever {max(values)}")
        assert median(late) <= median(early) + slack // 8, f"{name} grows"
        assert later_high <= high + slack, f"{name} grows"
    assert life.rtc_bytes == {2048}
    print(f"{board.totals.wakes} wakes; least free heap at the end of one: {min(life.free)} bytes")


def test_the_whole_firmware_lives_in_a_small_heap(
    broker: Broker, tmp_path: Path, chip_port: Path, artifacts, publisher: PublisherKey
):
    check(*asyncio.run(live(broker.port, tmp_path, chip_port, artifacts, trusting(publisher), 200, LEAST_HEAP)))


def test_two_models_score_side_by_side_in_a_little_more(
    broker: Broker, tmp_path: Path, chip_port: Path, artifacts: dict[str, bytes], publisher: PublisherKey
):
    async def live_with_a_shadow() -> tuple[TinyCloud, SimulatedBoard]:
        made = boards.make(tmp_path / "pump-1", broker.port, small_board.recording(), **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, WakeServer(program=measured(chip_port, tmp_path)) as server:
            board = SimulatedBoard(made, server, SPEED * 100, heap=TWO_MODELS_HEAP)
            offer = offered(cloud, artifacts["1.0.0"])
            await cloud.want("pump-1", 1, {}, offer)
            await board.run(wakes=30)
            await cloud.want("pump-1", 2, {}, offer, shadow=offered(cloud, artifacts["2.0.0"]))
            await board.run(wakes=40)
            await press(board)
        return cloud, board

    cloud, board = asyncio.run(live_with_a_shadow())
    log = (board.folder / "log.txt").read_text()
    assert not log, log[-2000:]
    assert steps(cloud)[2:] == [
        ("1.0.0", wire.UPDATE_COMMIT, wire.REASON_OK),
        ("2.0.0", wire.UPDATE_SHADOW, wire.REASON_OK),
    ]
    compared = sum(health.shadow_compared for health in cloud.of("pump-1", wire.HEALTH))
    assert compared > 0


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_wakes_leave_nothing_behind(
    broker: Broker, tmp_path: Path, chip_port: Path, artifacts, publisher: PublisherKey
):
    check(*asyncio.run(live(broker.port, tmp_path, chip_port, artifacts, trusting(publisher), 10_000, HEAP)))

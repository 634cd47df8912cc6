"""A heap that is full at any one allocation of a wake: the board goes to sleep, and RTC memory stays sound."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from contract import wire
from tests.support import boards
from tests.support.boards import SPEED, WINDOW
from tests.support.broker import Broker
from tests.support.micropython import evaluate
from tests.support.tiny_cloud import TinyCloud
from tools.simulate import BoardFailed, SimulatedBoard, WakeServer

PROGRAM = Path(__file__).with_name("on_board") / "scarce_wake.py"
NONE = -1
LOOK = """
from device.board.host import Board
from device.files import Files
from device.rtc_state import OK, RtcState
state = RtcState(Board(None), Files)
assert state.load() == OK
result = [state.epoch, state.wakes, sum(count for _, _, count, _, _, _ in state.seal()), state.next_seq[-1]]
"""


def wake(port: Path, folder: Path, number: int) -> int:
    """One wake whose allocation `number` fails; how many it made. Fails where it does not end in deep sleep."""
    (folder / "scarce").write_text(str(number))
    environment = os.environ | {"EDGEWISE_BOARD_DIR": str(folder)}
    asleep = folder / "wake.json"
    before = json.loads(asleep.read_text()) if asleep.exists() else {"n": 0}
    done = subprocess.run(
        [port, "-X", "heapsize=200k", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == -signal.SIGSEGV and number != NONE:
        # Where mp_obj_new_module() finds no memory, it leaves a module that is none (MicroPython's py/objmodule.c), and
        # whoever imports that once more takes it for one. A chip panics and begins anew.
        asleep.write_text(json.dumps(before | {"cause": wire.WAKE_SOFT, "slept_ms": 0}))
        return wake(port, folder, NONE)
    after = json.loads(asleep.read_text())
    assert (done.returncode, after["n"]) == (0, before["n"] + 1), f"allocation {number}: {done.stdout}{done.stderr}"
    return int((folder / "scarce").read_text())


def check_wakes(port: Path, before: Path, work: Path, step: int) -> None:
    """Let every step-th allocation fail in the wake that comes after `before`."""
    epoch, wakes, rows, next_seq = evaluate(LOOK, before)
    shutil.copytree(before, work)
    total = wake(port, work, NONE)
    for number in range(0, total, step):
        shutil.rmtree(work)
        shutil.copytree(before, work)
        wake(port, work, number)
        after = evaluate(LOOK, work)
        assert after[0] == epoch, f"allocation {number}: RTC memory was lost"
        assert wakes <= after[1] <= wakes + 1
        assert rows <= after[2], f"allocation {number}: readings were lost"
        assert next_seq <= after[3] <= next_seq + boards.WINDOW, f"allocation {number}"
    print(f"{len(range(0, total, step))} of {total} allocations failed")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, chip_port: Path) -> Path:
    """A board without a network, after four wakes."""
    folder = boards.make(tmp_path_factory.mktemp("scarce") / "pump-1", 1, world={"radio": False})
    for _ in range(4):
        wake(chip_port, folder, NONE)
    return folder


def test_a_wake_whose_heap_is_full_at_one_moment_ends_in_sleep_and_keeps_what_was_there(
    chip_port: Path, board: Path, tmp_path: Path
):
    check_wakes(chip_port, board, tmp_path / "pump-1", 61)


def test_sessions_whose_heap_is_full_at_one_moment_lose_and_double_nothing(
    broker: Broker, chip_port: Path, tmp_path: Path
):
    """TinyCloud holds what comes twice against what it has: a number given to two records ends the test."""
    program = tmp_path / "scarce"
    program.write_text(f"#!/bin/sh\nexec {shlex.quote(str(chip_port))} -X heapsize=200k {shlex.quote(str(PROGRAM))}\n")
    program.chmod(0o755)
    rows = boards.recording(2000, tuple(range(n * WINDOW, (n + 1) * WINDOW) for n in range(5, 100, 7)))

    async def live() -> TinyCloud:
        async with TinyCloud(broker.port) as cloud, WakeServer(program=program) as server:
            folder = boards.make(tmp_path / "pump-1", broker.port, rows, {"sync_interval_ms": 1000})
            board = SimulatedBoard(folder, server, SPEED * 100, heap="200k")

            async def wake(number: int) -> None:
                (folder / "scarce").write_text(str(number))
                await board.run(wakes=1)

            for number in (NONE, NONE, *range(300, 4300, 157), NONE, NONE, NONE):
                try:
                    await wake(number)
                except BoardFailed as died:
                    assert died.status == -signal.SIGSEGV, died.log  # see wake() above
                await wake(NONE)
        assert "MemoryError" in (folder / "log.txt").read_text()
        return cloud

    records = asyncio.run(live()).records
    assert {epoch for _, epoch, _, _ in records} == {1}
    for stream in wire.STREAMS:
        seqs = sorted(seq for _, _, its_stream, seq in records if its_stream == stream)
        assert seqs == list(range(len(seqs))), wire.STREAM_NAMES[wire.STREAMS.index(stream)]


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_each_moment(chip_port: Path, board: Path, tmp_path: Path):
    check_wakes(chip_port, board, tmp_path / "pump-1", 1)

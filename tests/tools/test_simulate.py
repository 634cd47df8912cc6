"""tools/simulate.py and tools/provision.py: boards as processes that sleep, hang, crash and lose their power."""

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from contract import wire
from contract.features import SchemaError
from tests.support import boards
from tests.support.boards import INTERVAL_MS
from tools import sdists
from tools.firmware import FIRMWARE, program
from tools.provision import BoardPlan, Broker, ProvisioningError, make_board, write_recording
from tools.sim_cli import sim
from tools.simulate import BoardFailed, ServerLost, SimulatedBoard, Wake, WakeServer, supervised

NOBODY = 1  # a port without a broker: these boards measure and never reach a cloud


def test_a_new_board_starts_cold_and_then_wakes_by_its_timer(tmp_path: Path):
    seen: list[tuple[str, Wake]] = []

    async def live() -> SimulatedBoard:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with supervised([folder], 1e4, on_wake=lambda board, wake: seen.append((board.device, wake))) as [board]:
            await board.run(wakes=4)
        return board

    board = asyncio.run(live())
    assert board.totals.by_cause == {wire.WAKE_COLD: 1, wire.WAKE_TIMER: 3}
    assert [device for device, _ in seen] == ["pump-1"] * 4
    clocks = [wake.clock_ms + wake.sleep_ms for _, wake in seen]
    assert all(abs(clock - clocks[0] - number * INTERVAL_MS) < 20 for number, clock in enumerate(clocks))
    assert 0 < board.totals.cpu_s < board.totals.wall_s


def test_the_command_says_how_long_the_board_has_lived(tmp_path: Path):
    folder = boards.make(tmp_path / "pump-1", NOBODY)
    done = CliRunner().invoke(sim, ["run", str(folder), "--wakes", "3", "--speed", "10000", "--json"])
    (found,) = json.loads(done.output)
    assert 2 * INTERVAL_MS <= found["clock_ms"] < 3 * INTERVAL_MS
    assert found["woken_by"] == {"cold": 1, "timer": 2}


def test_sleep_takes_what_was_asked_for_divided_by_the_speed(tmp_path: Path):
    async def live() -> tuple[float, float]:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with supervised([folder], 100) as [board]:
            await board.run(wakes=1)
            began, awake = time.monotonic(), board.totals.wall_s
            await board.run(wakes=5)
            return time.monotonic() - began, board.totals.wall_s - awake

    took, awake = asyncio.run(live())
    assert 0.7 <= took - awake <= 1.2, "five sleeps of 16 s at a hundredth, with a margin for a busy machine"


def test_boards_run_until_their_clock_says_so(tmp_path: Path):
    async def live() -> int:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with supervised([folder], 1e5) as [board]:
            await board.run(wakes=1)
            assert board.last is not None
            await board.run(until_ms=board.last.clock_ms + 10 * INTERVAL_MS)
            return board.totals.wakes

    assert asyncio.run(live()) in (11, 12)


def test_many_boards_share_one_server_and_at_most_so_many_are_awake(tmp_path: Path):
    async def live() -> list[int]:
        folders = [boards.make(tmp_path / f"pump-{number}", NOBODY) for number in range(12)]
        async with supervised(folders, 1e5, parallel=3) as fleet, asyncio.TaskGroup() as tasks:
            for board in fleet:
                tasks.create_task(board.run(wakes=5))
        return [board.totals.wakes for board in fleet]

    assert asyncio.run(live()) == [5] * 12


def test_a_crash_is_an_error_with_the_end_of_the_boards_log(tmp_path: Path):
    async def live() -> None:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        (folder / "sim.json").write_text("{")
        async with supervised([folder]) as [board]:
            await board.run(wakes=1)

    with pytest.raises(BoardFailed, match="board pump-1 ended with status 1 instead of deep sleep") as failed:
        asyncio.run(live())
    assert "ValueError: syntax error in JSON" in failed.value.log


def test_a_heap_that_is_too_small_is_an_error_and_not_a_hang(tmp_path: Path):
    async def live() -> None:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with WakeServer() as server:
            await SimulatedBoard(folder, server, heap="64k").run(wakes=1)

    with pytest.raises(BoardFailed, match="MemoryError"):
        asyncio.run(live())


def test_after_a_power_cut_a_board_starts_cold_with_its_flash(tmp_path: Path):
    async def live() -> tuple[dict[int, int], bool]:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with supervised([folder], 1e5) as [board]:
            await board.run(wakes=3)
            board.cut_power()
            await board.run(wakes=2)
            return board.totals.by_cause, (folder / "flash" / "epoch.1").exists()

    assert asyncio.run(live()) == ({wire.WAKE_COLD: 2, wire.WAKE_TIMER: 3}, True)


def test_power_cut_in_the_middle_of_a_wake_ends_it_there(tmp_path: Path):
    async def live() -> Any:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with supervised([folder], 1e5) as [board]:
            await board.run(wakes=2)
            os.mkfifo(folder / "pipe")
            (folder / "flash" / "recording.bin").unlink()
            (folder / "pipe").rename(folder / "flash" / "recording.bin")
            wake = asyncio.create_task(board.wake())
            await asyncio.sleep(0.3)
            board.cut_power()
            return await wake, (folder / "rtc.bin").exists(), (folder / "wake.json").exists()

    assert asyncio.run(live()) == (None, False, False)


def test_cancelling_ends_the_boards_processes(tmp_path: Path):
    async def live() -> int:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with supervised([folder], 1e5) as [board]:
            await board.run(wakes=1)
            make_the_sensor_hang(folder)
            running = asyncio.create_task(board.run(wakes=1))
            await asyncio.sleep(0.3)
            assert processes_of(folder) == 1
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await asyncio.sleep(0.3)
            return processes_of(folder)

    assert asyncio.run(live()) == 0


def make_the_sensor_hang(folder: Path) -> None:
    """Opening a pipe that nobody writes to blocks for ever."""
    (folder / "flash" / "recording.bin").unlink()
    os.mkfifo(folder / "flash" / "recording.bin")


def processes_of(folder: Path) -> int:
    """How many processes hold the board's log open."""
    log = str(folder / "log.txt")
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                count += any(os.readlink(link) == log for link in (process / "fd").iterdir())
            except OSError:
                continue  # ended meanwhile, or not ours
    return count


def test_boards_end_when_their_server_is_lost(tmp_path: Path):
    async def live() -> int:
        folder = boards.make(tmp_path / "pump-1", NOBODY)
        async with WakeServer() as server:
            board = SimulatedBoard(folder, server, 1e5)
            await board.run(wakes=1)
            make_the_sensor_hang(folder)
            running = asyncio.create_task(board.run(wakes=1))
            await asyncio.sleep(0.3)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(ServerLost):
                await running
            await asyncio.sleep(0.3)
            return processes_of(folder)

    assert asyncio.run(live()) == 0


@pytest.mark.parametrize(
    ("device", "rows", "message"),
    [
        ("Pump 1", [[1, 2]], "device id 'Pump 1' must be 1 to 32 of a-z, 0-9 and -"),
        ("pump-1", [], "a recording needs at least one row"),
        ("pump-1", [[1, 2], [1]], "row 1 must be 2 integers of 32 bits"),
        ("pump-1", [[1, 2**31]], "row 0 must be 2 integers of 32 bits"),
    ],
)
def test_a_board_that_cannot_be_made_is_refused_by_name(
    tmp_path: Path, device: str, rows: list[list[int]], message: str
):
    plan = BoardPlan(device, "pump", boards.SCHEMA, INTERVAL_MS, Broker(NOBODY))
    with pytest.raises(ProvisioningError) as refused:
        make_board(tmp_path / "board", plan, rows, 1000)
    assert message in str(refused.value)


def test_a_schema_no_board_takes_is_refused(tmp_path: Path):
    plan = BoardPlan("pump-1", "pump", "v1;w=4;c=flow;f=mean", INTERVAL_MS, Broker(NOBODY))
    with pytest.raises(SchemaError):
        make_board(tmp_path / "board", plan, [[1]], 1000)


def test_what_is_provisioned_is_what_config_json_says(tmp_path: Path):
    plan = BoardPlan(
        "pump-1",
        "pump",
        boards.SCHEMA,
        INTERVAL_MS,
        Broker(1884, "10.0.0.1", "pump-1", "secret"),
        trusted_keys={"aa": "bb"},
        settings={"sensitive": True},
    )
    made = make_board(tmp_path / "board", plan, [[1, 2]], 1000, {"rssi": -80})
    config = json.loads((made / "flash" / "config.json").read_text())
    assert config["broker"] == {"host": "10.0.0.1", "port": 1884, "user": "pump-1", "password": "secret"}
    assert (config["device"], config["schema"], config["settings"]) == ("pump-1", boards.SCHEMA, {"sensitive": True})
    assert json.loads((made / "sim.json").read_text()) == {"rssi": -80}


def test_a_recording_counts_its_rows(tmp_path: Path):
    assert write_recording(tmp_path / "r.bin", "flow:l/s:1", 1000, ([n] for n in range(7))) == 7


def test_a_board_runs_by_hand_from_its_sources(tmp_path: Path):
    folder = boards.make(tmp_path / "pump-1", NOBODY)
    environ = os.environ | {
        "EDGEWISE_BOARD_DIR": str(folder),
        "MICROPYPATH": os.pathsep.join((str(FIRMWARE), str(sdists.fetch(sdists.UMQTT)), ".frozen")),
    }
    for _ in range(3):
        subprocess.run(
            [program("micropython"), str(FIRMWARE / "main.py")], env=environ, check=True, timeout=30, cwd=tmp_path
        )
    assert json.loads((folder / "wake.json").read_text())["n"] == 3
    assert (folder / "flash" / "epoch.0").exists()

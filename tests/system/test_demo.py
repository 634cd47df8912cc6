"""The demo's own parts: the command from end to end, and its server and boards under kills."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud.processes import read_state
from cloud.settings import load_settings
from model_export import keys
from tools.demo import audit, stage
from tools.firmware import ROOT, program
from tools.simulate import SimulatedBoard, supervised

SPEED = 200.0
DRAIN_SPEED = 10_000.0
DRAIN_WAKES = 400  # after many failures in a row a board waits up to four hours, which is 240 wakes
DEMO_DEADLINE_S = 240  # of which the demo takes half a minute on an idle machine


@pytest.mark.timeout(DEMO_DEADLINE_S + 30)
def test_demo_accounts_for_every_record(native_toolchain: Path):
    command = [program("edgewise"), "demo", "--json"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEMO_DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    print(f"\ndemo: {outcome['seconds']} s; " + ", ".join(f"{b['device']} {b['made']}" for b in outcome["boards"]))
    assert outcome["sound"]
    assert len(outcome["boards"]) == 5
    for board in outcome["boards"]:
        assert board["made"] == board["stored"] > 0
        assert (board["lost"], board["duplicated"], board["wrong"]) == (0, 0, 0)
        assert board["model_before"].endswith(" 1.0.0")
        assert board["model"].endswith(" 2.0.0")
        assert 0 < board["wire_bytes"] < board["json_bytes"]
    labelled = [board for board in outcome["boards"] if board["alerts_in_labels"] is not None]
    assert 2 * sum(board["alerts_in_labels"] for board in labelled) > sum(board["alerts"] for board in labelled) > 0


def test_demo_refuses_a_folder_with_files(tmp_path: Path):
    (tmp_path / "mine").touch()
    command = [program("edgewise"), "demo", "--folder", str(tmp_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "name a new folder" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_leaves_nothing_behind(tmp_path: Path, native_toolchain: Path, number: signal.Signals):
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen([program("edgewise"), "demo"], stderr=subprocess.PIPE, env=environ, text=True)
    assert process.stderr is not None
    assert "training" in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(30) == 1
    assert process.stderr.read().endswith("Aborted!\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("edgewise-demo")] == []


def test_a_server_does_not_outlive_a_demo_that_is_killed(tmp_path: Path):
    script = (
        "import asyncio, sys, pathlib; from tools.demo import stage\n"
        "async def live():\n"
        "    async with stage.server(pathlib.Path(sys.argv[1])):\n"
        "        print('up', flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(live())"
    )
    (tmp_path / "data").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "data")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    state = read_state(load_settings({}, data_dir=tmp_path / "data"))
    assert state is not None
    process.kill()
    process.wait(5)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in (state.pid, *state.children.values())):
        assert time.monotonic() < deadline, "it runs on"
        time.sleep(0.05)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.soak)])
def test_kills_of_broker_and_ingest_lose_and_double_nothing(tmp_path: Path, fast_wakes: Path | None, kills: int):
    accounts = asyncio.run(killed_at_random(tmp_path, kills, random.Random(20), fast_wakes))
    made = sum(account.made for account in accounts)
    stored = sum(account.stored for account in accounts)
    print(f"\n{kills} kills: {made} records made, {stored} stored")
    for account in accounts:
        assert account.sound, account


async def killed_at_random(
    folder: Path, kills: int, chance: random.Random, program: Path | None
) -> list[audit.Account]:
    """The demo's boards, without models, while broker and ingest die at random moments; their accounts at the end."""
    publisher = keys.create(folder / "keys", "test")
    async with stage.server(folder / "data") as up:
        plays = await stage.make_boards(folder / "boards", up, publisher)
        folders = [folder / "boards" / device for device in plays]
        async with supervised(folders, SPEED, program=program) as boards:
            ending = asyncio.Event()
            lives = [asyncio.create_task(live(board, ending)) for board in boards]
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(0.2, 1.0))
                await kill_when_there(up, chance.choice(("broker", "ingest")))
            ending.set()
            await asyncio.gather(*lives)
        with up.client() as client:
            async with supervised(folders, DRAIN_SPEED, program=program) as boards:
                await asyncio.gather(*(drain(client, board) for board in boards))
            return [
                audit.account(client, board.device, audit.read_books(board.folder), plays[board.device])
                for board in boards
            ]


async def live(board: SimulatedBoard, ending: asyncio.Event) -> None:
    while not ending.is_set():
        await board.run(wakes=1)


async def kill_when_there(up: stage.Server, child: str) -> None:
    """Kill a process, which may just be starting again after the kill before."""
    for _ in range(200):
        try:
            up.kill(child)
            return
        except stage.DemoFailed:
            await asyncio.sleep(0.05)
    pytest.fail(f"{child} did not come back")


async def drain(client: stage.Client, board: SimulatedBoard) -> None:
    for _ in range(DRAIN_WAKES):
        books = await asyncio.to_thread(audit.read_books, board.folder)
        if await asyncio.to_thread(audit.is_drained, client, board.device, books):
            return
        await board.run(wakes=1)
    pytest.fail(f"{board.device} still held records after {DRAIN_WAKES} quiet wakes")

"""The guides whose commands build on each other, each run from its first line to its last in an empty folder."""

import json
import os
import shlex
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cloud.clock import now_ms
from tests.conftest import Spawn
from tests.support.rollout_fleet import PERIOD_MS, RolloutFleet
from tests.tools.test_docs import IN_ORDER, NOT_RUN, WITH_A_FLEET, commands, files
from tools.commands import Command
from tools.firmware import ROOT, program

COMMAND_DEADLINE_S = 180
FREE_PORTS = ("--port", "0", "--mqtt-port", "0")  # the last on the line count
ENDED = ("aborted", "done")
START_DEADLINE_S = 30


@pytest.mark.usefixtures("best_program", "emulated_board_built")
@pytest.mark.parametrize("page", IN_ORDER)
def test_guide_runs_from_first_to_last_command(page: str, tmp_path: Path, spawn: Spawn, native_toolchain: Path):
    (tmp_path / "build").mkdir()
    run_commands(page, tmp_path, spawn)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", WITH_A_FLEET)
def test_guide_runs_on_a_fleet_from_first_to_last_command(page: str, tmp_path: Path, spawn: Spawn):
    RolloutFleet(tmp_path / "build" / "site", 60, start_ms=now_ms() - 7 * PERIOD_MS)
    run_commands(page, tmp_path, spawn)


def run_commands(page: str, tmp_path: Path, spawn: Spawn) -> None:
    """Each command of a page in turn, in a folder of its own; every one has to end well."""
    environ = os.environ | {"XDG_DATA_HOME": str(tmp_path / "keys")}
    for name, text in files(ROOT / page).items():
        (tmp_path / name).write_text(text)
    for command in commands(ROOT / page):
        if command in NOT_RUN:
            continue
        words = shlex.split(command)
        into = None
        if ">" in words:
            into = tmp_path / words[words.index(">") + 1]
            words = words[: words.index(">")]
        assert words[0] == "edgewise", command
        if words[1] == "up":
            if "--mqtt-host" in words:
                words[words.index("--mqtt-host") + 1] = own_address()
            server = spawn(
                program("edgewise"), *words[1:], *FREE_PORTS, cwd=tmp_path, env=environ, stdout=subprocess.PIPE
            )
            assert server.stdout is not None
            assert server.stdout.readline().startswith(b"Open http://"), (tmp_path / "0.log").read_text()
            continue
        done = Command(*words[1:], environ=environ, folder=tmp_path).ended(COMMAND_DEADLINE_S)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if words[1:3] == ["rollout", "rollback"]:
            wait_for_the_end(words[3], tmp_path, environ)
        if into is not None:
            into.write_text(done.stdout)
        print(f"$ {command}\n{done.stdout}")


def own_address() -> str:
    """This machine's address in the network that its default route leads to; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine is in no network, and a board's server needs one: connect it")
        address: str = probe.getsockname()[0]
        return address


def wait_for_the_end(rollout: str, folder: Path, environ: dict[str, str]) -> None:
    """Until the controller has taken a rollout back, which a reader's next command comes too late to notice."""
    status = ("rollout", "status", rollout, "--json", "--data", "build/site")
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        said = Command(*status, environ=environ, folder=folder).ended(COMMAND_DEADLINE_S).stdout
        if json.loads(said)["summary"]["stage"] in ENDED:
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.2)

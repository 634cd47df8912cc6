"""`edgewise up` as a user runs it: a process tree on a data folder, found again through its up.json."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from cloud.clock import now_ms
from cloud.processes import UpState, read_state
from cloud.settings import Settings, load_settings
from cloud.store import tables as t
from tests.support.parts import StoredIn
from tools.commands import Command

_ROOT = Path(__file__).parents[2]
_FREE_PORTS = ("--port", "0", "--mqtt-port", "0")
_START_DEADLINE_S = 30.0
_STOP_DEADLINE_S = 20.0


def edgewise(*arguments: str | Path, deadline_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs the command and waits for it."""
    return Command(*map(str, arguments), environ=_environment()).ended(deadline_s)


class Tree:
    """A running `edgewise up --data FOLDER` on free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".out")
        self.settings: Settings = load_settings({}, data_dir=folder)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.cli", "up", "--data", folder, *_FREE_PORTS, "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.addresses: dict[str, Any] = json.loads(line)
        environ = {"EDGEWISE_MQTT_PORT": str(self.addresses["mqtt_port"])}
        self.settings = load_settings(environ, data_dir=folder)
        self.stored = StoredIn(self.settings)

    def state(self) -> UpState:
        """What up.json says now."""
        state = read_state(self.settings)
        assert state is not None
        return state

    def pid(self, name: str) -> int:
        """Of a child that runs; waits while it is being started again."""
        deadline = time.monotonic() + _START_DEADLINE_S
        while name not in (children := self.state().children):
            assert time.monotonic() < deadline, f"{name} is not started again"
            time.sleep(0.01)
        return children[name]

    def kill(self, name: str) -> int:
        """SIGKILL to a child; returns the pid it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def seconds_to_ready(self, not_pid: int = 0, name: str = "ingest") -> float:
        """How long until another process than `not_pid` is `name`, ingest beats and /health/ready is content."""
        began, began_ms = time.monotonic(), now_ms()
        while self.pid(name) == not_pid or not self._beats(began_ms) or not self._ready():
            assert time.monotonic() - began < _START_DEADLINE_S, "not ready again"
            time.sleep(0.02)
        return time.monotonic() - began

    def _beats(self, since_ms: int) -> bool:
        """Whether the ingest process of now said after `since_ms` that it is ready."""
        (row,) = self.stored.rows(sa.select(t.services).where(t.services.c.service == "ingest")) or [None]
        return row is not None and row["ready"] and row["beat_ms"] > since_ms and row["pid"] == self.pid("ingest")

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.addresses['http']}/health/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(_STOP_DEADLINE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(5)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWISE_")}
    return kept | {"PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "firmware")])}

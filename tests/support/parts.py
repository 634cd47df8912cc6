"""Broker and ingest of a data folder, each a process that a test kills and starts again."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cloud import broker
from cloud.broker import Credential
from cloud.clock import now_ms
from cloud.processes import end_with_parent
from cloud.settings import Settings, load_settings
from cloud.store import tables as t
from cloud.store.engine import make_engine, writing
from cloud.up import prepare
from tests.support.forks import shared_forks

READY_DEADLINE_S = 10.0


class StoredIn:
    """What a data folder's store holds."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """The rows of a query."""

        async def read() -> list[dict[str, Any]]:
            engine = make_engine(self.settings)
            try:
                async with engine.connect() as connection:
                    return [dict(row) for row in (await connection.execute(query)).mappings()]
            finally:
                await engine.dispose()

        return asyncio.run(read())


class Parts(StoredIn):
    """A data folder with `devices` provisioned, and its broker and ingest; neither runs before `start`."""

    def __init__(self, folder: Path, port: int, devices: Sequence[str], **environ: str) -> None:
        super().__init__(load_settings({"EDGEWISE_MQTT_PORT": str(port), **environ}, data_dir=folder))
        self.devices = list(devices)
        self._broker: subprocess.Popen[bytes] | None = None
        self._ingest: int | None = None
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        await prepare(self.settings)
        engine = make_engine(self.settings)
        async with writing(engine).begin() as connection:
            rows = [{"device": name, "kind": "pump", "credential": 1, "created_ms": now_ms()} for name in self.devices]
            await connection.execute(sa.insert(t.devices), rows)
        await engine.dispose()
        broker.write_config(self.settings, [Credential(name, 1) for name in self.devices])

    def start_broker(self) -> None:
        """Returns when it listens."""
        self._broker = subprocess.Popen(
            broker.server_command(self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )
        deadline = time.monotonic() + READY_DEADLINE_S
        while not broker.is_listening(self.settings):
            assert time.monotonic() < deadline, "the broker did not start"
            time.sleep(0.005)

    @property
    def broker_pid(self) -> int:
        assert self._broker is not None
        return self._broker.pid

    def kill_broker(self) -> None:
        """SIGKILL."""
        assert self._broker is not None
        self._broker.kill()
        self._broker.wait(5)

    def start_ingest(self) -> None:
        """Starts it and returns at once."""
        self._ingest = shared_forks().start(self.settings.environment())

    def kill_ingest(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._ingest is not None
        os.kill(self._ingest, signal.SIGKILL)
        deadline = time.monotonic() + READY_DEADLINE_S
        while Path(f"/proc/{self._ingest}").exists():
            assert time.monotonic() < deadline, "a killed process does not go"
            time.sleep(0.001)
        self._ingest = None

    def ingest_peak_mb(self) -> int:
        """The most memory the ingest process ever had."""
        status = Path(f"/proc/{self._ingest}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def stop(self) -> None:
        """Ends everything, whatever state it is in."""
        if self._ingest is not None:
            self.kill_ingest()
        if self._broker is not None:
            self._broker.kill()
            self._broker.wait(5)

    async def seconds_to_ready(self) -> float:
        """How long from now until ingest is connected and the store takes its heartbeat."""
        began, since_ms = time.monotonic(), now_ms()
        engine = make_engine(self.settings)
        query = sa.select(t.services).where(t.services.c.service == "ingest", t.services.c.pid == self._ingest)
        row = None
        try:
            while True:
                with contextlib.suppress(OSError, DBAPIError):  # the database may have been killed as well
                    async with engine.connect() as connection:
                        row = (await connection.execute(query)).one_or_none()
                if row is not None and row.ready and row.beat_ms >= since_ms:
                    return time.monotonic() - began
                assert time.monotonic() - began < READY_DEADLINE_S, "ingest did not become ready"
                await asyncio.sleep(0.01)
        finally:
            await engine.dispose()

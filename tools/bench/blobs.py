"""Artifacts over HTTP, a file of 20 kB: requests/s beside a bare ASGI application on the same server."""

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cloud.models.blobs import Blobs
from cloud.settings import load_settings
from cloud.store.engine import make_engine
from cloud.store.migrate import migrate
from tools.bench import Row, _raw_blobs
from tools.firmware import ROOT

CONNECTIONS = 8
REQUESTS = 1_500  # a round
ROUNDS = 5


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as (ours, bare):
        digest = hashlib.sha256(_raw_blobs.DATA).hexdigest()
        kinds = {
            "200, whole": ("", ""),
            "206, 4 kB of it": (f"Range: {_raw_blobs.RANGE.decode()}\r\n",) * 2,
            "304, not changed": (f'If-None-Match: "{digest}"\r\n', f"If-None-Match: {_raw_blobs.TAG.decode()}\r\n"),
        }
        rows: list[Row] = []
        for what, (our_header, bare_header) in kinds.items():
            our_rate, bare_rate = _rates(
                (ours, _request(f"/api/v1/artifacts/{digest}", our_header)), (bare, _request("/", bare_header))
            )
            rows.append(Row(what, our_rate, "requests/s", "bare ASGI", bare_rate, ">= 0.8 x"))
        return rows


def _request(path: str, header: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{header}\r\n".encode()


def _rates(*targets: tuple[int, bytes]) -> list[float]:
    """Requests per second of each (port, request), the best of rounds that take turns: other load only slows."""
    rounds: list[list[float]] = [[] for _ in targets]
    for _ in range(ROUNDS):
        for at, (port, request) in enumerate(targets):
            began = time.perf_counter()
            asyncio.run(_ask(port, request))
            rounds[at].append(REQUESTS / (time.perf_counter() - began))
    return [max(rates) for rates in rounds]


async def _ask(port: int, request: bytes) -> None:
    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(REQUESTS // CONNECTIONS):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(60):
        await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))


@contextmanager
def _servers(folder: Path) -> Generator[tuple[int, int]]:
    """Ports of the web process with the file stored, and of the bare application under the same server."""
    ours, bare = _free_port(), _free_port()
    settings = load_settings({"EDGEWISE_HTTP_PORT": str(ours)}, data_dir=folder)
    folder.mkdir(exist_ok=True)

    async def prepare() -> None:
        engine = make_engine(settings)
        await migrate(engine)
        await engine.dispose()
        await Blobs(settings.blobs_url).put(_raw_blobs.DATA)

    asyncio.run(prepare())
    environ = {
        **os.environ,
        **settings.environment(),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "firmware")]),
    }
    options = ["--no-access-log", "--log-level", "error", "--no-server-header", "--port", str(bare)]
    commands = [
        [sys.executable, "-m", "cloud.app"],
        [sys.executable, "-m", "uvicorn", "tools.bench._raw_blobs:app", *options],
    ]
    running = [subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL) for command in commands]
    try:
        for port in (ours, bare):
            _wait_for(port)
        yield ours, bare
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

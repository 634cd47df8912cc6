"""A wake of the firmware: CPU time and instructions from start to sleep, with and without a session, and their split.

CPU time is of simulated boards, which run from a ROM image. Instructions are x86 ones of the 32-bit port with the
firmware frozen in; they do not depend on how busy the machine is, and their shares are near a chip's.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import boards
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud
from tools.bench import Row
from tools.bench import _instructions as _instructions_of
from tools.firmware import program
from tools.rom import build_firmware
from tools.simulate import supervised

ON_BOARD = Path(__file__).with_name("_wake_on_board.py")
WAKES = 300
SPLIT_WAKES = 1000
HEAP = "1M"

# A step of the story, and the functions of cycle.py (and main.py) that are it.
STORY = {
    "wake": ("make_parts", "wake", "update_model", "choose_detector"),
    "sample": ("sample",),
    "features": ("compute_features",),
    "score": ("score",),
    "route and record": ("record_verdict",),
    "buffer": ("buffer",),
    "sleep": ("sync_reason", "sleep"),
}


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="edgewise-bench-") as folder:
        quiet, talking = asyncio.run(_both(Path(folder)))
        split = _split(Path(folder) / "split")
        counted = asyncio.run(_instructions(Path(folder) / "instructions"))
    command_ms = _command_ms()
    rows = [
        Row("wake without a session, CPU", quiet, "ms", "start of the micropython command", command_ms),
        Row("wake with a session, CPU", talking, "ms", "without", quiet),
    ]
    total = sum(split.values()) / SPLIT_WAKES
    for step, functions in STORY.items():
        spent = sum(split[name] for name in functions) / SPLIT_WAKES
        rows.append(Row(f"  {step}", spent, "us", "all steps, modules loaded", total))
    return rows + counted


async def _instructions(folder: Path) -> list[Row]:
    """Rows in thousands of instructions; none where they cannot be counted, which is said."""
    folder.mkdir()
    broker = Broker(folder / "nats", _free_port(), _free_port())
    broker.start()
    try:
        quiet, talking = await _instructions_of.count(folder, broker.port)
    except _instructions_of.NotHere as missing:
        print(missing, file=sys.stderr)
        return []
    finally:
        broker.kill()
    without, total = sum(quiet.values()) / 1000, sum(talking.values()) / 1000
    rows = [Row("wake without a session, instructions", without, "thousand", "with a session", total)]
    return rows + [
        Row(f"  {step}", spent / 1000, "thousand", "all of a wake with a session", total)
        for step, spent in talking.items()
    ]


async def _both(folder: Path) -> tuple[float, float]:
    """CPU ms of a wake that holds no session, and of one that does."""
    broker = Broker(folder / "nats", _free_port(), _free_port())
    broker.start()
    try:
        async with TinyCloud(broker.port):
            quiet = await _cpu_ms(folder / "quiet", broker.port, {"sync_interval_ms": 7 * 86_400_000})
            talking = await _cpu_ms(folder / "talking", broker.port, {"sync_interval_ms": 1000})
    finally:
        broker.kill()
    return quiet, talking


async def _cpu_ms(folder: Path, port: int, settings: dict[str, Any]) -> float:
    made = boards.make(folder, port, settings=settings)
    async with supervised([made], 1e6) as [board]:
        await board.run(wakes=3)
        before = board.totals.cpu_s
        await board.run(wakes=WAKES)
        return 1000 * (board.totals.cpu_s - before) / WAKES


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _split(folder: Path) -> dict[str, int]:
    made = boards.make(folder, 1)
    environ = os.environ | {"EDGEWISE_BOARD_DIR": str(made), "MICROPYPATH": str(build_firmware())}
    command = [program("micropython"), "-X", f"heapsize={HEAP}", str(ON_BOARD), str(SPLIT_WAKES)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _command_ms() -> float:
    """What it costs to start MicroPython as a command, doing nothing."""
    began = time.perf_counter()
    for _ in range(10):
        subprocess.run([program("micropython"), "-c", "pass"], check=True, timeout=30)
    return 100 * (time.perf_counter() - began)

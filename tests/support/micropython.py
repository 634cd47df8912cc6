"""Run a program on MicroPython with the compiled firmware on its path, as tests of the board side do."""

import asyncio
import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

from tools import firmware
from tools.scenario.program import Program, beside
from tools.simulate import HEAP

_LONGEST_ARGUMENT = 255  # MicroPython interns each, and dies before its first line where one is longer


def environment(within: Program | None = None, *folders: Path) -> dict[str, str]:
    """Of a program that imports `device` and `contract`, and modules in folders; within: as for run()."""
    path = (within or beside()).path
    return os.environ | {"MICROPYPATH": os.pathsep.join((path, *map(str, folders), ".frozen"))}


def command(program: Path, arguments: Any = None, heap: str = HEAP, within: Program | None = None) -> list[str]:
    """How to run `program`; `arguments` arrive as JSON in argv[1]. Raises ValueError where that is too long."""
    given = json.dumps(arguments)
    if len(given) > _LONGEST_ARGUMENT:
        raise ValueError(f"{len(given)} characters of arguments, not {_LONGEST_ARGUMENT}: put paths behind a folder")
    return [(within or beside()).micropython, "-X", f"heapsize={heap}", str(program), given]


def evaluate(code: str, board: Path | None = None, heap: str = HEAP) -> Any:
    """What `result` is, JSON-able, after `code` has run on MicroPython; `board` is the folder of a simulated board.

    Raises RuntimeError with the traceback when it fails.
    """
    command = [firmware.program("micropython"), "-X", f"heapsize={heap}", "-c"]
    command.append(textwrap.dedent(code) + "\nimport json\nprint(json.dumps(result))")
    environ = environment() | ({"EDGEWISE_BOARD_DIR": str(board)} if board else {})
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


async def run(
    program: Path, arguments: Any = None, deadline_s: float = 60.0, heap: str = HEAP, within: Program | None = None
) -> list[Any]:
    """What the program prints, one JSON value per line. Raises RuntimeError when it fails or hangs.

    within: the fixture `best_program`, for what computes for long; without it the package's MicroPython, in whose heap
    the firmware's code lies too.
    """
    process = await asyncio.create_subprocess_exec(
        *command(program, arguments, heap, within),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(within),
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), deadline_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RuntimeError(f"{program.name} did not end in {deadline_s} s") from None
    if process.returncode != 0:
        raise RuntimeError(f"{program.name} ended with {process.returncode}: {out.decode()}{err.decode()}")
    return [json.loads(line) for line in out.decode().splitlines()]

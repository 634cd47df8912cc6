"""Code on the fake chip of tests/device/fake_esp32: the very firmware under MicroPython, hardware by its datasheets."""

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

from tools.firmware import FIRMWARE, program

FAKES = Path(__file__).resolve().parents[1] / "device" / "fake_esp32"
DEADLINE_S = 60


class ChipError(Exception):
    """The code ended with an exception; its text is the traceback."""


def on_chip(code: str, environ: dict[str, str] | None = None) -> Any:
    """What `result` is, JSON-able, after `code` has run. Raises ChipError."""
    whole = textwrap.dedent(code) + "\nimport json\nprint(json.dumps(result))"
    paths = os.pathsep.join((str(FAKES), str(FIRMWARE), ".frozen"))
    done = subprocess.run(
        [program("micropython"), "-X", "heapsize=2M", "-c", whole],
        env=os.environ | {"MICROPYPATH": paths} | (environ or {}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode:
        raise ChipError(done.stdout + done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def sensing(sensor: dict[str, Any], schema: str, world: str, code: str) -> Any:
    """`result` of code with `board`, `make()` (opens the sensor) and `take()`, whose last window is in `window`.

    world: code that puts chips into machine.chip; it has `chips` and `machine`.
    """
    return on_chip(
        f"""
from array import array
import chips
import machine
from machine import chip, pass_ms
from contract.features import Features
from device.board.esp32 import Board
from device.errors import ConfigError, SensorError
from device.sensors import open_sensor
PINS = {{"scl": 22, "sda": 21, "adc": 34, "onewire": 4, "wake": 33}}
board = Board(None, PINS, {{"line": "high"}})
features = Features({schema!r})
window = array("i", [0] * (features.window * features.n_channels))
def make():
    return open_sensor({sensor!r}, None, board, features)
def take(sensor):
    return sensor.take_into(0, None, window)
def axis(number):
    return list(window)[number::3]
def refusal(step):
    try:
        step()
    except (ConfigError, SensorError) as error:
        return "%s: %s" % (type(error).__name__, error)
{textwrap.dedent(world)}
{textwrap.dedent(code)}
"""
    )

"""The MicroPython that simulated boards run in: the firmware frozen into it, or beside it as compiled files.

Both hold the very same sources and give the same run: a test compares every record, byte and microjoule. All that
differs are the last digits of a score in a trace, since the two MicroPythons print floats differently. Frozen, a
wake takes two thirds of the time: names are found by bisection in tables that are part of the program, and nothing asks
which thread it is in.
"""

from collections.abc import Callable
from typing import NamedTuple

from tools import firmware, frozen_port, unix_port
from tools.rom import build_firmware


class Program(NamedTuple):
    """What to start: `micropython`, with `path` in MICROPYPATH; `features`: a folder that holds the features in machine
    code where `path` does not, else empty."""

    micropython: str
    path: str
    features: str


def beside() -> Program:
    """The package's `micropython`, with the firmware in files. Raises firmware.CompileFailed, sdists.Unavailable."""
    return Program(firmware.program("micropython"), str(build_firmware()), "")


def frozen(tell: Callable[[str], None] = lambda _line: None) -> Program:
    """A port with the firmware frozen in, built now unless it was since the firmware changed; tell hears of it before.

    Raises frozen_port.PortUnavailable, unix_port.BuildFailed and what beside() raises.
    """
    micropython = frozen_port.build(frozen_port.HOST, tell)
    features = build_firmware() / firmware.NATIVE_FEATURES
    return Program(str(micropython), ".frozen", str(features.parent) if features.is_file() else "")


def best(tell: Callable[[str], None]) -> Program:
    """The frozen one; where it cannot be built the other, and tell hears why. Raises what beside() raises."""
    try:
        return frozen(tell)
    except (frozen_port.PortUnavailable, unix_port.BuildFailed) as error:
        tell(f"{error}\nThe firmware runs from compiled files instead: the same results, in half as much time again.")
        return beside()

"""MicroPython's unix port with the firmware frozen into it, as an image for a chip holds it in flash.

    python -m tools.frozen_port     build what can be built here, and say where it is

Both ports are made of the fetched MicroPython source and firmware/manifest.py, by tools/unix_port.py.

CHIP  words of 32 bits, single floats and 16 kB of stack, as on an ESP32. Objects have a chip's size, so `-X heapsize`
      means what it would mean there. Loads x86 native modules. Needs a compiler for 32-bit programs. Its module
      `scarce` lets an allocation fail (unix_modules).
HOST  words of 64 bits and double floats, as the `micropython` command has. Loads the x64 native modules that simulated
      boards are sent, and wakes in two thirds of the time of the ROM image.

A change of the firmware costs some seconds. Boards in these ports speak no TLS.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tools import firmware, micropython_source, sdists, unix_port

MANIFEST = firmware.FIRMWARE / "manifest.py"
MODULES = Path(__file__).with_name("unix_modules")


class Port(NamedTuple):
    """One of the two ports. arch: of the native modules it loads; flags: for its compiler; settings: of its make."""

    name: str
    arch: str
    compiler: tuple[str, ...]
    flags: tuple[str, ...]
    settings: tuple[str, ...]
    how_to_get: str


CHIP = Port(
    "chip",
    "x86",
    ("gcc", "-m32"),
    # The x87 unit keeps more digits than a float has; where a compiler fortifies, it insists on the usual PATH_MAX.
    ("-msse2", "-mfpmath=sse", "-U_FORTIFY_SOURCE"),
    ("MICROPY_FORCE_32BIT=1",),
    "Debian: apt install build-essential gcc-multilib",
)
HOST = Port("host", "x64", ("gcc",), ("-O2",), (), "Debian: apt install build-essential")
PORTS = (CHIP, HOST)


class PortUnavailable(Exception):
    """A port cannot be built on this machine; `reason` names what is missing and how to get it."""

    def __init__(self, port: Port, reason: str) -> None:
        self.reason = reason
        super().__init__(f"no {port.name} port of MicroPython: {reason}")


def build(port: Port, tell: Callable[[str], None] = lambda _line: None) -> Path:
    """The program, built now unless it was since the firmware changed; tell hears of it before a build begins.

    Raises PortUnavailable, unix_port.BuildFailed, sdists.Unavailable.
    """
    if micropython_source.source_dir() is None:
        raise PortUnavailable(port, "no MicroPython source: run `make setup`, or set MPY_DIR to a tree of yours")
    if shutil.which("make") is None or not compiles(port.compiler):
        raise PortUnavailable(port, f"no C compiler for it: {port.how_to_get}")
    client = sdists.fetch(sdists.UMQTT) / sdists.UMQTT.modules[0]
    inputs = [file.source for file in firmware.firmware_files(firmware.HOST_ARCH)]
    settings = (*port.settings, f"MPY_CROSS_FLAGS=-march={port.arch}")
    inputs += [MANIFEST, client]
    modules = MODULES if port is CHIP else None
    inputs += [modules] if modules else []
    return unix_port.build(_manifest(client), modules, port.flags, inputs, settings, tell)


def _manifest(client: Path) -> Path:
    """The firmware's manifest for a simulated board, and umqtt.simple, which every image for a chip has by itself."""
    text = (
        f'include("{MANIFEST}", board="host")\n'
        f'package("umqtt", files=("simple.py",), base_path="{client.parents[1]}", opt=2)\n'
    )
    path = firmware.ROOT / "build" / "host_manifest.py"
    if not path.is_file() or path.read_text() != text:
        fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix="manifest-"))
        (fresh / path.name).write_text(text)
        (fresh / path.name).rename(path)
        fresh.rmdir()
    return path


@cache
def compiles(compiler: tuple[str, ...]) -> bool:
    """True when a program that includes a header of the C library can be compiled and linked."""
    if shutil.which(compiler[0]) is None:
        return False
    with tempfile.TemporaryDirectory(prefix="edgewise-cc-") as work:
        command = [*compiler, "-x", "c", "-", "-o", str(Path(work) / "program")]
        text = b"#include <stdio.h>\nint main(void) { return puts(__func__); }\n"
        done = subprocess.run(command, input=text, capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def main() -> int:
    status = 0
    for port in PORTS:
        try:
            print(f"{port.name}: {build(port)}")
        except (PortUnavailable, unix_port.BuildFailed, sdists.Unavailable) as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

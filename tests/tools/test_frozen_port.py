import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import boards
from tools import firmware, frozen_port
from tools.frozen_port import CHIP, MANIFEST, Port, PortUnavailable, build

# Of firmware and umqtt.simple; lowered when it can be, raised only with a reason.
MOST_FROZEN_BYTES = 174 * 1024  # TLS on a board that knows no date, and what a full heap leaves whole, came


class Options:
    """As makemanifest.py gives them to a manifest."""

    def __init__(self, **given: str) -> None:
        self._given = given

    def defaults(self, **values: str) -> None:
        self._given = values | self._given

    def __getattr__(self, name: str) -> str | None:
        return self._given.get(name)


def frozen(monkeypatch: pytest.MonkeyPatch, **options: str) -> tuple[set[str], list[str]]:
    """The files the manifest names, relative to firmware/, and the manifests it includes."""
    files: set[str] = set()
    included: list[str] = []

    def package(name: str, files_: list[str], opt: int) -> None:
        assert opt == 2
        files.update(f"{name}/{file}" for file in files_)

    names: dict[str, Any] = {
        "options": Options(**options),
        "include": included.append,
        "module": lambda name, opt: files.add(name),
        "package": lambda name, files, opt: package(name, files, opt),
    }
    monkeypatch.chdir(MANIFEST.parent)
    exec(MANIFEST.read_text(), names)
    return files, included


@pytest.mark.parametrize(("board", "arch"), [("esp32", "xtensawin"), ("host", firmware.HOST_ARCH)])
def test_what_is_frozen_is_what_a_board_is_given_but_for_boot_py(monkeypatch, board: str, arch: str):
    files, included = frozen(monkeypatch, board=board)
    given = {file.source.relative_to(firmware.FIRMWARE).as_posix() for file in firmware.firmware_files(arch)}
    assert files == given - {"boot.py"}
    assert included == (["$(PORT_DIR)/boards/manifest.py"] if board == "esp32" else [])


def test_a_chip_is_what_the_manifest_is_for_unless_told_otherwise(monkeypatch):
    assert frozen(monkeypatch) == frozen(monkeypatch, board="esp32")


def test_the_chip_port_has_the_words_the_floats_and_the_firmware_of_a_chip(chip_port: Path):
    script = (
        "import sys,main,device.board;print([sys.maxsize,16777216.0+1.0-16777216.0,device.board.ARCH,main.__file__])"
    )
    done = subprocess.run(
        [chip_port, "-c", f"import sys;sys.path[:]=['.frozen'];{script}"],
        env={"EDGEWISE_BOARD_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert json.loads(done.stdout.replace("'", '"')) == [2**31 - 1, 0.0, "x86", "main.py"]


def test_the_chip_port_has_the_stack_of_a_chip(chip_port: Path):
    """ESP32: 153 levels in 50 kB, of which it keeps 1 (micropython/micropython#4840 on GitHub), so 47 in 16 kB."""
    script = "def f(n):\n try:\n  return f(n+1)\n except RuntimeError:\n  return n\nprint(f(0))"
    done = subprocess.run([chip_port, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert 35 < int(done.stdout) <= 47


def test_a_board_wakes_in_the_frozen_firmware_from_a_folder_without_any(chip_port: Path, tmp_path: Path):
    made = boards.make(tmp_path / "pump-1", 1, settings={"sync_interval_ms": 86_400_000})
    for _ in range(2):
        subprocess.run(
            [chip_port, "-X", "heapsize=96k", "-c", "import main;main.main()"],
            cwd=tmp_path,
            env={"EDGEWISE_BOARD_DIR": str(made)},
            timeout=30,
            check=True,
        )
    assert json.loads((made / "wake.json").read_text())["n"] == 2


def test_the_frozen_firmware_leaves_room_in_the_partition(chip_port: Path):
    """With 32-bit words; code and constants, all of it in flash on a chip."""
    done = subprocess.run(
        ["size", chip_port.parent / "objects" / "frozen_content.o"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    text, data, bss, *_ = (int(number) for number in done.stdout.splitlines()[1].split()[:3])
    print(f"frozen firmware: {text + data} bytes")
    assert text + data <= MOST_FROZEN_BYTES
    assert bss == 0


def test_an_unchanged_firmware_is_not_built_again(chip_port: Path):
    before = chip_port.stat().st_mtime
    os.utime(chip_port, (before - 100, before - 100))
    assert build(CHIP, tell=pytest.fail) == chip_port
    assert chip_port.stat().st_mtime > before - 100, "asked for now, so it is not the one to be forgotten"


def test_without_its_compiler_a_port_names_the_package(monkeypatch, native_toolchain):
    with pytest.raises(PortUnavailable, match="gcc-multilib"):
        build(CHIP._replace(compiler=("no-such-gcc",)))


def test_without_micropython_s_source_a_port_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("MPY_DIR", "/nonexistent")
    with pytest.raises(PortUnavailable, match="make setup"):
        build(Port("other", "x64", ("gcc",), (), (), ""))


def test_a_compiler_that_cannot_link_does_not_count():
    assert not frozen_port.compiles(("gcc", "-nosuchflag"))

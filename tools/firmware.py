"""Which files make up the firmware on a board, and how they are compiled: one answer for boards, tests and simulator.

An `arch` is the name mpy-cross and the manifests use: x64 (this machine), xtensawin (ESP32, S2, S3), rv32imc (C3, C6).
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from model_export import compile as compiler
from model_export import runtime
from model_export.errors import ModelError

ROOT = Path(__file__).resolve().parents[1]
FIRMWARE = ROOT / "firmware"
HOST_ARCH = "x64"
ARCHS = (HOST_ARCH, "xtensawin", "rv32imc", "armv7emsp")
COMPILE_DEADLINE_S = 30

# MicroPython runs these two by name at start, as text; everything else it finds as .mpy as well.
STARTED_BY_NAME = ("boot.py", "main.py")
# The board packages that only one kind of board can import.
ONLY_ON_HOST = ("device/board/host.py",)
ONLY_ON_CHIP = ("device/board/esp32.py",)
ONLY_ON_XTENSA = ("device/board/ulp_watch.py", "device/board/ulp_program.py")  # no other chip has this coprocessor
# The table other files are generated from; no board reads it, and it is not MicroPython.
ONLY_FOR_GENERATORS = ("contract/messages.py",)
# The features in machine code, beside the modules where its compiler is at hand. Without it a board computes in Python.
NATIVE_FEATURES = "device/ew_features.mpy"


class FirmwareFile(NamedTuple):
    source: Path
    target: str
    """Path on the board, relative to its root, with "/"."""

    @property
    def compiled(self) -> bool:
        return self.target.endswith(".mpy")


class CompileFailed(Exception):
    """mpy-cross refused a file; `source` names it and `reason` is what the compiler said."""

    def __init__(self, source: Path, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source}: {reason}")


def firmware_files(arch: str) -> list[FirmwareFile]:
    """What a deployment for `arch` holds, sorted by target; generated and hand-written files alike."""
    if arch not in ARCHS:
        raise ValueError(f"unknown arch {arch!r}; known are {', '.join(ARCHS)}")
    left_out = ONLY_FOR_GENERATORS + (ONLY_ON_CHIP if arch == HOST_ARCH else ONLY_ON_HOST)
    if arch != "xtensawin":
        left_out += ONLY_ON_XTENSA
    files = [FirmwareFile(FIRMWARE / name, name) for name in STARTED_BY_NAME if (FIRMWARE / name).is_file()]
    for package in ("contract", "device"):
        for source in (FIRMWARE / package).rglob("*.py"):
            name = source.relative_to(FIRMWARE).as_posix()
            if name not in left_out:
                files.append(FirmwareFile(source, name.removesuffix(".py") + ".mpy"))
    return sorted(files, key=lambda file: file.target)


def compile_file(file: FirmwareFile, folder: Path, arch: str) -> Path:
    """Put `file` below `folder` as it goes onto a board of `arch`; returns its path there. Raises CompileFailed.

    Files started by name are compiled too, so that their syntax is checked, and then copied as text.
    """
    target = folder / file.target
    target.parent.mkdir(parents=True, exist_ok=True)
    compiled = target.with_suffix(".mpy")
    # -s: an exception on a board names the file in the repository, not a path of the machine that compiled it.
    name = file.source.relative_to(FIRMWARE).as_posix()
    command = [str(runtime.mpy_cross()), f"-march={arch}", "-O2", "-s", name, "-o", str(compiled), str(file.source)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_DEADLINE_S, check=False
    )
    if done.returncode:
        raise CompileFailed(file.source, (done.stderr or done.stdout).strip())
    if not file.compiled:
        compiled.unlink()
        shutil.copyfile(file.source, target)
    return target


def build(folder: Path, arch: str) -> list[FirmwareFile]:
    """Put the whole firmware for `arch` below `folder`, which is emptied first; returns its files, `source` being the
    built one. Raises CompileFailed for the first file that does not compile."""
    shutil.rmtree(folder, ignore_errors=True)
    files = firmware_files(arch)
    with ThreadPoolExecutor() as pool:
        pending = [pool.submit(compile_file, file, folder, arch) for file in files]
        return [FirmwareFile(done.result(), file.target) for done, file in zip(pending, files, strict=True)]


def builds_native(arch: str) -> bool:
    """Whether this machine has what machine code for `arch` is built with."""
    try:
        compiler.check_tools(arch)
    except ModelError:
        return False
    return True


def add_native(folder: Path, arch: str) -> FirmwareFile | None:
    """Put the features in machine code for `arch` below `folder`; None where `builds_native` is False.

    Raises ModelError, build-failed with the compiler's own words.
    """
    if not builds_native(arch):
        return None
    target = folder / NATIVE_FEATURES
    target.write_bytes(compiler.features_module(arch))
    return FirmwareFile(target, NATIVE_FEATURES)


def program(name: str) -> str:
    """Path of a program of this virtual environment, else of PATH. Raises FileNotFoundError."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is neither beside {sys.executable} nor on PATH; run `make setup`")
    return found

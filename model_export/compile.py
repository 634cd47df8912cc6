"""From generated C to a native module (.mpy) for one architecture.

The build is MicroPython's own (py/dynruntime.mk through firmware/native/Makefile), in a fresh folder with relative
names only, so that the same source gives the same bytes on every machine with the same compiler.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import contract
from contract import table
from model_export import runtime
from model_export.errors import ModelError

NATIVE_DIR = Path(contract.__file__).resolve().parents[1] / "native"
MPY_ABI = 6 * 256 + 3
DEADLINE_S = 120

# arch: (compiler, how to get it)
COMPILERS = {
    "x64": ("gcc", "`apt-get install gcc make`"),
    "x86": ("gcc", "`apt-get install gcc-multilib make`"),  # the 32-bit port of tools/frozen_port.py
    "rv32imc": (
        "riscv64-unknown-elf-gcc",
        "`apt-get install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf make`",
    ),
    "armv7emsp": ("arm-none-eabi-gcc", "`apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi make`"),
    "xtensawin": (
        "xtensa-esp32-elf-gcc",
        "it comes with ESP-IDF: run its `install.sh esp32` and `. export.sh` before this command",
    ),
}


def micropython_dir() -> Path:
    """MicroPython's source: $MPY_DIR, else what `make setup` fetched. Raises ModelError(no-source)."""
    given = os.environ.get("MPY_DIR")
    tree = Path(given) if given else NATIVE_DIR.parents[1] / "build" / "micropython"
    if not (tree / "py" / "dynruntime.mk").is_file():
        raise ModelError(
            "no-source",
            f"no MicroPython source in {tree}, and native modules are built from it: run `make setup`, "
            "or set MPY_DIR to a checkout of MicroPython 1.25",
        )
    return tree


def emlearn_dir() -> Path:
    """The folder with emlearn's C headers, found without importing emlearn."""
    spec = find_spec("emlearn")
    if spec is None or spec.origin is None:
        raise ModelError("no-source", "emlearn is not installed: run `make setup`, or pip install edgewise again")
    return Path(spec.origin).parent


def check_tools(arch: str) -> None:
    """Raises ModelError(no-compiler, no-source, unsupported) when `arch` cannot be built here."""
    if arch not in COMPILERS:
        raise ModelError("unsupported", f"no native modules for {arch!r}: choose one of {', '.join(COMPILERS)}")
    compiler, remedy = COMPILERS[arch]
    for program in (compiler, "make"):
        if shutil.which(program) is None:
            raise ModelError("no-compiler", f"{program} is not on PATH, and native {arch} modules need it: {remedy}")
    micropython_dir()


# What scores a table blob on a board, in the order of a reader.
TABLE_MODULES = (
    "contract/__init__",
    "contract/table",
    "contract/table_gaussian",
    "device/table",
    "device/table_viper",
    "device/table_plain",
)


def table_import(blob: bytes) -> str:
    """The line of MicroPython that imports as `Table` what scores a blob, as firmware/device/detector.py does."""
    if table.kind_of(blob) == table.GAUSSIAN:
        return "from contract.table_gaussian import Gaussian as Table"
    return "from device.table import Forest as Table"


def table_modules(arch: str) -> dict[str, bytes]:
    """The firmware's own modules that score table blobs, compiled as for a board: {"device/table.mpy": ...}."""
    return {f"{name}.mpy": _table_module(name, arch) for name in TABLE_MODULES}


@cache  # an export scores by them two or three times
def _table_module(name: str, arch: str) -> bytes:
    source = NATIVE_DIR.parent / f"{name}.py"
    with tempfile.TemporaryDirectory(prefix="edgewise-table-") as work:
        command = [str(runtime.mpy_cross()), f"-march={arch}", "-O2", "-s", f"{name}.py"]
        command += ["-o", f"{work}/module.mpy", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        if done.returncode:
            raise ModelError("build-failed", f"{name}.py for {arch}: {(done.stderr or done.stdout).strip()}")
        return Path(work, "module.mpy").read_bytes()


def native_module(c_source: str, arch: str) -> bytes:
    """The .mpy of a model's C source; raises ModelError, build-failed with the compiler's own words."""
    return built({"model.h": c_source}, arch, "model", "module.c")


def features_module(arch: str) -> bytes:
    """ew_features.mpy, by which contract.features.Features computes on a board; raises as `native_module` does."""
    return built({}, arch, "ew_features", "features_module.c")


def table_module(arch: str) -> bytes:
    """ew_table.mpy, the walkers of table blobs in C; raises as `native_module` does."""
    return built({}, arch, "ew_table", "table_module.c")


def built(sources: dict[str, str], arch: str, name: str, glue: str) -> bytes:
    """The bytes of NAME.mpy, made of `sources` by name and `glue`, one of them or a file of firmware/native."""
    check_tools(arch)
    with tempfile.TemporaryDirectory(prefix="edgewise-native-") as work:
        folder = Path(work)
        for file, text in sources.items():
            (folder / file).write_text(text)
        _take_cache(folder)
        _make(folder, arch, name, glue)
        _keep_cache(folder)
        return (folder / f"{name}.mpy").read_bytes()


# The linker reads the symbols of libgcc and libc once (13 s for rv32imc) and keeps them beside where it runs.
_CACHE = ".mpy_ld_cache"


def _kept_cache() -> Path:
    return NATIVE_DIR.parents[1] / "build" / "mpy_ld_cache"


def _take_cache(folder: Path) -> None:
    if _kept_cache().is_dir():
        shutil.copytree(_kept_cache(), folder / _CACHE, ignore=shutil.ignore_patterns(".*"))


def _keep_cache(folder: Path) -> None:
    """Adds what the linker has learned; a file appears whole, as others may be building at the same time."""
    if not (folder / _CACHE).is_dir():
        return
    kept = _kept_cache()
    kept.mkdir(parents=True, exist_ok=True)
    for file in (folder / _CACHE).iterdir():
        if not (kept / file.name).exists():
            part = kept / f".{os.getpid()}-{file.name}"
            shutil.copyfile(file, part)
            part.rename(kept / file.name)


def _make(folder: Path, arch: str, name: str, glue: str) -> None:
    command = [
        "make",
        "--file",
        str(NATIVE_DIR / "Makefile"),
        f"ARCH={arch}",
        f"MOD={name}",
        f"GLUE={glue}",
        f"MPY_DIR={micropython_dir().resolve()}",
        f"PYTHON={sys.executable}",
        f"MPY_CROSS={runtime.mpy_cross()}",
        f"EMLEARN_DIR={emlearn_dir()}",
    ]
    # A make that runs this program must not pass its own flags down.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    # mpy_ld.py takes what it links of libgcc from a set of names: in each process in another order, to other bytes.
    environment["PYTHONHASHSEED"] = "0"
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            "build-failed", f"the native {arch} module was not built in {DEADLINE_S} s: train a smaller model"
        ) from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        lines = [line for line in lines if "error:" in line] or lines
        raise ModelError("build-failed", f"the native {arch} module did not build:\n  " + "\n  ".join(lines[-8:]))

"""A 32-bit RISC-V board without the board: MicroPython's own port for qemu-system-riscv32.

The instruction set is that of the ESP32-C3 and C6, and so is what MicroPython has there: integers of 31 bits, floats of
32, no float unit. A native module built for rv32imc runs in it as it would on those chips.

QEMU puts module, data and script into the guest's memory; the guest prints the scores.
"""

import binascii
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_export import runtime
from model_export.compile import NATIVE_DIR, check_tools, micropython_dir, table_import, table_modules
from model_export.errors import ModelError

BUILD_DEADLINE_S = 600
RUN_DEADLINE_S = 600
_HEAP_BYTES = 1 << 20
# In the guest's 128 MB of memory, above what the firmware uses (ports/qemu/mcu/rv32/virt.ld).
_FILES_AT = 0x81000000
_DATA_AT = 0x82000000

# There is no file system to import from: a class stands in for one, whose files lie in the guest's memory.
_MOUNT = """
import binascii, io, os, sys, uctypes
from array import array
files = {files}
class File(io.IOBase):
    def __init__(self, at, size):
        self.at, self.end = at, at + size
    def ioctl(self, request, argument):
        return 0 if request == 4 else -1
    def readinto(self, buffer):
        count = min(len(buffer), self.end - self.at)
        buffer[:count] = uctypes.bytearray_at(self.at, count)
        self.at += count
        return count
class Files:
    def mount(self, readonly, mkfs):
        pass
    def stat(self, path):
        if path[1:] in files:
            return (0x8000,) + (0,) * 9
        if any(name.startswith(path[1:] + '/') for name in files):
            return (0x4000,) + (0,) * 9
        raise OSError(2)
    def open(self, path, mode):
        return File(*files[path[1:]])
os.mount(Files(), '/m')
sys.path.append('/m')
def data(at, count):
    return uctypes.bytearray_at({data_at} + at, count)
"""
_NATIVE = """
import model
n = model.n_features()
"""
# The blob is scored where it lies, as in a mapped partition.
_TABLE = """
{opening}
model = Table(uctypes.bytearray_at(*files['blob']))
model.check()
n = model.n_features
"""
_SCORE = """
row = array('i', [0] * n)
raw = uctypes.bytearray_at(uctypes.addressof(row), 4 * n)
score = array('f', [0.0])
score_raw = uctypes.bytearray_at(uctypes.addressof(score), 4)
out = bytearray(1024)
at = 0
for i in range({count}):
    raw[:] = data(4 * n * i, 4 * n)
    score[0] = model.score(row)
    out[at:at + 4] = score_raw
    at += 4
    if at == len(out):
        print(binascii.hexlify(out).decode())
        at = 0
print(binascii.hexlify(out[:at]).decode())
"""
# A second submission, so that the machine ends after an exception too.
_END = "import machine; machine.reset()"


def scores(mpy: bytes, points: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Scores of int32 (n, n_features) by an rv32imc module in QEMU: float32 (n,). Raises ModelError."""
    return _scores({"model.mpy": mpy}, _NATIVE, points)


def table_scores(blob: bytes, points: npt.NDArray[np.int32], plain: bool = False) -> npt.NDArray[np.float32]:
    """Scores of int32 (n, n_features) by a table blob and the firmware's own scorer, for rv32imc: float32 (n,).

    plain: as on a port that runs no machine code. Raises ModelError.
    """
    files = table_modules("rv32imc")
    if plain:
        del files["device/table_viper.mpy"]
    return _scores(files | {"blob": blob}, _TABLE.format(opening=table_import(blob)), points)


def _scores(files: dict[str, bytes], opening: str, points: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    raw = np.ascontiguousarray(points, dtype="<i4").tobytes()
    found = np.frombuffer(run(files, raw, opening + _SCORE.format(count=len(points))), dtype="<f4")
    if len(found) != len(points):
        raise ModelError("parity", f"QEMU gave {len(found)} scores for {len(points)} points")
    return found


def run(files: dict[str, bytes], data: bytes, script: str, options: Sequence[str] = ()) -> bytes:
    """What `script` prints in hexadecimal, in a guest that imports from `files`, {"model.mpy": ...}.

    The script finds `data` by `data(offset, count) -> bytearray`, a file by `files[name]`, its (address, size), and
    array and binascii imported. options: more of QEMU's. Raises ModelError.
    """
    if not available():
        raise ModelError("no-runtime", "qemu-system-riscv32 is not on PATH: `apt-get install qemu-system-misc`")
    kernel = firmware()
    with tempfile.TemporaryDirectory(prefix="edgewise-qemu-") as work:
        folder = Path(work)
        places = _write(files, folder / "files")
        (folder / "data").write_bytes(data)
        mount = _MOUNT.format(files=places, data_at=_DATA_AT)
        lines = _run(kernel, mount + script + "\nprint('end')\n", folder, options)
    if lines[-1] != "end":
        raise ModelError("parity", f"the rv32imc module does not run in QEMU: {' '.join(lines)[-400:]}")
    return binascii.unhexlify("".join(lines[:-1]))


def _write(files: dict[str, bytes], path: Path) -> dict[str, tuple[int, int]]:
    """Puts files one after the other into one; gives (address, bytes) of each in the guest."""
    places: dict[str, tuple[int, int]] = {}
    image = bytearray()
    for name, content in files.items():
        image += bytes(-len(image) % 16)
        places[name] = (_FILES_AT + len(image), len(content))
        image += content
    path.write_bytes(image)
    return places


def available() -> bool:
    """True when QEMU for 32-bit RISC-V is installed."""
    return shutil.which("qemu-system-riscv32") is not None


def _run(kernel: Path, script: str, folder: Path, options: Sequence[str]) -> list[str]:
    """The lines a script prints in the guest, up to the end it makes of it."""
    command = ["qemu-system-riscv32", "-machine", "virt", "-bios", "none", "-nographic", "-monitor", "null"]
    command += ["-semihosting", "-serial", "stdio", "-kernel", str(kernel)]
    command += options
    for name, address in (("files", _FILES_AT), ("data", _DATA_AT)):
        command += ["-device", f"loader,file={folder / name},addr={address:#x},force-raw=on"]
    raw_repl = b"\x01" + script.encode() + b"\x04" + _END.encode() + b"\x04"
    try:
        done = subprocess.run(command, input=raw_repl, capture_output=True, timeout=RUN_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired as expired:
        raise ModelError(
            "parity", f"QEMU gave no end in {RUN_DEADLINE_S} s: {(expired.stdout or b'')[-200:]!r}"
        ) from None
    # Raw REPL: ">OK", what was printed, 0x04, the traceback if any, 0x04.
    _, _, answer = done.stdout.partition(b">OK")
    printed, _, rest = answer.partition(b"\x04")
    failure = rest.partition(b"\x04")[0].decode(errors="replace").split()
    return printed.decode(errors="replace").split() + failure or ["nothing was printed"]


def firmware() -> Path:
    """MicroPython for QEMU's RISC-V machine, built at first use (half a minute). Raises ModelError."""
    build = NATIVE_DIR.parents[1] / "build" / "qemu-rv32"
    kernel = build / "firmware.elf"
    if not kernel.is_file():
        check_tools("rv32imc")
        build.mkdir(parents=True, exist_ok=True)
        with (build / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second waits for the first, and finds it built
            if not kernel.is_file():
                _build(build)
    return kernel


def _build(build: Path) -> None:
    port = micropython_dir().resolve() / "ports" / "qemu"
    with tempfile.TemporaryDirectory(dir=build.parent, prefix="qemu-rv32-") as work:
        command = [
            "make",
            f"-j{min(2, os.cpu_count() or 1)}",
            "BOARD=VIRT_RV32",
            # The C library has no variant named rv32imac_zicsr; the older specification counts these instructions to I.
            "RV32_ARCH=rv32imac",
            "CFLAGS_EXTRA=-misa-spec=2.2",
            "AS=riscv64-unknown-elf-as -misa-spec=2.2",
            "FROZEN_MANIFEST=",
            f"MICROPY_HEAP_SIZE={_HEAP_BYTES}",
            f"MICROPY_MPYCROSS={runtime.find('mpy-cross')}",
            f"PYTHON={sys.executable}",
            f"BUILD={work}",
        ]
        environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
        done = subprocess.run(
            command, cwd=port, env=environment, capture_output=True, text=True, timeout=BUILD_DEADLINE_S, check=False
        )
        if done.returncode:
            last = "\n  ".join(done.stderr.strip().splitlines()[-4:])
            raise ModelError("build-failed", f"MicroPython for QEMU did not build:\n  {last}")
        shutil.copyfile(Path(work) / "firmware.elf", build / "firmware.part")
        (build / "firmware.part").rename(build / "firmware.elf")

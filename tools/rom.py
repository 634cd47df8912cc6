"""The firmware for boards simulated on this machine as one ROM image, built when its sources changed.

ROM images (ROMFS) are MicroPython's own: modules in them run in place. On a chip the application is frozen into the
image or lies in a ROM partition; here it is mapped into memory (tools/wake_server.py). Either way the heap holds a
module's names and objects, not its code.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from mpremote.romfs import VfsRomWriter  # pyright: ignore[reportMissingTypeStubs]

from model_export import runtime
from tools import firmware, sdists

CACHE = firmware.ROOT / "build" / "firmware-host"
_KEPT = 4
UMQTT_MODULE = sdists.UMQTT.modules[0]


def build_firmware() -> Path:
    """A folder with the compiled firmware and umqtt.simple, to go on MICROPYPATH; `rom` in it is the image of them.

    Built now unless these very sources were before. Raises firmware.CompileFailed, sdists.Unavailable.
    """
    files = firmware.firmware_files(firmware.HOST_ARCH)
    client = sdists.fetch(sdists.UMQTT) / UMQTT_MODULE
    digest = hashlib.sha256(client.read_bytes())
    for file in files:
        digest.update(file.target.encode() + b"\0" + file.source.read_bytes())
    if firmware.builds_native(firmware.HOST_ARCH):
        for source in sorted((firmware.FIRMWARE / "native").glob("*features*")):
            digest.update(source.read_bytes())
    target = CACHE / digest.hexdigest()[:16]
    if target.is_dir():
        os.utime(target)
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="new-") as work:
        built = Path(work) / "firmware"
        firmware.build(built, firmware.HOST_ARCH)
        firmware.add_native(built, firmware.HOST_ARCH)
        for name, source in (("main.py", built / "main.py"), (UMQTT_MODULE, client)):
            compiled = (built / name).with_suffix(".mpy")
            compiled.parent.mkdir(exist_ok=True)
            command = [str(runtime.mpy_cross()), "-O2", "-s", name, "-o", str(compiled), str(source)]
            subprocess.run(command, check=True, timeout=firmware.COMPILE_DEADLINE_S)
        image = image_of(built)
        (built / "rom").write_bytes(image)
        try:
            built.rename(target)
        except OSError:  # somebody else was faster
            if not target.is_dir():
                raise
    _forget_old_builds()
    return target


def image_of(folder: Path) -> bytes:
    """The ROM image with the compiled modules below `folder`."""
    writer = VfsRomWriter()

    def add(part: Path) -> None:
        for path in sorted(part.iterdir()):
            if path.is_dir():
                writer.opendir(path.name)
                add(path)
                writer.closedir()
            elif path.suffix == ".mpy":
                writer.mkfile(path.name, path.read_bytes())

    add(folder)
    return bytes(writer.finalise())


def _forget_old_builds() -> None:
    builds = [path for path in CACHE.iterdir() if not path.name.startswith("new-")]
    for old in sorted(builds, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)

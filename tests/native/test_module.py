"""The native module's edge towards Python: what it takes, what it refuses, and what a score costs."""

import shutil
import subprocess
from pathlib import Path

import pytest

from model_export.compile import native_module

# A model small enough to check by hand.
SUM = """\
#include <stdint.h>
#define MODEL_FEATURES 2
static float model_score(const int32_t *x) { return (float)x[0] + 10.0f * (float)x[1]; }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, native_toolchain) -> Path:
    folder = tmp_path_factory.mktemp("native")
    (folder / "model.mpy").write_bytes(native_module(SUM, "x64"))
    return folder


def run(micropython: str, folder: Path, script: str) -> str:
    done = subprocess.run(
        [micropython, "-c", "from array import array\nimport model\n" + script],
        env={"MICROPYPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout.strip()


def test_a_score_is_a_float_of_the_features(micropython, folder):
    assert run(micropython, folder, "print(model.n_features(), model.score(array('i', [3, -2])))") == "2 -17.0"


def test_a_memoryview_of_a_larger_array_is_taken(micropython, folder):
    script = "m = memoryview(array('i', [9, 1, 2, 9]))\nprint(model.score(m[1:3]))"
    assert run(micropython, folder, script) == "21.0"


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("array('i', [1])", "ValueError"),
        ("array('i', [1, 2, 3])", "ValueError"),
        ("array('h', [1, 2, 3, 4])", "ValueError"),
        ("array('f', [1, 2])", "ValueError"),
        ("bytes(8)", "ValueError"),
        ("[1, 2]", "TypeError"),
        ("None", "TypeError"),
    ],
)
def test_anything_but_an_array_of_the_right_length_is_refused(micropython, folder, argument, error):
    script = f"try:\n    model.score({argument})\nexcept Exception as e:\n    print(type(e).__name__)"
    assert run(micropython, folder, script) == error


def test_scoring_takes_no_heap_but_the_float_it_returns(micropython, folder):
    script = """
import gc
row = array('i', [1, 2])
score = model.score
for _ in range(3):
    gc.collect()
    before = gc.mem_alloc()
    score(row)
    used = gc.mem_alloc() - before
print(used)
"""
    assert int(run(micropython, folder, script)) <= 32


@pytest.mark.skipif(not shutil.which("riscv64-unknown-elf-gcc"), reason="needs gcc-riscv64-unknown-elf and picolibc")
def test_modules_with_routines_of_libgcc_are_the_same_bytes_in_every_process(monkeypatch, native_toolchain):
    made = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        made.add(native_module(SUM, "rv32imc"))
    assert len(made) == 1

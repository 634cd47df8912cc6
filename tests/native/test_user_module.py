"""The same C as a user C module: built into MicroPython's unix port, it gives the scores of the native modules."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from model_export import compile as compiler
from model_export import convert, parity
from model_export.train import Plan, train
from tests.model_export.conftest import make_series
from tests.support import shuttle
from tools import firmware, unix_port

NATIVE = firmware.FIRMWARE / "native"
SCORER = """
import sys
from array import array
import ew_model, ew_table
blob = open('blob', 'rb').read()
assert ew_table.check(blob) == 0 and ew_table.check(blob[:-1]) < 0
n = ew_model.n_features()
row, score = array('i', [0] * n), array('f', [0.0, 0.0])
with open('points', 'rb') as points, open('scores', 'wb') as scores:
    while points.readinto(row) == 4 * n:
        score[0], score[1] = ew_model.score(row), ew_table.score(blob, row)
        scores.write(score)
for wrong in ((blob, array('i', [0])), (blob, array('f', row)), (blob[:40], row)):
    try:
        ew_table.score(*wrong)
        sys.exit(1)
    except ValueError:
        pass
"""


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_firmware_with_the_modules_built_in_scores_as_native_modules_do(tmp_path: Path, native_toolchain: Path):
    model = shuttle.model("isolation-forest")
    source, blob = convert.c_source(model), convert.table(model)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.h").write_text(source)
    settings = [f"EDGEWISE_MODEL={tmp_path / 'model'}", f"EMLEARN_DIR={compiler.emlearn_dir()}"]
    program = unix_port.build(modules=firmware.FIRMWARE, inputs=[NATIVE, tmp_path / "model"], settings=settings)
    points = parity.points_for(model, 100_000)
    points.astype("<i4").tofile(tmp_path / "points")
    (tmp_path / "blob").write_bytes(blob)
    subprocess.run([program, "-c", SCORER], cwd=tmp_path, check=True, timeout=300)
    built_in, table = np.fromfile(tmp_path / "scores", dtype=np.float32).reshape(-1, 2).T
    native = parity.native_scores(compiler.native_module(source, "x64"), points)
    assert np.array_equal(built_in.view(np.int32), native.view(np.int32))
    for scores in (built_in, table):
        assert parity.compare(model, points, scores).decisions_differing == 0
    print(f"{len(points)} points: ew_model gives the bits of the native module; ew_table the decisions of scikit-learn")


def test_make_and_cmake_build_the_same_files_with_the_same_flags():
    make, cmake = (NATIVE / "micropython.mk").read_text(), (NATIVE / "micropython.cmake").read_text()
    for pattern in (r"\w+\.c\b", r"-f[\w=-]+", r"-Wno-[\w-]+"):
        assert sorted(re.findall(pattern, re.sub("#.*", "", make))) == sorted(
            re.findall(pattern, re.sub("#.*", "", cmake))
        )


# A port cut down to what the headers of MicroPython ask for.
CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.16)
project(port C)
set(USER_C_MODULES {cmake})
include({micropython}/py/usermod.cmake)
file(WRITE ${{CMAKE_BINARY_DIR}}/empty.c "")
add_library(port OBJECT ${{CMAKE_BINARY_DIR}}/empty.c)
target_include_directories(port PRIVATE {headers} {micropython})
target_compile_options(port PRIVATE -std=gnu99 -Wall -Werror)
target_link_libraries(port usermod)
"""
PORT_CONFIG = """
#include <alloca.h>
#include <stdint.h>
typedef intptr_t mp_int_t;
typedef uintptr_t mp_uint_t;
typedef long mp_off_t;
#define MICROPY_FLOAT_IMPL (MICROPY_FLOAT_IMPL_FLOAT)
#define MP_STATE_PORT MP_STATE_VM
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake 3.16 or later")
def test_cmake_compiles_the_modules_into_a_port(tmp_path: Path, native_toolchain: Path):
    headers, model = tmp_path / "headers", tmp_path / "model"
    (headers / "genhdr").mkdir(parents=True)
    model.mkdir()
    plan = Plan("m", "v1;w=1;c=a::100,b::100;f=last", "isolation-forest", {"n_estimators": 3})
    (model / "model.h").write_text(convert.c_source(train(make_series(), plan)))
    (headers / "mpconfigport.h").write_text(PORT_CONFIG)
    sources = "".join((NATIVE / name).read_text() for name in ("table_module.c", "module.c"))
    names = sorted(set(re.findall(r"MP_QSTR_(\w+)", sources)))
    lines = [f'QDEF1(MP_QSTR_{name}, 0, {len(name)}, "{name}")\n' for name in names]
    (headers / "genhdr" / "qstrdefs.generated.h").write_text('QDEF0(MP_QSTRnull, 0, 0, "")\n' + "".join(lines))
    (headers / "genhdr" / "root_pointers.h").touch()
    project = CMAKE_PROJECT.format(
        cmake=NATIVE / "micropython.cmake", headers=headers, micropython=compiler.micropython_dir()
    )
    (tmp_path / "CMakeLists.txt").write_text(project)
    with_model = [f"-DEDGEWISE_MODEL={model}", f"-DEMLEARN_DIR={compiler.emlearn_dir()}"]
    both = {"ew_table_module", "ew_model_module"}
    for settings, modules in (([], {"ew_table_module"}), (with_model, both)):
        build = tmp_path / f"build{len(settings)}"
        command = ["cmake", "-S", str(tmp_path), "-B", str(build), *settings]
        for step in (command, ["cmake", "--build", str(build)]):
            done = subprocess.run(step, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        objects = [str(path) for path in build.rglob("*module.c.o")]
        told = subprocess.run(["nm", *objects], capture_output=True, text=True, timeout=60, check=True).stdout
        assert set(re.findall(r" [DR] (ew_\w+_module)", told)) == modules

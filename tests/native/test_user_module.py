"""The same C as a user C module: built into MicroPython's unix port, it gives the scores of the native modules."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from model_export import compile as compiler
from model_export import convert, data, parity
from model_export.train import Plan, train
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
    preset = data.PRESETS["shuttle"]
    plan = Plan("shuttle", preset.schema, "isolation-forest", train_part=0.1, held_out_part=0.1)
    model = train(data.load("shuttle"), plan)
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

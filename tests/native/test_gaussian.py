"""Gaussians in integers: machine code and built-in C decide as the integers of the contract do."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.table_gaussian import Gaussian
from model_export import compile as compiler
from model_export import convert, parity, qemu, table
from model_export.data import Series
from model_export.detectors import numbers
from model_export.errors import ModelError
from model_export.train import Plan, train
from tests.model_export.test_table_gaussian import with_ends
from tests.support import shuttle
from tools.firmware import FIRMWARE, program

Points = np.ndarray[Any, Any]
SOURCE = Path(__file__).with_name("gaussian_fuzz.c")
BUILT_IN = """
from array import array
from contract import table_gaussian
assert table_gaussian._in_c
blob = open('blob', 'rb').read()
models = [table_gaussian.Gaussian(memoryview(bytes(at) + blob)[at:]) for at in range(2)]
for model in models:
    model.check()
n = models[0].n_features
row, score = array('i', [0] * n), array('f', [0.0, 0.0])
with open('points', 'rb') as points, open('scores', 'wb') as scores:
    while points.readinto(row) == 4 * n:
        score[0], score[1] = [model.score(row) for model in models]
        scores.write(score)
for wrong in ((blob, array('i', [0])), (blob, array('f', row)), (blob[:-1], row), (bytes(40), row), (b'', row)):
    try:
        table_gaussian._in_c(*wrong)
        raise AssertionError
    except ValueError:
        pass
"""

ON_CHIP = """
from contract import table_gaussian
assert table_gaussian._in_c
model = table_gaussian.Gaussian(uctypes.bytearray_at(*files['blob']))
n = model.n_features
row, scores = array('i', [0] * n), array('f')
raw = uctypes.bytearray_at(uctypes.addressof(row), 4 * n)
for i in range({count}):
    raw[:] = data(4 * n * i, 4 * n)
    scores.append(model.score(row))
print(binascii.hexlify(scores).decode())
"""


def extreme(seed: int) -> bytes:
    """A Gaussian of up to 128 features with numbers up to the ends of their ranges."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 2, 9, 40, 128]))
    factor = np.tril(rng.integers(-numbers.LIMIT, numbers.LIMIT, (n, n), endpoint=True)).astype(np.float64)
    factor /= 2.0 ** rng.integers(0, 15)
    mean = rng.integers(-(2**30), 2**30, n, endpoint=True) >> rng.integers(0, 31, n)
    fractions = rng.integers(0, 15, n, endpoint=True).astype(np.float64)
    shifts = rng.integers(0, 18, n, endpoint=True).tolist()
    exponent = int(rng.integers(0, 126, endpoint=True))
    threshold = float(np.float32(2.0 ** float(rng.uniform(0, 61.9) - exponent)))
    return table.gaussian(np.trunc(factor), mean.astype(np.float64), fractions, shifts, exponent, threshold)


def points_of(seed: int, blob: bytes) -> Points:
    """int32 (60, n): within int16, beyond it, and about the mean, where distances are small."""
    rng = np.random.default_rng(seed)
    n = Gaussian(blob).n_features
    bits = rng.integers(1, 31, (60, n)) * (np.arange(60) % 3 > 0)[:, None]
    means = np.frombuffer(blob, "<i4", n, 32)
    loss, fraction = np.frombuffer(blob, np.uint8, 2 * n, 32 + 4 * n).reshape(2, n).astype(np.int64)
    nearest = np.clip(means >> fraction, -32767, 32766) << loss
    return (nearest * (bits == 0) + (rng.integers(-(2**31), 2**31, (60, n)) >> bits) * (bits > 0)).astype(np.int32)


@cache
def built_in() -> bytes:
    return compiler.table_module("x64")


def in_c(folder: Path, blob: bytes, points: Points) -> Points:
    """Scores by the built-in C, (n,), the same at an even and at an odd address."""
    (folder / "blob").write_bytes(blob)
    points.astype("<i4").tofile(folder / "points")
    (folder / "ew_table.mpy").write_bytes(built_in())
    (folder / "contract").symlink_to(FIRMWARE / "contract")
    subprocess.run(
        [program("micropython"), "-c", BUILT_IN], cwd=folder, env={"MICROPYPATH": str(folder)}, check=True, timeout=60
    )
    even, odd = np.fromfile(folder / "scores", dtype=np.float32).reshape(-1, 2).T
    assert np.array_equal(even, odd)
    return even


def agree(blob: bytes, points: Points, scores: Points) -> None:
    read = Gaussian(blob)
    above = np.array([read.distance(row) > read.limit for row in points.tolist()])
    assert np.array_equal(scores > np.float32(read.threshold), above)
    exact = np.array([read.score(row) for row in points.tolist()])
    assert np.all(np.abs(scores - exact) <= np.abs(exact) * 2.0**-23)


@pytest.mark.parametrize("name", ["gaussian", "elliptic-envelope"])
def test_machine_code_and_built_in_c_give_the_same_bits(name: str, tmp_path: Path, native_toolchain: Path):
    model = shuttle.model(name, "int16")
    points = np.concatenate((parity.points_for(model)[-4300:], with_ends(model.train)))
    native = parity.native_scores(compiler.native_module(convert.c_source(model), "x64"), points)
    blob = convert.table(model)
    agree(blob, points, native)
    assert parity.compare(model, points, native).decisions_differing == 0
    assert np.array_equal(in_c(tmp_path, blob, points).view(np.int32), native.view(np.int32))


@pytest.mark.skipif(
    not qemu.available() or not shutil.which("riscv64-unknown-elf-gcc"),
    reason="needs qemu-system-misc, gcc-riscv64-unknown-elf and picolibc-riscv64-unknown-elf",
)
def test_a_chip_of_32_bits_without_a_float_unit_gives_the_same_bits(tmp_path: Path, native_toolchain: Path):
    blob = convert.table(shuttle.model("gaussian", "int16"))
    points = np.concatenate((points_of(1, blob), shuttle.model("gaussian", "int16").train[:200]))
    files = compiler.table_modules("rv32imc") | {"ew_table.mpy": compiler.table_module("rv32imc"), "blob": blob}
    found = qemu.run(files, points.astype("<i4").tobytes(), ON_CHIP.format(count=len(points)))
    assert found == in_c(tmp_path, blob, points).tobytes()


@pytest.mark.parametrize("seed", range(8))
def test_numbers_at_the_ends_of_their_ranges_overflow_nothing(seed: int, tmp_path: Path, native_toolchain: Path):
    blob = extreme(seed)
    points = points_of(seed, blob)
    agree(blob, points, in_c(tmp_path, blob, points))


def test_a_threshold_too_high_for_integers_is_decided_in_float(native_toolchain: Path):
    values = np.random.default_rng(3).normal(size=(900, 2)) * np.repeat((3, 3000), (360, 540))[:, None]
    series = Series("wide", "0" * 64, ("a", "b"), values, None)
    model = train(series, Plan("wide", "v1;w=1;c=a::1,b::1;f=last", "gaussian", dtype="int16"))
    with pytest.raises(ModelError, match="units of the threshold"):
        convert.table(model)
    source = convert.c_source(model)
    assert "ellipsoid.inc" in source
    points = parity.points_for(model)
    scores = parity.native_scores(compiler.native_module(source, "x64"), points)
    assert parity.compare(model, points, scores).decisions_differing == 0


def test_a_tie_is_not_anomalous(tmp_path: Path, native_toolchain: Path):
    blob = table.gaussian(np.eye(2), np.zeros(2), np.zeros(2), [0, 0], exponent=0, threshold=25.0)
    scores = in_c(tmp_path, blob, np.array([[3, 4], [5, 1], [4, 3], [-3, -4], [0, 0]]))
    assert scores.tolist() == [25.0, 26.0, 25.0, 25.0, 0.0]


def test_damaged_blobs_are_scored_within_their_bytes(tmp_path: Path, native_toolchain: Path):
    """Nothing of a blob is trusted but its size: check() is another's work."""
    (tmp_path / "blob").write_bytes(extreme(2))
    command = [program("gcc"), "-O1", "-g", "-std=gnu99", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command += ["-Wall", "-Wno-unused-function", f"-I{FIRMWARE / 'native'}", str(SOURCE), "-o", str(tmp_path / "fuzz")]
    subprocess.run(command, check=True, timeout=60)
    arguments = [tmp_path / "fuzz", tmp_path / "blob", "20000", "7"]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    scored, refused = map(int, ran.stdout.split())
    assert scored > 5000
    assert refused > 5000

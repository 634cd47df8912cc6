"""rv32imc modules, as an ESP32-C3 runs them, give the bits of x64 and the decisions of scikit-learn."""

import shutil

import numpy as np
import pytest

from model_export import compile as compiler
from model_export import convert, data, detectors, package, parity, qemu
from model_export.errors import ModelError
from model_export.package import Release
from model_export.train import Plan, train

pytestmark = pytest.mark.skipif(
    not qemu.available() or not shutil.which("riscv64-unknown-elf-gcc"),
    reason="needs qemu-system-misc, gcc-riscv64-unknown-elf and picolibc-riscv64-unknown-elf",
)

# Loading fails on the board with an exception of MicroPython's own.
NOT_A_MODULE = b"C\x06\x00\x1f"


def compare(name: str, count: int) -> tuple[parity.Parity, bool]:
    """(parity of the rv32imc module, whether its scores are x64's to the last bit)."""
    preset = data.PRESETS["shuttle"]
    model = train(data.load("shuttle"), Plan("shuttle", preset.schema, name, train_part=0.1, held_out_part=0.1))
    source = convert.c_source(model)
    points = parity.points_for(model, count)
    here = parity.native_scores(compiler.native_module(source, "x64"), points)
    there = qemu.scores(compiler.native_module(source, "rv32imc"), points)
    return parity.compare(model, points, there), np.array_equal(here.view(np.int32), there.view(np.int32))


@pytest.mark.parametrize("name", list(detectors.DETECTORS))
def test_a_detector_scores_as_on_x64(name, native_toolchain):
    outcome, same = compare(name, 1000)
    assert outcome.points > 10_000
    assert outcome.decisions_differing == 0
    assert same


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", list(detectors.DETECTORS))
def test_a_detector_scores_as_on_x64_over_100_000_points(name, native_toolchain):
    # Where few lines meet an anomaly, as with a tree, fewer points are found than asked for.
    outcome, same = compare(name, 125_000)
    assert outcome.points > 100_000
    assert outcome.decisions_differing == 0
    assert same


def test_an_export_for_rv32imc_is_proved_in_qemu(water_flow, key, native_toolchain):
    done = package.export_native(water_flow, "rv32imc", Release("1.0.0", 1, 1), key)
    assert b'"proved_on": [\n      "x64",\n      "rv32imc"\n    ]' in done.card


def test_what_fails_in_the_guest_is_told(native_toolchain):
    with pytest.raises(ModelError, match="ValueError") as caught:
        qemu.scores(NOT_A_MODULE, np.zeros((1, 1), dtype=np.int32))
    assert caught.value.code == "parity"


def test_scores_that_differ_stop_an_export():
    with pytest.raises(ModelError, match="1 of 2 scores on rv32imc"):
        parity.require_same(np.array([1, 2], np.float32), np.array([1, 2.5], np.float32), "rv32imc")

"""An export for rv32imc is run in QEMU first, and what goes wrong there is told. Its scores: test_detectors.py."""

import shutil

import numpy as np
import pytest

from model_export import package, parity, qemu
from model_export.errors import ModelError
from model_export.package import Release

pytestmark = pytest.mark.skipif(
    not qemu.available() or not shutil.which("riscv64-unknown-elf-gcc"),
    reason="needs qemu-system-misc, gcc-riscv64-unknown-elf and picolibc-riscv64-unknown-elf",
)

# Loading fails on the board with an exception of MicroPython's own.
NOT_A_MODULE = b"C\x06\x00\x1f"


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

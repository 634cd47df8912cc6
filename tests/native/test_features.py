"""The features in C give the bits of contract/features.py: over every token, window length and kind of window, on this
machine and on rv32imc."""

import shutil
import subprocess
from array import array
from pathlib import Path

import numpy as np
import pytest

from contract.features import COUNT_LIMIT, TOKENS, Features, cosine_table
from model_export import qemu
from model_export.compile import features_module

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
SAMPLES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 64, 100, 127, 128, 255, 256)
FEW_SAMPLES = (1, 2, 3, 8, 17, 64, 255, 256)  # the ends, and both kinds between them
SHORT = ("mean", "var", "sd", "min", "max", "last", "pp", "crest", "kurt")  # those a window of one sample has
LARGEST_MODULE_BYTES = 2600

# For each case: its plan, its windows, and the features of each.
ON_BOARD = """
import ew_features
at = 0
for samples, channels, plan, count in {cases}:
    plan = array('B', plan)
    step = channels * samples
    cosines = array('h', bytes(8 * samples))
    ew_features.fill_cosines(cosines)
    out = array('i', bytes(4 * channels * plan[1]))
    for i in range(count):
        window = array('i', data(at, 4 * step))
        at += 4 * step
        ew_features.compute(plan, cosines, window, out)
        print(binascii.hexlify(bytes(out)).decode())
    print(binascii.hexlify(bytes(cosines)).decode())
"""
HERE = """
import binascii
from array import array
with open('data', 'rb') as file:
    everything = file.read()
def data(at, count):
    return everything[at:at + count]
"""


def schema_of(samples: int, channels: int) -> str:
    tokens = list(TOKENS if samples >= 3 else SHORT)
    half = samples // 2
    if half:
        tokens += ["be1", f"be1-{min(half, 12)}", f"be{half}", f"be{max(1, half - 4)}-{half}"]
    names = ",".join(f"c{i}::1" for i in range(channels))
    return f"v1;w={samples};c={names};f={','.join(dict.fromkeys(tokens))}"


def windows_of(rng: np.random.Generator, samples: int, channels: int, count: int) -> np.ndarray:
    """int32 (some more than count, samples, channels): the extremes of the number range, tones, steps, and noise."""
    top, i = 2**31 - 1, np.arange(samples)
    shapes = [
        np.where(i % 2, top, -top),
        np.where(i % 2, COUNT_LIMIT, -COUNT_LIMIT),
        np.where(i < samples - 1, top, -top - 1),
        np.where(i < samples // 2, -COUNT_LIMIT - 1, COUNT_LIMIT + 1),
        np.zeros(samples),
        np.full(samples, -top - 1),
        (i == samples - 1).astype(float),
        (i == samples - 1) * float(top),
        *(np.rint(COUNT_LIMIT * np.cos(2 * np.pi * line * i / samples)) for line in (1, samples // 4, samples // 2)),
    ]
    fixed = np.repeat(np.array(shapes, dtype=np.int64)[:, :, None], channels, axis=2)
    bounds = rng.choice([1, 2, 3, 40, 3000, 2**15, 2**16, 2**31 - 1], size=(count, 1, channels))
    noise = rng.integers(-bounds, bounds, size=(count, samples, channels), endpoint=True)
    flat = np.where(noise[: count // 4] >= 0, COUNT_LIMIT, -COUNT_LIMIT)
    return np.concatenate((fixed, noise, flat)).astype(np.int32)


class Cases:
    """Windows of many schemas, what contract/features.py makes of them, and what a board is handed."""

    def __init__(self, count: int, channels: int, samples: tuple[int, ...] = SAMPLES, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.data = b""
        self.expected = b""
        self.windows = 0
        cases = []
        for length in samples:
            features = Features(schema_of(length, channels))
            plan = [channels, len(features.codes), *features.codes, *(line for band in features.bands for line in band)]
            windows = windows_of(rng, length, channels, count)
            cases.append((length, channels, plan, len(windows)))
            out = array("i", [0] * features.n_features)
            for window in windows:
                features.compute_into(array("i", window.tobytes()), out)
                self.expected += out.tobytes()
            self.expected += cosine_table(length).tobytes()
            self.data += windows.tobytes()
            self.windows += len(windows)
        self.script = ON_BOARD.format(cases=cases)


def on_this_machine(micropython: str, folder: Path, script: str) -> bytes:
    done = subprocess.run(
        [micropython, "-X", "heapsize=64m", "-c", HERE + script],
        cwd=folder,
        env={"MICROPYPATH": f"{folder}:{FIRMWARE}:.frozen"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return bytes.fromhex("".join(done.stdout.split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, native_toolchain) -> Path:
    folder = tmp_path_factory.mktemp("features")
    (folder / "ew_features.mpy").write_bytes(features_module("x64"))
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_every_bit_is_that_of_the_python_features(channels, micropython, folder):
    cases = Cases(12, channels)
    (folder / "data").write_bytes(cases.data)
    assert on_this_machine(micropython, folder, cases.script) == cases.expected
    print(f"{cases.windows} windows of {len(SAMPLES)} lengths, {len(cases.expected) // 4} values, the same bits on x64")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("channels", [1, 4])
def test_every_bit_is_that_of_the_python_features_over_many_windows(channels, micropython, folder):
    cases = Cases(2000, channels, tuple(range(1, 65)), seed=1)
    (folder / "data").write_bytes(cases.data)
    assert on_this_machine(micropython, folder, cases.script) == cases.expected
    print(f"{cases.windows} windows of 64 lengths, the same bits on x64")


@pytest.mark.skipif(
    not qemu.available() or not shutil.which("riscv64-unknown-elf-gcc"),
    reason="needs qemu-system-misc, gcc-riscv64-unknown-elf and picolibc-riscv64-unknown-elf",
)
def test_every_bit_on_rv32imc_is_that_of_the_python_features(native_toolchain):
    cases = Cases(12, 2, FEW_SAMPLES)
    module = features_module("rv32imc")
    assert qemu.run({"ew_features.mpy": module}, cases.data, cases.script) == cases.expected
    print(f"{cases.windows} windows, {len(cases.expected) // 4} values, the same bits on rv32imc; {len(module)} bytes")
    assert len(module) < LARGEST_MODULE_BYTES


def test_features_compute_by_the_module_they_are_handed(micropython, folder):
    script = """
import ew_features
from contract.features import Features
schema = 'v1;w=16;c=a::1,b::1;f=mean,var,kurt,be1-8'
window = array('i', [(i * 7919) % 65535 - 32767 for i in range(32)])
for native in (None, ew_features):
    features = Features(schema, native)
    out = array('i', [0] * features.n_features)
    features.compute_into(window, out)
    print(binascii.hexlify(bytes(out)).decode())
"""
    (folder / "data").write_bytes(b"")
    both = on_this_machine(micropython, folder, script)
    assert both[: len(both) // 2] == both[len(both) // 2 :]


@pytest.mark.parametrize(
    "arguments",
    [
        "plan, cosines, window[:7], out",  # no whole number of rows
        "plan, cosines, window, out[:1]",
        "plan, cosines[:8], window, out",  # a table of another window
        "plan, cosines, array('i', bytes(4 * 514)), out",  # longer than any window
        "plan, cosines, array('i'), out",
        "array('B', [0, 2, 0, 14, 1, 1]), cosines, window, out",
        "array('B', [1, 9, 0, 14, 1, 1]), cosines, window, out",
        "array('B', [1, 2, 0, 15, 1, 1]), cosines, window, out",  # a band that is not declared
        "array('B', [1, 2, 0, 14, 1, 9]), cosines, window, out",  # a bin above half the window
        "array('B', [1, 2, 0, 14, 0, 1]), cosines, window, out",
        "array('B'), cosines, window, out",
        "array('h', plan), cosines, window, out",
        "plan, cosines, array('h', window), out",
    ],
)
def test_what_would_be_read_or_written_past_its_end_is_refused(arguments, micropython, folder):
    script = f"""
import ew_features
plan = array('B', [1, 2, 0, 14, 1, 1])
cosines = array('h', bytes(64))
window = array('i', range(8))
out = array('i', [0, 0])
ew_features.compute(plan, cosines, window, out)
try:
    ew_features.compute({arguments})
except ValueError:
    print('00')
"""
    (folder / "data").write_bytes(b"")
    assert on_this_machine(micropython, folder, script) == b"\0"


def test_computing_takes_no_heap(micropython, folder):
    script = """
import ew_features, gc
from contract.features import Features
features = Features('v1;w=16;c=a::1,b::1;f=mean,var,kurt,be1-8', ew_features)
window = array('i', range(32))
out = array('i', [0] * features.n_features)
features.compute_into(window, out)
gc.collect()
before = gc.mem_alloc()
features.compute_into(window, out)
print('%02x' % (gc.mem_alloc() - before))
"""
    (folder / "data").write_bytes(b"")
    assert on_this_machine(micropython, folder, script) == b"\0"

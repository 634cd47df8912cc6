"""Changed bytes, truncations and lengths that lie: no parser takes one of them, and none leaves its buffer."""

import random
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from contract import artifact
from contract import table as wire_format
from contract.table_gaussian import Gaussian
from model_export import sign, table
from model_export.detectors import numbers
from model_export.detectors.trees import Ensemble, IntegerTree
from tests.support import artifacts
from tools.firmware import FIRMWARE, program

SOURCE = Path(__file__).with_name("table_fuzz.c")
A_SLICE = 30_000
ALL = 1_000_000


def blob() -> bytes:
    """A forest of 12 trees of three levels, some of whose bounds take 32 bits."""
    rng = np.random.default_rng(1)
    left = np.array([1, 2, 3, -1, -1, -1, -1])
    right = np.array([6, 5, 4, -1, -1, -1, -1])
    trees = [
        IntegerTree(left, right, rng.integers(0, 5, 7), rng.integers(-(2**20), 2**20, 7), rng.integers(0, 9, 7))
        for _ in range(12)
    ]
    return table.forest(Ensemble(trees, np.sort(rng.random(9)), 5, 6.0, 0, 1 / 16), 0.375)


def gaussian() -> bytes:
    """A Gaussian of five features."""
    rng = np.random.default_rng(1)
    factor = np.tril(rng.integers(-numbers.LIMIT, numbers.LIMIT, (5, 5))).astype(np.float64)
    mean, bits = rng.integers(-(2**20), 2**20, 5).astype(np.float64), np.array([10.0, 3, 15, 0, 12])
    return table.gaussian(factor, mean, bits, shifts=[0, 18, 3, 0, 1], exponent=48, threshold=0.375)


def fuzz_in_c(folder: Path, count: int) -> int:
    """How many of `count` damaged blobs the C parser took; raises CalledProcessError when a sanitizer stopped it."""
    (folder / "blob").write_bytes(blob())
    command = [program("gcc"), "-O1", "-g", "-std=gnu99", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command += ["-Wall", "-Wno-unused-function", f"-I{FIRMWARE / 'native'}", str(SOURCE), "-o", str(folder / "fuzz")]
    subprocess.run(command, check=True, timeout=60)
    ran = subprocess.run(
        [folder / "fuzz", folder / "blob", str(count), "7"], capture_output=True, text=True, check=True, timeout=600
    )
    return int(ran.stdout)


def damaged(rng: random.Random, sound: bytes, lengths: list[tuple[int, str]], reseal: bool) -> bytes:
    """One byte changed, or cut short, or one length replaced by another."""
    kind = rng.randrange(3)
    if kind == 1:
        return sound[: rng.randrange(len(sound))]
    data = bytearray(sound)
    if kind == 0:
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        return bytes(data)
    at, form = rng.choice(lengths)
    truth = struct.unpack_from(form, data, at)[0]
    limit = 1 << 8 * struct.calcsize(form)
    lie = (truth + rng.randrange(1, 9) if rng.random() < 0.5 else rng.randrange(limit)) % limit
    struct.pack_into(form, data, at, lie if lie != truth else truth ^ 1)
    if reseal:
        struct.pack_into("<I", data, 12, wire_format.crc_of(data))
    return bytes(data)


def fuzz_in_python(count: int) -> int:
    """How many of `count` damaged blobs and artifacts were taken: forests, artifacts and Gaussians in turn."""
    rng = random.Random(7)
    forest, normal = blob(), gaussian()
    at = wire_format.Forest(forest).trees_at
    fields = [(6, "<H"), (8, "<I"), (16, "<H"), (18, "<H"), (44, "<I"), (at, "<H"), (len(forest) - 2, "<H")]
    key = artifacts.new_key()
    sealed = artifacts.make(key, payload=forest)
    of_gaussian = [(4, "<B"), (6, "<H"), (8, "<I"), (20, "<B"), (22, "<H"), (24, "<Q")]
    taken = 0
    for i in range(count):
        try:
            if i % 3 == 2:
                Gaussian(damaged(rng, normal, of_gaussian, reseal=True)).check()
            elif i % 3:
                wire_format.Forest(damaged(rng, forest, fields, reseal=True)).check()
            else:
                data = damaged(rng, sealed, [(8, "<I"), (12, "<I"), (16, "<I")], reseal=False)
                head, *_ = artifact.split(data)
                if head.key_id != key.key_id or not sign.verify(key.public, head.digest, head.signature):
                    continue
            taken += 1
        except (wire_format.TableError, artifact.ArtifactError):
            pass
    return taken


def test_the_c_parser_takes_none_under_the_address_sanitizer(tmp_path: Path, native_toolchain: Path):
    assert fuzz_in_c(tmp_path, A_SLICE) == 0


def test_the_python_parsers_take_none():
    assert fuzz_in_python(A_SLICE // 3) == 0


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_no_parser_takes_one_of_a_million(tmp_path: Path, native_toolchain: Path):
    taken = fuzz_in_c(tmp_path, ALL), fuzz_in_python(ALL)
    print(f"{ALL} damaged blobs in C: {taken[0]} taken; {ALL} damaged blobs and artifacts in Python: {taken[1]} taken")
    assert taken == (0, 0)

"""Patches make the very bytes of the target under MicroPython, in 2 kB, and what is damaged makes no harm."""

import dataclasses
import json
import random
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from cloud.models import patching
from contract import artifact, patch, patch_forest
from contract.table import EXP2
from model_export import table
from model_export.detectors import scaling
from model_export.detectors.forest import Isolation
from model_export.detectors.trees import Ensemble
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.device.update.conftest import RunProgram, raw_deflate
from tests.support.micropython import environment
from tools.scenario.program import Program

# Of a heap whose words and objects are twice as wide as a board's; the 1.5 kB of contexts, buffers and a tree are not.
RAM_BYTES = 2688
CHIP_RAM_BYTES = 2048
_RNG = np.random.default_rng(4)


def _windows() -> np.ndarray[Any, Any]:
    centre = _RNG.integers(-3000, 9000, 8)
    return np.rint(centre + _RNG.normal(0, 400, (600, 8)) * np.linspace(0.1, 200, 8)).astype(np.float64)


def _ensemble(seed: int, trees: int = 40, samples: int = 128) -> Ensemble:
    core = IsolationForest(n_estimators=trees, max_samples=samples, random_state=seed).fit(_windows())
    return Isolation().ensemble(core, scaling.split(core)[0], 0.6)


def _mixed(old: Ensemble, new: Ensemble, share: float) -> Ensemble:
    """The oldest trees gone, as many new ones at the end."""
    count = round(share * len(old.trees))
    values = np.unique(np.concatenate((old.values, new.values)))

    def of(one: Ensemble, tree: Any) -> Any:
        return dataclasses.replace(tree, value=np.searchsorted(values, one.values[tree.value]))

    trees = [of(old, tree) for tree in old.trees[count:]] + [of(new, tree) for tree in new.trees[:count]]
    return Ensemble(trees, values, old.n_features, old.limit, EXP2, old.scale)


@dataclass(frozen=True)
class Case:
    base: bytes
    target: bytes
    made: patching.Patch


def _artifact(key: PublisherKey, payload: bytes, version: str) -> bytes:
    fields = forge.manifest(version=version, sequence=6, format=artifact.FORMAT_BLOB, arch=artifact.ANY_ARCH, abi=0)
    return forge.pack(fields, forge.golden(20), payload, key)


@pytest.fixture(scope="module")
def cases(publisher: PublisherKey) -> dict[str, Case]:
    old = _ensemble(1)
    base = table.forest(old, 0.6)
    moved = dataclasses.replace(old, limit=old.limit - 1.5)
    payloads = {
        "a tenth of the trees": table.forest(_mixed(old, _ensemble(2), 0.1), 0.6, base),
        "other trees all": table.forest(_ensemble(3), 0.6, base),
        "more trees": table.forest(_mixed(_ensemble(1, 44), _ensemble(2), 0.2), 0.6, base),
        "threshold": table.forest(moved, 0.59375, base),
        "small trees": table.forest(_ensemble(5, 9, 4), 0.6, base),
    }
    before = _artifact(publisher, base, "1.0.0")
    found = {name: (before, _artifact(publisher, payload, "2.0.0")) for name, payload in payloads.items()}
    code = [forge.payload(20, pad=3000), forge.payload(27, pad=3100)]
    found["native"] = (_artifact(publisher, code[0], "1.0.0"), _artifact(publisher, code[1], "2.0.0"))
    made: dict[str, Case] = {}
    for name, (before, after) in found.items():
        one = patching.make(before, after)
        assert one is not None, name
        made[name] = Case(before, after, one)
    for name in ("threshold", "native"):
        after = found[name][1]
        made[f"{name}, deflated"] = Case(b"", after, patching.Patch(raw_deflate(after), patching.DEFLATE))
    return made


def _run(
    run_program: RunProgram, folder: Path, cases: dict[str, tuple[bytes, bytes, bytes]], kind: str = "case"
) -> dict[str, list[Any]]:
    names: list[str] = []
    for number, (base, data, target) in enumerate(cases.values()):
        names.append(f"{kind}-{number}")
        for suffix, content in (("base", base), ("patch", data), ("target", target)):
            (folder / f"{kind}-{number}.{suffix}").write_bytes(content)
    done = {name: result for name, *result in run_program("patches", folder, *names)}
    return dict(zip(cases, [done[name] for name in names], strict=True))


def test_patches_are_applied_in_two_kilobytes_of_a_board(
    run_program: RunProgram, cases: dict[str, Case], tmp_path: Path
):
    done = _run(run_program, tmp_path, {name: (c.base, c.made.data, c.target) for name, c in cases.items()})
    for name, (same, error, live) in done.items():
        case = cases[name]
        print(f"{name}: {len(case.made.data)} bytes by {case.made.method} of {len(case.target)}, {live} bytes of heap")
        assert (same, error) == (True, ""), name
        assert live <= RAM_BYTES, name
    assert cases["a tenth of the trees"].made.method == "forest"
    assert cases["native"].made.method == "sequence"


def test_patches_are_applied_in_two_kilobytes_of_a_chip(
    chip_port: Path, programs: Path, cases: dict[str, Case], tmp_path: Path
):
    environ = environment(Program(str(chip_port), ".frozen", ""), programs)

    def run_program(name: str, *arguments: object, heap: str = "1M") -> list[Any]:
        command = [str(chip_port), "-X", f"heapsize={heap}", "-m", name, *map(str, arguments)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    done = _run(run_program, tmp_path, {name: (c.base, c.made.data, c.target) for name, c in cases.items()})
    for name, (same, error, live) in done.items():
        print(f"{name}: {live} bytes of a heap with 32-bit words")
        assert (same, error) == (True, ""), name
        assert live <= CHIP_RAM_BYTES, name


def test_a_damaged_patch_ends_in_an_error_or_in_other_bytes(
    run_program: RunProgram, cases: dict[str, Case], tmp_path: Path
):
    rng = random.Random(6)
    damaged: dict[str, tuple[bytes, bytes, bytes]] = {}
    for name in ("a tenth of the trees", "native", "threshold", "threshold, deflated"):
        case = cases[name]
        for number in range(8):
            data = bytearray(case.made.data)
            if number % 3:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            else:
                del data[rng.randrange(len(data)) :]
            damaged[f"{name} {number}"] = (case.base, bytes(data), case.target)
    done = _run(run_program, tmp_path, damaged, "damaged")
    harmless = [name for name, (same, _, _) in done.items() if same]
    assert len(harmless) <= 4, "the last bits of a code may be idle, not many more"


def test_what_looks_back_further_than_a_board_keeps_is_not_inflated(run_program: RunProgram, tmp_path: Path):
    once = random.Random(7).randbytes(300)
    cases = {f"{bits}": (b"", raw_deflate(once + once, bits), once + once) for bits in (9, 10)}
    done = _run(run_program, tmp_path, cases)
    assert [done[bits][:2] for bits in ("9", "10")] == [[True, ""], [False, "OSError(22,)"]]
    assert patching.inflate(cases["9"][1]) == once + once
    with pytest.raises(zlib.error):
        patching.inflate(cases["10"][1])


def test_what_a_board_could_not_decode_is_not_offered_as_a_forest(publisher: PublisherKey):
    old = _ensemble(1, 10, 600)
    base = table.forest(old, 0.6)
    target = table.forest(_mixed(old, _ensemble(2, 10, 600), 0.2), 0.6, base)
    assert patching.forest(base, target) is None
    made = patching.make(_artifact(publisher, base, "1.0.0"), _artifact(publisher, target, "2.0.0"))
    assert made is not None
    assert made.method == "sequence"


def test_units_are_rounded_as_numpy_does():
    values = np.concatenate((_RNG.normal(0, 40, 2000), np.arange(-20, 20) / 64, [0.0, -0.0, 5e-324, 1000.0]))
    for fraction in (0, 5, 13, 20):
        expected = np.rint(values * 2.0**fraction).astype(int).tolist()
        assert [patch_forest.units(np.float64(v).tobytes(), fraction) for v in values] == expected


def test_a_patch_of_another_base_is_refused_or_makes_other_bytes(cases: dict[str, Case]):
    case = cases["a tenth of the trees"]
    other = cases["native"].base
    try:
        assert patching.apply(other, case.made.data) != case.target
    except (patch.PatchError, EOFError):
        pass

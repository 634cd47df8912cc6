"""A Gaussian from `edgewise model export --target blob` to the self-test of a board; what is not sound is refused."""

import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from contract import artifact, table, table_gaussian, wire
from model_export import keys
from tests.device.test_table import REFUSED, rom_image, slot
from tests.support.micropython import evaluate
from tools.cli import main


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[artifact.Manifest, bytes, bytes]:
    """(manifest, golden vectors, payload) of a blob that the command line made."""
    home = tmp_path_factory.mktemp("gaussian")
    keys.create(home, "site")
    train = ["model", "train", "--data", "water-flow", "--detector", "gaussian", "--dtype", "int16"]
    done = CliRunner().invoke(main, [*train, "--out", str(home / "flow")])
    assert done.exit_code == 0, done.output
    export = ["model", "export", str(home / "flow"), "--target", "blob", "--version", "1.0.0", "--key", "site"]
    done = CliRunner().invoke(main, [*export, "--keys", str(home), "--out", str(home / "flow.ewa")])
    assert done.exit_code == 0, done.output
    assert "0 decisions differ" in done.output
    _, manifest, golden, payload = artifact.split((home / "flow.ewa").read_bytes())
    return manifest, golden, payload


def facts(manifest: artifact.Manifest, golden: bytes) -> dict[str, object]:
    rows = list(struct.iter_unpack(f"<{manifest.n_features}if", golden))
    return {
        "threshold": manifest.threshold,
        "n_features": manifest.n_features,
        "golden": [(list(row[:-1]), row[-1]) for row in rows],
        "tolerance": manifest.tolerance,
    }


def test_an_exported_gaussian_passes_the_self_test_of_a_board(exported, tmp_path: Path):
    manifest, golden, blob = exported
    assert (manifest.format, manifest.arch, manifest.abi) == ("blob", "any", 0)
    code = """
model = load()
result = [[model.score(row), model.is_anomalous(model.score(row)), score > model.threshold] for row, score in golden]
import sys
loaded = 'device.table' in sys.modules
result.append(loaded)
"""
    *rows, forests_loaded = evaluate(slot(tmp_path, blob, **facts(manifest, golden)) + code)
    assert not forests_loaded
    assert {(ours, theirs) for _, ours, theirs in rows} == {(True, True), (False, False)}


def test_a_mapped_gaussian_is_scored_in_place(exported, tmp_path: Path):
    manifest, golden, blob = exported
    (tmp_path / "rom").write_bytes(rom_image(blob))
    code = f"""
from contract.table_gaussian import Gaussian
with open({str(tmp_path / "rom")!r}, 'rb') as file:
    vfs.mount(vfs.VfsRom(memoryview(file.read())), '/rom')
score = load().score(golden[0][0])
gc.collect()
before = gc.mem_alloc()
with open('/rom/slot_a.bin', 'rb') as file:
    mapped = Gaussian(memoryview(file))
mapped.check()
result = [mapped.score(golden[0][0]) == score]
gc.collect()
result.append(gc.mem_alloc() - before)
"""
    equal, heap_bytes = evaluate(slot(tmp_path, blob, **facts(manifest, golden)) + code)
    print(f"{len(blob)} bytes of blob: {heap_bytes} bytes of heap in place, objects alone")
    assert equal
    assert heap_bytes < 700


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        ("cut", wire.REASON_LOAD_FAILED, "bytes"),
        ("factor", wire.REASON_SELFTEST_FAILED, "CRC"),
        ("limit", wire.REASON_LOAD_FAILED, "limit"),
        ("mean", wire.REASON_SELFTEST_FAILED, "vector"),
        ("kind", wire.REASON_LOAD_FAILED, "kind 3"),
        ("threshold", wire.REASON_LOAD_FAILED, "payload decides at"),
        ("features", wire.REASON_SCHEMA_MISMATCH, "payload of"),
    ],
)
def test_a_gaussian_that_is_not_sound_is_refused_before_it_scores(
    exported, tmp_path: Path, damage: str, code: int, words: str
):
    manifest, golden, sound = exported
    blob = bytearray(sound)
    changes: dict[str, object] = {}
    if damage == "cut":
        del blob[-1]
    elif damage == "factor":
        blob[-2] ^= 1
    elif damage == "limit":
        blob[24] ^= 1
    elif damage == "mean":
        blob[table_gaussian.MEANS_AT + 1] ^= 0x40
    elif damage == "kind":
        blob[4] = 3
    elif damage == "threshold":
        changes["threshold"] = 0.75
    else:
        changes["n_features"] = manifest.n_features + 1
    if damage in ("limit", "mean", "kind"):
        table.seal(blob)
    program = slot(tmp_path, bytes(blob), **(facts(manifest, golden) | changes))
    found, message = evaluate(program + REFUSED)
    assert found == code
    assert words in message

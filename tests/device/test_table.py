"""Table blobs on the board, under MicroPython: loaded from a slot, tested, scored in place without heap, or refused."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from contract import table as wire_format
from contract import wire
from model_export import data, table
from model_export.detectors import DETECTORS, scaling
from model_export.model import Model
from model_export.train import Plan, train
from tests.support.micropython import evaluate

SLOT = """
import gc, vfs
from array import array
from contract import wire
from device import detector
from device.files import Files
from device.slots import Installed, Slots
slots = Slots(Files, {root!r})
model = Installed(bytes(32), 1, 0, {threshold!r}, 0.0, {n_features}, wire.FORMAT_BLOB, b'features', 'pump', '1.0.0')
golden = [(array('i', row), score) for row, score in {golden!r}]
def load():
    loaded = detector.load(slots, 0, model, b'features', False)
    detector.self_test(loaded, iter(golden), {tolerance!r})
    return loaded
"""
REFUSED = """
try:
    load()
    result = 0
except detector.DetectorError as e:
    result = [e.code, str(e)]
"""


@cache
def forest() -> tuple[Model, bytes]:
    preset = data.PRESETS["shuttle"]
    model = train(data.load("shuttle"), Plan("s", preset.schema, "isolation-forest", train_part=0.1, held_out_part=0.1))
    scalers, core = scaling.split(model.estimator)
    return model, table.forest(DETECTORS["isolation-forest"].ensemble(core, scalers, model.threshold), model.threshold)  # type: ignore[attr-defined]


def slot(root: Path, blob: bytes, **changes: object) -> str:
    """The program that has `blob` in slot a, below `root`; `changes` replace what the forest's manifest would say."""
    folder = root / "models" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slot_a.bin").write_bytes(blob)
    return SLOT.format(root=str(root), **(_facts() | changes))


@cache
def _facts() -> dict[str, object]:
    model, _ = forest()
    rows = model.held_out[::200][:8]
    golden = [(row, float(np.float32(score))) for row, score in zip(rows.tolist(), model.scores(rows), strict=True)]
    return {"threshold": model.threshold, "n_features": rows.shape[1], "golden": golden, "tolerance": 1e-6}


def test_a_blob_in_a_slot_is_loaded_tested_and_scored(tmp_path: Path):
    model, blob = forest()
    rows = model.held_out[:50]
    code = f"model = load()\nresult = [model.score(array('i', row)) for row in {rows.tolist()}]"
    scores = np.array(evaluate(slot(tmp_path, blob) + code))
    assert np.abs(scores - model.scores(rows)).max() < 1e-6
    assert np.array_equal(scores > model.threshold, model.scores(rows) > model.threshold)


def test_a_mapped_blob_is_scored_without_heap_and_one_in_a_file_takes_its_size(tmp_path: Path):
    _, blob = forest()
    code = f"""
def cost(read):
    gc.collect()
    before = gc.mem_alloc()
    model = read()
    model.score(golden[0][0])
    gc.collect()
    return gc.mem_alloc() - before
from device.table import Forest
def mapped():
    vfs.mount(vfs.VfsRom(image), '/rom')
    with open('/rom/slot_a.bin', 'rb') as file:
        return Forest(memoryview(file))
load()
with open({str(tmp_path / "rom")!r}, 'rb') as file:
    image = memoryview(file.read())
result = [cost(mapped), cost(load)]
"""
    (tmp_path / "rom").write_bytes(rom_image(blob))
    in_place, from_file = evaluate(slot(tmp_path, blob) + code)
    print(f"{len(blob)} bytes of blob: {in_place} bytes of heap in place, objects alone; {from_file} read from a file")
    assert in_place < 1500
    assert len(blob) <= from_file < len(blob) + 2500


def rom_image(blob: bytes) -> bytes:
    """A ROM image with the blob at a multiple of 4, as a build that is to be mapped would lay it out."""
    from mpremote.romfs import VfsRomWriter  # pyright: ignore[reportMissingTypeStubs]

    for pad in range(4):
        writer = VfsRomWriter()
        writer.mkfile("pad", bytes(pad))
        writer.mkfile("slot_a.bin", blob)
        image = bytes(writer.finalise())
        if image.index(blob) % 4 == 0:
            return image
    raise AssertionError("no padding aligns the blob")


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        ("cut", wire.REASON_LOAD_FAILED, "bytes"),
        ("tree", wire.REASON_SELFTEST_FAILED, "CRC"),
        ("resealed", wire.REASON_SELFTEST_FAILED, "tree 0: digest"),
        ("threshold", wire.REASON_LOAD_FAILED, "payload decides at"),
        ("features", wire.REASON_SCHEMA_MISMATCH, "payload of 9 features"),
        ("missing", wire.REASON_LOAD_FAILED, ""),
    ],
)
def test_a_blob_that_is_not_sound_is_refused_before_it_scores(tmp_path: Path, damage: str, code: int, words: str):
    _, sound = forest()
    blob = bytearray(sound)
    changes: dict[str, object] = {}
    at = wire_format.Forest(sound).trees_at
    if damage == "cut":
        del blob[-1]
    elif damage in ("tree", "resealed"):
        blob[at + 4] ^= 1
        if damage == "resealed":
            wire_format.seal(blob)
    elif damage == "threshold":
        changes["threshold"] = 0.75
    elif damage == "features":
        changes["n_features"] = 8
    program = slot(tmp_path, bytes(blob), **changes)
    if damage == "missing":
        (tmp_path / "models" / "a" / "slot_a.bin").unlink()
    found, message = evaluate(program + REFUSED)
    assert found == code
    assert words in message

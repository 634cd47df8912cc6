"""Bytes of an update: our patches against the whole artifact and generic differences.

Forests of 50 trees, trained on two recordings that come with the evaluation data, as table blobs: with the oldest tenth
of the trees replaced by new ones, with another threshold, and with a sensor of another offset. A native Gaussian model
for this machine, trained on 5 % less of its recording. "payload" is the model alone; "transfer" all that goes over the
link, with the signed head: signature and digests are 160 bytes that nothing shortens. "no base" is what a board
is sent that runs anything else, or nothing: the artifact deflated, or as it is where that spares no piece of it.
"""

import dataclasses
import io
import zlib
from hashlib import sha256
from typing import Any

import bsdiff4
import detools
import numpy as np

from cloud.models import patching
from contract import artifact, wire
from model_export import convert, data, table, train
from model_export.artifact import golden_bytes, pack
from model_export.compile import MPY_ABI, native_module
from model_export.detectors import scaling
from model_export.detectors.trees import Ensemble
from model_export.keys import PublisherKey, ec
from model_export.model import Model
from model_export.package import golden_vectors
from tools.bench import Row

SHARE = 0.1
DETOOLS = ("crle", "heatshrink", "lzma", "zstd")


def run() -> list[Row]:
    """Every update, on every recording."""
    key = PublisherKey("bench", ec.generate_private_key(ec.SECP256R1()))
    rows: list[Row] = []
    for name in ("shuttle", "water-flow"):
        old, new = _trained(name, "isolation-forest", 0), _trained(name, "isolation-forest", 7)
        before = _ensemble(old)
        base = table.forest(before, old.threshold)
        limit = float(np.float32(old.threshold * 1.02))
        offset = [dataclasses.replace(tree, cut=tree.cut + 12 * (tree.feature == 4)) for tree in before.trees]
        updates = {
            f"{SHARE:.0%} of the trees": table.forest(_mixed(before, _ensemble(new)), old.threshold, base),
            "another threshold": table.forest(_ensemble(old, limit), limit, base),
            "another offset": table.forest(dataclasses.replace(before, trees=offset), old.threshold),
        }
        for what, payload in updates.items():
            aim = "at most 0.6 x" if "trees" in what else "below 100 bytes"
            rows += _rows(f"{name}, {what}", aim, key, old, (base, payload))
        rows.append(_alone(f"{name}, table", key, old, base))
        rows.append(_alone(f"{name}, native", key, old, native_module(convert.c_source(old), "x64")))
    old, new = _trained("water-flow", "elliptic-envelope", 0), _trained("water-flow", "elliptic-envelope", 0, 0.95)
    code = [native_module(convert.c_source(model), "x64") for model in (old, new)]
    rows += _rows("water-flow, Gaussian, native", "", key, old, (code[0], code[1]))
    return [*rows, _alone("water-flow, Gaussian, native", key, old, code[1])]


def _rows(what: str, aim: str, key: PublisherKey, model: Model, payloads: tuple[bytes, bytes]) -> list[Row]:
    base, target = payloads
    artifacts = [_artifact(key, model, payload, f"{n}.0.0", n) for n, payload in enumerate(payloads, 1)]
    made = patching.make(*artifacts)
    whole = patching.forest(base, target) or patching.difference(base, target)
    if made is None:
        raise RuntimeError(f"{what}: no patch is shorter than the artifact")
    differences = {"bsdiff4": len(bsdiff4.diff(base, target))}
    for compression in DETOOLS:
        out = io.BytesIO()
        detools.create_patch(  # pyright: ignore[reportUnknownMemberType]
            io.BytesIO(base), io.BytesIO(target), out, compression=compression
        )
        differences[f"detools {compression}"] = len(out.getvalue())
    best = min(differences, key=lambda name: differences[name])
    share = "at most 0.03 x" if "trees" in what else ""
    payload = [Row(f"{what}: payload", len(whole), "bytes", "full", len(target), share)]
    payload.append(Row("", len(whole), "bytes", "full, deflate", len(zlib.compress(target, 9))))
    for name, size in differences.items():
        beside, meant = (f"{name} (best)", aim) if name == best else (name, "")
        payload.append(Row("", len(whole), "bytes", beside, size, meant))
    transfer = Row("  transfer, " + made.method, len(made.data), "bytes", "full", len(artifacts[1]))
    return [*payload, transfer]


def _alone(what: str, key: PublisherKey, model: Model, payload: bytes) -> Row:
    """An artifact on its way to a board that runs nothing a patch starts from."""
    target = _artifact(key, model, payload, "1.0.0", 1)
    made = patching.deflate(target)
    sent, how = (target, "as it is") if made is None else (made.data, made.method)
    return Row(f"{what}, no base: transfer, {how}", len(sent), "bytes", "full", len(target))


def _trained(name: str, detector: str, seed: int, share: float = 1.0) -> Model:
    preset = data.PRESETS[name]
    plan = train.Plan(
        name="bench",
        schema=preset.schema,
        detector=detector,
        seed=seed,
        train_part=preset.train_part * share,
        held_out_part=preset.held_out_part,
    )
    return train.train(data.load(name, (), None), plan)


def _ensemble(model: Model, threshold: float | None = None) -> Ensemble:
    scalers, core = scaling.split(model.estimator)
    detector: Any = model.detector
    return detector.ensemble(core, scalers, model.threshold if threshold is None else threshold)


def _mixed(old: Ensemble, new: Ensemble) -> Ensemble:
    """The oldest trees gone, as many new ones at the end."""
    count = round(SHARE * len(old.trees))
    trees = [(tree, old.values[tree.value]) for tree in old.trees[count:]]
    trees += [(tree, new.values[tree.value]) for tree in new.trees[:count]]
    values = np.unique(np.concatenate([found[tree.left < 0] for tree, found in trees]))
    placed = [
        dataclasses.replace(tree, value=np.minimum(np.searchsorted(values, found), len(values) - 1))
        for tree, found in trees
    ]
    return dataclasses.replace(old, trees=placed, values=values)


def _artifact(key: PublisherKey, model: Model, payload: bytes, version: str, sequence: int) -> bytes:
    native = not payload.startswith(b"EWT1")
    manifest: dict[str, object] = {
        "abi": MPY_ABI if native else 0,
        "arch": "x64" if native else artifact.ANY_ARCH,
        "card_sha256": sha256(version.encode()).digest(),
        "class": artifact.CLASS_MODEL,
        "created": 1_700_000_000 + sequence,
        "detector": model.card["detector"],
        "expires": 0,
        "format": artifact.FORMAT_NATIVE if native else artifact.FORMAT_BLOB,
        "margin": model.margin,
        "min_contract": wire.PROTOCOL_VERSION,
        "n_features": model.features.n_features,
        "name": "bench",
        "schema": model.card["schema"],
        "sequence": sequence,
        "threshold": model.threshold,
        "tolerance": 0.0,
        "version": version,
    }
    return pack(manifest, golden_bytes(golden_vectors(model)), payload, key)

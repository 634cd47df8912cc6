"""From a trained model to a signed artifact, with the proof made on the way."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from contract import artifact as container
from contract import table, wire
from model_export import adversarial, convert, parity, profile, qemu
from model_export.artifact import golden_bytes, pack
from model_export.compile import COMPILERS, MPY_ABI, check_tools, native_module
from model_export.errors import ModelError
from model_export.keys import PublisherKey
from model_export.model import Model

GOLDEN_ROWS = 16
_FLOAT_STEPS = 8  # of slack in the tolerance, in steps of a float32 at the threshold


@dataclass(frozen=True, slots=True)
class Release:
    """What the publisher decides about one export. `created` and `expires` are unix seconds, expires 0 = never;
    `role`: CLASS_MODEL, or CLASS_SHADOW for what boards may score with beside another and never decide by."""

    version: str
    sequence: int
    created: int
    expires: int = 0
    role: str = container.CLASS_MODEL


@dataclass(frozen=True, slots=True)
class StandIn:
    """What makes an artifact a stand-in for the model of its version, on boards that cannot take that one.

    rung: 1 to 9, of what boards try the lowest first; disagreement: share of decisions that differ, float32-exact.
    """

    rung: int
    disagreement: float


@dataclass(frozen=True, slots=True)
class Export:
    """One artifact, the card it refers to (its SHA-256 is in the manifest), and the outcome of the parity check."""

    artifact: bytes
    card: bytes
    parity: parity.Parity


def default_sequence(version: str) -> int:
    """A sequence that rises with the version: 1.2.3 -> 1002003. Raises ModelError for parts beyond 999."""
    if not container.valid_version(version):
        raise ModelError("bad-model", f"{version!r} is no version: write MAJOR.MINOR.PATCH, such as 1.0.0")
    parts = [int(part) for part in version.partition("-")[0].split(".")]
    if max(parts[1:]) > 999 or parts[0] > 4000:
        raise ModelError("bad-model", f"no sequence follows from version {version}: give one with --sequence")
    return parts[0] * 1_000_000 + parts[1] * 1_000 + parts[2]


def stand_in(model: Model, of: Model, rung: int) -> StandIn:
    """`model` as a stand-in for `of`: how often they differ over the windows that both were made from and held to.

    Raises ModelError(bad-model) when their names, features or windows differ.
    """
    for what in ("name", "schema"):
        if model.card[what] != of.card[what]:
            raise ModelError(
                "bad-model",
                f"{what} {model.card[what]!r} stands in for {of.card[what]!r}: train it with the same --{what}",
            )
    windows = np.concatenate((of.train, of.held_out))
    if not np.array_equal(windows, np.concatenate((model.train, model.held_out))):
        raise ModelError(
            "bad-model", "the two were trained on other windows: use the same --data, --train-part and --held-out-part"
        )
    differ = (model.scores(windows) > model.threshold) != (of.scores(windows) > of.threshold)
    return StandIn(rung, float(np.float32(np.mean(differ))))


def export_native(
    model: Model, arch: str, release: Release, key: PublisherKey, standing_in: StandIn | None = None
) -> Export:
    """A signed native artifact for `arch`; raises ModelError, with code parity when one decision differs.

    Parity is checked on this machine's build of the same C source: floats are rounded alike on every target. An rv32imc
    module runs over the same points in QEMU too, where QEMU is installed, and must give the same bits.
    """
    check_tools(arch)
    source = convert.c_source(model)
    host = native_module(source, "x64")
    payload = host if arch == "x64" else native_module(source, arch)
    points = parity.points_for(model)
    scores = parity.native_scores(host, points)
    outcome = parity.compare(model, points, scores)
    parity.require(outcome, model)
    proved_on = ["x64"]
    if arch == "rv32imc" and qemu.available():
        parity.require_same(scores, qemu.scores(payload, points), arch)
        proved_on.append(arch)
    target = _Payload(container.FORMAT_NATIVE, arch, MPY_ABI, payload, proved_on)
    return _signed(model, release, key, outcome, target, standing_in)


def export_table(
    model: Model,
    release: Release,
    key: PublisherKey,
    base: bytes | None = None,
    standing_in: StandIn | None = None,
) -> Export:
    """A signed table blob, for any board; raises ModelError, with code parity when one decision differs.

    The blob is scored by the firmware's own modules, a forest as machine code and as bytecode, here with doubles and,
    where QEMU is installed, on rv32imc with single floats. base: an earlier blob whose trees shall keep their bytes.
    """
    payload = convert.table(model, base)
    points = parity.points_for(model)
    outcome = parity.compare(model, points, parity.table_scores(payload, points))
    parity.require(outcome, model)
    if table.kind_of(payload) == table.FOREST:
        parity.require(parity.compare(model, points, parity.table_scores(payload, points, plain=True)), model)
    proved_on = ["x64"]
    if qemu.available() and shutil.which(COMPILERS["rv32imc"][0]):
        single = parity.compare(model, points, qemu.table_scores(payload, points))
        parity.require(single, model)
        outcome = single if single.largest_difference > outcome.largest_difference else outcome
        proved_on.append("rv32imc")
    target = _Payload(container.FORMAT_BLOB, container.ANY_ARCH, 0, payload, proved_on)
    return _signed(model, release, key, outcome, target, standing_in)


@dataclass(frozen=True, slots=True)
class _Payload:
    form: str
    arch: str
    abi: int
    data: bytes
    proved_on: list[str]


def _signed(
    model: Model,
    release: Release,
    key: PublisherKey,
    outcome: parity.Parity,
    payload: _Payload,
    standing_in: StandIn | None,
) -> Export:
    golden = golden_vectors(model)
    tolerance = 2 * outcome.largest_difference + _FLOAT_STEPS * float(np.spacing(np.float32(abs(model.threshold))))
    target: dict[str, Any] = {
        "arch": payload.arch,
        "format": payload.form,
        "payload_bytes": len(payload.data),
        "proved_on": payload.proved_on,
    }
    if standing_in:
        target["stands_in"] = asdict(standing_in)
    card = _card(model, release, outcome, target)
    manifest: dict[str, object] = {
        "abi": payload.abi,
        "arch": payload.arch,
        "card_sha256": hashlib.sha256(card).digest(),
        "class": release.role,
        "created": release.created,
        "detector": model.card["detector"],
        "expires": release.expires,
        "format": payload.form,
        "margin": model.margin,
        "min_contract": wire.PROTOCOL_VERSION,
        "n_features": model.features.n_features,
        "name": model.card["name"],
        "schema": model.card["schema"],
        "sequence": release.sequence,
        "threshold": model.threshold,
        "tolerance": float(np.float32(tolerance)),
        "version": release.version,
        **profile.fields_of(model),
    }
    if standing_in:
        manifest |= asdict(standing_in)
    try:
        packed = pack(manifest, golden_bytes(golden), payload.data, key)
    except container.ArtifactError as error:
        raise ModelError("bad-model", f"the manifest is not acceptable: {error}. Check name and version") from None
    return Export(packed, card, outcome)


def golden_vectors(model: Model) -> list[tuple[list[int], float]]:
    """Up to GOLDEN_ROWS (features, score) for the board's self-test: windows spread evenly over the range of scores,
    and pairs of neighbours between which the decision turns.

    Scores are scikit-learn's, as the float32 on the same side of the threshold.
    """
    seen = np.concatenate((model.train, model.held_out))
    scores = model.scores(seen)
    order = np.argsort(scores, kind="stable")
    center = float(np.median(scores))
    near = order[np.abs(scores[order] - center) <= 2 * abs(model.threshold - center)]
    room = container.MAX_GOLDEN_BYTES // container.golden_row_bytes(seen.shape[1])
    count = min(GOLDEN_ROWS, room)
    turning = adversarial.turning_points(model.scores, model.threshold, seen, 1, np.random.default_rng(0))
    spread = seen[near[np.linspace(0, len(near) - 1, count - len(turning)).astype(int)]]
    rows = np.concatenate((spread, turning))
    return [
        ([int(x) for x in row], _same_side(score, model.threshold))
        for row, score in zip(rows, model.scores(rows), strict=True)
    ]


def _same_side(score: np.float64, threshold: float) -> float:
    """The float32 nearest to a score that is on the same side of the threshold, as native/decide.h rounds."""
    rounded = np.float32(score)
    if score > threshold and rounded <= threshold:
        rounded = np.nextafter(np.float32(threshold), np.float32(np.inf))
    elif score <= threshold and rounded > threshold:
        rounded = np.float32(threshold)
    return float(rounded)


def _card(model: Model, release: Release, outcome: parity.Parity, target: dict[str, Any]) -> bytes:
    export = target | {"version": release.version, "sequence": release.sequence, "parity": asdict(outcome)}
    return (json.dumps(model.card | {"export": export}, indent=2, sort_keys=True) + "\n").encode()

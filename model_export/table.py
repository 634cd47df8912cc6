"""Encodes models as table blobs; contract/table.py and table_gaussian.py say what each byte means.

A forest keeps the bytes of the trees it shares with an earlier blob: features keep the biases of `base`, leaf values
their index, new ones take the places of those no longer used and then the end. Without a base the leaf values that
most leaves have come first, as the first 127 take a halfword less, and a bias is what brings most bounds of its feature
into 16 bits. Either way the same arguments give the same bytes.
"""

import struct
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from contract import table, table_gaussian
from model_export.detectors.arrays import Vectors
from model_export.detectors.trees import Ensemble, IntegerTree, fraction_bits
from model_export.errors import ModelError

_NARROW = 0xFFFF  # the greatest bound of 16 bits
_ROUNDED = 2.0**-10  # of a step; doubles are off by less than 2**-20 of one


def forest(ensemble: Ensemble, threshold: float, base: bytes | None = None) -> bytes:
    """The blob of an ensemble; threshold: float32-exact. base: a forest's blob that this one shall resemble.

    Raises ModelError(bad-model) for an ensemble that the format cannot hold, naming the setting to lower.
    """
    values = _places(ensemble, _leaf_values(base) if base else [])
    _require("leaf values", len(values), table.MAX_VALUES)
    _require("trees", len(ensemble.trees), table.MAX_TREES)
    bias = _base_bias(base, ensemble.n_features) if base else _bias(ensemble)
    index = {value: place for place, value in enumerate(values)}
    leaves = [_leaf(index[value]) for value in ensemble.values.tolist()]
    trees = [_tree(tree, leaves, bias) for tree in ensemble.trees]
    bits = fraction_bits(ensemble)
    unit = 2.0**bits
    header = struct.pack(
        table.FOREST_HEADER,
        len(trees),
        len(values),
        ensemble.shape,
        bits,
        0,
        ensemble.scale,
        threshold,
        ensemble.limit,
        int(np.floor(ensemble.limit * unit)),
        sum(len(tree) for tree in trees) + 2,
    )
    data = bytearray(struct.pack(table.HEADER, table.MAGIC, table.FOREST, 0, ensemble.n_features, 0, 0) + header)
    data += np.array(values).astype("<f8").tobytes()
    data += np.rint(np.array(values) * unit).astype("<i4").tobytes()
    data += np.array(bias).astype("<i4").tobytes()
    for tree in trees:
        data += sha256(tree).digest()[: table.DIGEST_BYTES]
    data += b"".join(trees) + bytes(2)
    table.seal(data)
    blob = bytes(data)
    table.Forest(blob).check()
    return blob


@dataclass(frozen=True, slots=True)
class Integers:
    """The numbers of a Gaussian on the grids of contract/table_gaussian.py, whose names these are: within their ranges.

    factor: int16, the triangle column by column; mean: int32 (n,); fractions: uint8 (n,).
    """

    factor: npt.NDArray[np.int16]
    mean: npt.NDArray[np.int32]
    fractions: npt.NDArray[np.uint8]
    exponent: int
    limit: int


def integers(factor: Vectors, mean: Vectors, fractions: Vectors, exponent: int, threshold: float) -> Integers:
    """The integers of a Gaussian that was settled; factor: (n, n), whole, within int16; mean: (n,), whole but for the
    rounding of doubles. Raises ModelError(bad-model) for one that the format cannot hold."""
    whole = np.rint(mean)
    if np.abs(mean - whole).max() > _ROUNDED:
        raise ModelError("bad-model", "its parameters are no whole numbers of the table's steps: train it again")
    limit = table_gaussian.limit_of(float_bits(threshold), exponent)
    _require_range("fraction bits of a feature", float(fractions.max()), table_gaussian.MAX_FRACTION)
    _require_range("steps of a mean", float(np.abs(whole).max()), table_gaussian.MAX_MEAN)
    _require_range("bits of exponent", exponent, table_gaussian.MAX_EXPONENT)
    _require_range("units of the threshold", limit, table_gaussian.MAX_LIMIT)
    columns = np.concatenate([factor[j:, j] for j in range(len(factor))])
    return Integers(columns.astype(np.int16), whole.astype(np.int32), fractions.astype(np.uint8), exponent, limit)


def gaussian(
    factor: Vectors, mean: Vectors, fractions: Vectors, shifts: list[int], exponent: int, threshold: float
) -> bytes:
    """The blob of a Gaussian, of what `integers` takes; shifts: what the blob calls loss. Raises as `integers` does."""
    made = integers(factor, mean, fractions, exponent, threshold)
    data = bytearray(struct.pack(table.HEADER, table.MAGIC, table.GAUSSIAN, 0, len(made.mean), 0, 0))
    data += struct.pack(table_gaussian.GAUSSIAN_HEADER, threshold, exponent, 0, 0, made.limit)
    data += made.mean.astype("<i4").tobytes() + bytes(shifts) + made.fractions.tobytes()
    data += made.factor.astype("<i2").tobytes()
    table.seal(data)
    blob = bytes(data)
    table_gaussian.Gaussian(blob).check()
    return blob


def float_bits(number: float) -> int:
    """The bits of a float32-exact number."""
    return struct.unpack("<I", struct.pack("<f", number))[0]


def tree_bytes(blob: bytes) -> list[bytes]:
    """The bytes of each tree of a forest's blob, in order; raises table.TableError."""
    return [blob[start:end] for start, end in table.Forest(blob).spans()]


def _places(ensemble: Ensemble, base: list[float]) -> list[float]:
    """The leaf values of a blob by index; an unused place within keeps what `base` has there."""
    counts = np.zeros(len(ensemble.values), dtype=np.int64)
    for tree in ensemble.trees:
        counts += np.bincount(tree.value[tree.left < 0], minlength=len(counts))
    ranked = ensemble.values[np.argsort(-counts, kind="stable")].tolist()
    used, known = set(ranked), set(base)
    new = [value for value in ranked if value not in known]
    placed = [value if value in used or not new else new.pop(0) for value in base] + new
    while placed[-1] not in used:
        placed.pop()
    return placed


def _bias(ensemble: Ensemble) -> list[int]:
    """For each feature what, added to its bounds, brings most of them into 0 to 65535."""
    bounds: list[list[int]] = [[] for _ in range(ensemble.n_features)]
    for tree in ensemble.trees:
        for node in np.flatnonzero(tree.left >= 0):
            bounds[int(tree.feature[node])].append(_bound(tree, int(node)))
    return [_densest(sorted(found)) for found in bounds]


def _densest(bounds: list[int]) -> int:
    """Minus the lower end of the stretch of 65536 that holds most of the ascending bounds; the lowest such."""
    best = start = most = 0
    for end, bound in enumerate(bounds):
        while bound - bounds[start] > _NARROW:
            start += 1
        if end - start + 1 > most:
            most, best = end - start + 1, bounds[start]
    return -best


def _base_bias(blob: bytes, n_features: int) -> list[int]:
    facts = table.Forest(blob)
    if facts.n_features != n_features:
        raise ModelError("bad-model", f"the base has {facts.n_features} features, the model {n_features}: leave it out")
    return np.frombuffer(blob, "<i4", n_features, facts.bias_at).tolist()


def _leaf_values(blob: bytes) -> list[float]:
    facts = table.Forest(blob)
    return np.frombuffer(blob, "<f8", facts.values, table.FOREST_BYTES).tolist()


def _bound(tree: IntegerTree, node: int) -> int:
    """The greatest x that goes left."""
    return int(np.clip(tree.cut[node] - 1, -table.MAX_BIAS, table.MAX_BIAS))


def _tree(tree: IntegerTree, leaves: list[bytes], bias: list[int]) -> bytes:
    """One tree's bytes; leaves: the node of each leaf value of the ensemble."""
    # Children have higher numbers than their parent, whichever way scikit-learn grew the tree.
    code: list[bytes] = [b""] * len(tree.left)
    lefts = [0] * len(tree.left)
    for node in range(len(tree.left) - 1, -1, -1):
        left, right = int(tree.left[node]), int(tree.right[node])
        if left < 0:
            code[node] = leaves[int(tree.value[node])]
            continue
        feature = int(tree.feature[node])
        code[node] = (
            _inner(feature, _bound(tree, node) + bias[feature], len(code[left]) // 2) + code[left] + code[right]
        )
        lefts[node] = max(1 + lefts[left], lefts[right])
        code[left] = code[right] = b""
    _require("turns to the left in a tree", lefts[0], table.MAX_LEFTS)
    _require("bytes in a tree", len(code[0]), 0xFFFC)
    return struct.pack("<H", len(code[0]) + 2) + code[0]


def _inner(feature: int, bound: int, skip: int) -> bytes:
    if skip <= 0xFF and 0 <= bound <= _NARROW:
        return struct.pack("<BBH", skip, feature + 1, bound)
    return struct.pack("<BBiH", table.WIDE | feature, 0, bound, skip)


def _leaf(index: int) -> bytes:
    return struct.pack("<H", index) if index < table.FAR_LEAF else struct.pack("<HH", table.FAR_LEAF, index)


def _require(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise ModelError(
            "bad-model",
            f"{count} {what}, and a table blob holds {limit}: train with a smaller n_estimators or max_depth, or "
            "export a native module",
        )


def _require_range(what: str, found: float, limit: int) -> None:
    if found > limit:
        raise ModelError(
            "bad-model",
            f"{found:.3g} {what}, and a table blob holds {limit:.3g}: the spreads of the features are too far apart or "
            "the threshold is too high for its integers. Give wide features a coarser scale in the schema, leave out "
            "features that say the same, or export a native module",
        )

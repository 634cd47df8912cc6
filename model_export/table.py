"""Encodes models as table blobs; contract/table.py says what each byte means.

A forest keeps the bytes of the trees it shares with an earlier blob: the leaf values of `base` keep their index, new
ones take the places of those no longer used and then the end. Without a base leaf values lie in ascending order. Either
way the same arguments give the same bytes.
"""

import struct
from hashlib import sha256
from itertools import pairwise

import numpy as np

from contract import table
from model_export.detectors.arrays import Vectors
from model_export.detectors.trees import Ensemble, IntegerTree, fraction_bits
from model_export.errors import ModelError


def forest(ensemble: Ensemble, threshold: float, base: bytes | None = None) -> bytes:
    """The blob of an ensemble; threshold: float32-exact. base: a forest's blob that this one shall resemble.

    Raises ModelError(bad-model) for an ensemble that the format cannot hold, naming the setting to lower.
    """
    values = _places(ensemble.values, _leaf_values(base) if base else [])
    _require("leaf values", len(values), table.MAX_VALUES)
    _require("trees", len(ensemble.trees), table.MAX_TREES)
    index = {value: place for place, value in enumerate(values)}
    leaves = [table.LEAF | index[value] for value in ensemble.values.tolist()]
    trees = [_tree(tree, leaves) for tree in ensemble.trees]
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
        sum(len(tree) for tree in trees) // 2,
    )
    data = bytearray(struct.pack(table.HEADER, table.MAGIC, table.FOREST, 0, ensemble.n_features, 0, 0) + header)
    data += np.array(values).astype("<f8").tobytes()
    data += np.rint(np.array(values) * unit).astype("<i4").tobytes()
    for tree in trees:
        data += struct.pack("<H", len(tree) // 2) + sha256(tree).digest()[: table.DIGEST_BYTES]
    data += b"".join(trees)
    table.seal(data)
    blob = bytes(data)
    table.Forest(blob).check()
    return blob


def tree_bytes(blob: bytes) -> list[bytes]:
    """The bytes of each tree of a forest's blob, in order; raises table.TableError."""
    facts = table.Forest(blob)
    starts = np.cumsum([facts.trees_at] + [2 * facts.tree_words(i) for i in range(facts.trees)])
    return [blob[start:end] for start, end in pairwise(starts)]


def _places(values: Vectors, base: list[float]) -> list[float]:
    """The leaf values of a blob by index; an unused place within keeps what `base` has there."""
    used, known = set(values.tolist()), set(base)
    new = [value for value in values.tolist() if value not in known]
    placed = [value if value in used or not new else new.pop(0) for value in base] + new
    while placed[-1] not in used:
        placed.pop()
    return placed


def _leaf_values(blob: bytes) -> list[float]:
    facts = table.Forest(blob)
    return np.frombuffer(blob, "<f8", facts.values, table.FOREST_BYTES).tolist()


def _tree(tree: IntegerTree, leaves: list[int]) -> bytes:
    """One tree's bytes; leaves: the halfword of each leaf value of the ensemble."""
    # Children have higher numbers than their parent, whichever way scikit-learn grew the tree.
    code: list[bytes] = [b""] * len(tree.left)
    lefts = [0] * len(tree.left)
    for node in range(len(tree.left) - 1, -1, -1):
        left, right = int(tree.left[node]), int(tree.right[node])
        if left < 0:
            code[node] = struct.pack("<H", leaves[int(tree.value[node])])
            continue
        cut = int(np.clip(tree.cut[node], -table.MAX_CUT, table.MAX_CUT))
        code[node] = _inner(int(tree.feature[node]), cut, len(code[left]) // 2) + code[left] + code[right]
        lefts[node] = max(1 + lefts[left], lefts[right])
        code[left] = code[right] = b""
    _require("turns to the left in a tree", lefts[0], table.MAX_LEFTS)
    _require("halfwords of a tree", len(code[0]) // 2, 0xFFFF)
    return code[0]


def _inner(feature: int, cut: int, skip: int) -> bytes:
    if skip <= 0xFF and -0x8000 <= cut <= 0x7FFF:
        return struct.pack("<Hh", feature << 8 | skip, cut)
    if skip <= 0x7F:
        return struct.pack("<Hi", table.WIDE | skip << 7 | feature, cut)
    return struct.pack("<HiH", table.WIDE | feature, cut, skip)


def _require(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise ModelError(
            "bad-model",
            f"{count} {what}, and a table blob holds {limit}: train with a smaller n_estimators or max_depth, or "
            "export a native module",
        )

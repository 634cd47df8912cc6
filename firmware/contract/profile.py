"""The profile of a model: where windows fall among those it was trained on, counted in its own quantile bins.

Runs on MicroPython and CPython. A manifest carries two fields for it:

    bins    7 float32 that split the scores of normal windows into eighths, then for each feature, the first ones of the
            schema as far as there is room, 3 int32 that split its values into quarters
    shares  for each of these bins, 8 and then 4 a feature, how much of the training data it held, in 255ths

A bin holds what is above its lower edge and not above its upper one. Edges ascend and may be equal: a constant feature
has one bin that holds everything, and the shares say so. Scores that are new are the model's own, so bins belong to one
artifact. Octiles of scores and quartiles of features are a compromise: counts of n windows that have not changed give
a stability index of about (bins - 1) / n (cloud/devices/profiles.py), so fewer bins need fewer windows, and 16 bytes a
feature leave room for 50 features and more in a manifest of 2,048 bytes.
"""

import struct

from contract import msgpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence
    from typing import BinaryIO

SCORE_BINS = 8
FEATURE_BINS = 4
FEATURES_AT_ONCE = 6  # that a board counts from one HEALTH record to the next
WHOLE = 255  # what the shares of one score or feature add up to
MAX_COUNT = 255

SCORE_BYTES = 4 * (SCORE_BINS - 1)
FEATURE_BYTES = 4 * (FEATURE_BINS - 1)
_SCORE_FORM = "<%df" % (SCORE_BINS - 1)
_FEATURE_FORM = "<%di" % (FEATURE_BINS - 1)
# From the manifest's first byte; enough for "abi", "arch" and the head of "bins", its third key.
_HEAD_BYTES = 128


def why_unsound(bins: bytes, shares: bytes, n_features: int) -> str:
    """What is wrong with the two fields of a model of n_features, "" when they are sound; both empty: no profile."""
    if not bins and not shares:
        return ""
    count = profiled(bins)
    if count < 0 or count > n_features or len(bins) != SCORE_BYTES + FEATURE_BYTES * count:
        return "bins"
    if len(shares) != SCORE_BINS + FEATURE_BINS * count:
        return "shares"
    edges = score_edges(bins)
    if not all(edge - edge == 0 for edge in edges):  # neither infinite nor NaN
        return "bins"
    at = 0
    for feature in range(-1, count):
        if feature >= 0:
            edges = feature_edges(bins, feature)
        if not all(edges[i] <= edges[i + 1] for i in range(len(edges) - 1)):
            return "bins"
        if sum(shares[at : at + len(edges) + 1]) != WHOLE:
            return "shares"
        at += len(edges) + 1
    return ""


def profiled(bins: bytes) -> int:
    """How many features have bins."""
    return (len(bins) - SCORE_BYTES) // FEATURE_BYTES


def score_edges(bins: "bytes | memoryview") -> "tuple[float, ...]":
    """The edges of the scores' bins."""
    return struct.unpack_from(_SCORE_FORM, bins, 0)


def feature_edges(bins: "bytes | memoryview", feature: int) -> "tuple[int, ...]":
    """The edges of the bins of one feature that has some."""
    return edges_at(bins, SCORE_BYTES + FEATURE_BYTES * feature)


def edges_at(data: "bytes | memoryview", at: int) -> "tuple[int, ...]":
    """The edges of the bins of one feature, where they lie."""
    return struct.unpack_from(_FEATURE_FORM, data, at)


def count(counts: "MutableSequence[int]", at: int, value: float, edges: "Sequence[float]") -> None:
    """Counts a value in its bin, counts[at] being the first.

    When a bin is full the others stop as well: the shares stay those of the windows that were counted.
    """
    place = at
    for edge in edges:
        if value > edge:
            place += 1
    for other in range(at, at + len(edges) + 1):
        if counts[other] >= MAX_COUNT:
            return
    counts[place] += 1


def find_bins(f: "BinaryIO", manifest_at: int) -> "tuple[int, int]":
    """(where `bins` begins in an artifact's open file, its length), (0, 0) where its manifest has none.

    Reads the manifest's first keys only: a board does so at each wake that scores.
    """
    f.seek(manifest_at)
    head = f.read(_HEAD_BYTES)
    reader = msgpack.Reader(head)
    pairs = reader.take_map(3, _HEAD_BYTES)
    for _ in range(min(pairs, 3)):
        if reader.take_str(1, 32) == "bins":
            break
        reader.skip(0)
    else:
        return 0, 0
    at = reader.pos
    if reader.peek() != msgpack.BIN or head[at] > 0xC5:
        return 0, 0
    if head[at] == 0xC4:
        return manifest_at + at + 2, head[at + 1]
    return manifest_at + at + 3, head[at + 1] << 8 | head[at + 2]

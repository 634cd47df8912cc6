"""Scores a forest of contract.table in double precision, as scikit-learn does: leaf values summed tree after tree."""

import struct
from collections.abc import Sequence

from contract import table


class Scorer:
    """A checked forest. `score` takes int features (n_features,) and at most 64 steps and 1,024 trees."""

    def __init__(self, blob: bytes) -> None:
        """Reads and checks every byte; raises contract.table.TableError."""
        forest = table.Forest(blob)
        forest.check()
        self.n_features = forest.n_features
        self._values = struct.unpack_from(f"<{forest.values}d", blob, table.FOREST_BYTES)
        self._bias = struct.unpack_from(f"<{forest.n_features}i", blob, forest.bias_at)
        self._words = [struct.unpack_from(f"<{(end - start) // 2}H", blob, start) for start, end in forest.spans()]
        self._limit, self._scale, self._shape = forest.limit, forest.scale, forest.shape

    def score(self, features: Sequence[int]) -> tuple[float, bool]:
        """(score, whether it is anomalous) of one window."""
        biased = [value + bias for value, bias in zip(features, self._bias, strict=True)]
        total = 0.0
        for words in self._words:
            total += self._values[_leaf(words, biased)]
        scaled = total * self._scale
        return (2.0**scaled if self._shape == table.EXP2 else scaled), total > self._limit


def _leaf(words: Sequence[int], biased: Sequence[int]) -> int:
    """Index of the leaf value that a tree, as halfwords, leads a window to."""
    at = 1
    while True:
        low, high = words[at] & 0xFF, words[at] >> 8
        if high:
            bound = words[at + 1]
            feature, skip, at = high - 1, low, at + 2
        elif low >= table.WIDE:
            bound = words[at + 1] | words[at + 2] << 16
            bound -= (bound >> 31) << 32
            feature, skip, at = low - table.WIDE, words[at + 3], at + 4
        else:
            return words[at + 1] if low == table.FAR_LEAF else low
        if biased[feature] > bound:
            at += skip

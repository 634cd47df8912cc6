"""Scores a Gaussian of contract.table_gaussian by the integers that boards use."""

from collections.abc import Sequence

from contract.table_gaussian import Gaussian


class Scorer:
    """A checked Gaussian. `score` takes int features (n_features,) and at most 8,256 products."""

    def __init__(self, blob: bytes) -> None:
        """Reads and checks every byte; raises contract.table.TableError."""
        self._gaussian = Gaussian(blob)
        self._gaussian.check()
        self.n_features = self._gaussian.n_features

    def score(self, features: Sequence[int]) -> tuple[float, bool]:
        """(score, whether it is anomalous) of one window."""
        score = self._gaussian.score(features)
        return score, score > self._gaussian.threshold

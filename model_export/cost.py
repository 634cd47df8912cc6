"""What one score costs, counted from a fitted model's shape.

An *operation* is one floating-point addition, multiplication or comparison of the kernels in firmware/native, or, for
trees and Gaussians of int16, one of integers; a root, logarithm, exponential or tanh counts as 16. It is a count of
the arithmetic, not of instructions: loads, loops and calls come on top, and `make bench` counts those. It is the same
on every machine, which a measured time is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_export.budget import Board
from model_export.detectors import scaling
from model_export.model import Model

_FUNCTION = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one score: float operations, integer operations, expected over the training windows."""

    floats: float
    integers: float

    @property
    def operations(self) -> int:
        return round(self.floats + self.integers)

    def microjoules(self, board: Board) -> float:
        """Energy of a board's processor for one score, by its assumed cycles per operation; features not included."""
        cycles = self.floats * board.cycles_float + self.integers * board.cycles_integer
        return cycles / board.clock_mhz * board.active_mw / 1000


def of_model(model: Model) -> Cost:
    """The cost of one score by a model's compiled form."""
    core = scaling.split(model.estimator)[1]
    if hasattr(core, "int16_factor_"):
        return _integer_quadratic(model.features.n_features)
    return _COUNTS[model.card["detector"]](core, model.features.n_features)


def _quadratic(_core: Any, n: int) -> Cost:
    return Cost(2 * n + 2 * n * n, 0)


def _integer_quadratic(n: int) -> Cost:
    """A Gaussian of int16: the triangle of its factor, and a subtraction, a shift and a square for each feature."""
    return Cost(0, n * (n + 1) + 4 * n)


def _mixture(core: Any, n: int) -> Cost:
    count = len(core.means_)
    factors = n if core.covariance_type in ("diag", "spherical") else n * (n + 1) // 2
    return Cost(2 * n + count * (3 * n + 2 * factors + _FUNCTION + 2) + _FUNCTION, 0)


def _trees(core: Any, _n: int) -> Cost:
    trees = core.estimators_ if hasattr(core, "estimators_") else [core]
    return Cost(_FUNCTION, sum(_expected_depth(tree.tree_) + 1 for tree in trees))


def _expected_depth(tree: Any) -> float:
    """Comparisons per window, averaged over the windows that the tree was fitted to."""
    inner = tree.children_left >= 0
    return float(tree.weighted_n_node_samples[inner].sum() / tree.weighted_n_node_samples[0])


def _autoencoder(core: Any, n: int) -> Cost:
    weights = sum(matrix.size for matrix in core.coefs_)
    hidden = sum(len(bias) for bias in core.intercepts_[:-1])
    function = 1 if core.activation in ("relu", "identity") else _FUNCTION
    return Cost(5 * n + 2 * weights + function * hidden, 0)


def _centres(core: Any, n: int) -> Cost:
    points = core.cluster_centers_ if hasattr(core, "cluster_centers_") else core._fit_X
    return Cost(2 * n + len(points) * (3 * n + 1), 0)


def _subspace(core: Any, n: int) -> Cost:
    return Cost(5 * n + 4 * n * int(core.n_components_), 0)


def _support(core: Any, n: int) -> Cost:
    return Cost(2 * n + len(core.support_vectors_) * (3 * n + 3 + _FUNCTION), 0)


_COUNTS: dict[str, Callable[[Any, int], Cost]] = {
    "elliptic-envelope": _quadratic,
    "gaussian": _quadratic,
    "gaussian-mixture": _mixture,
    "bayesian-mixture": _mixture,
    "isolation-forest": _trees,
    "random-forest": _trees,
    "extra-trees": _trees,
    "decision-tree": _trees,
    "autoencoder": _autoencoder,
    "kmeans": _centres,
    "nearest-neighbour": _centres,
    "pca": _subspace,
    "one-class-svm": _support,
}


def pareto(quality: list[float], *costs: list[float]) -> list[bool]:
    """Which rows no other row beats in quality and every cost at once."""
    table = np.column_stack([-np.array(quality), *(np.array(cost, dtype=float) for cost in costs)])
    return [not any((other <= row).all() and (other < row).any() for other in table) for row in table]

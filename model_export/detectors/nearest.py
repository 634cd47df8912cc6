"""Distance to the nearest of a few points: centres of KMeans, or remembered normal windows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array
from model_export.detectors.numbers import FLOAT32, INT16, grid, settled
from model_export.detectors.precision import ROUNDING, Kernel, c_model, input_error
from model_export.detectors.scaling import Affine, fit_scaled, fold, scaler_of
from model_export.errors import ModelError


class Centres:
    """Score: squared distance to the nearest centre of KMeans."""

    name = "kmeans"
    estimators = (KMeans,)
    supervised = False

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        return fit_scaled(scalers, KMeans(**({"n_clusters": 8, "n_init": 4, "random_state": seed} | others)), vectors)

    def settle(self, estimator: KMeans, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        estimator.cluster_centers_ = settled(estimator.cluster_centers_, dtype)

    def scores(self, estimator: KMeans, values: Vectors) -> Vectors:
        return np.asarray(estimator.transform(values)).min(axis=1) ** 2

    def c_source(
        self, estimator: KMeans, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        return _c_source(estimator.cluster_centers_, fold(scalers, estimator.n_features_in_), threshold, dtype)


class Neighbours:
    """Score: squared distance to the nearest remembered window, of `points` that cover the training windows."""

    name = "nearest-neighbour"
    estimators = (NearestNeighbors,)
    supervised = False

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        points = others.pop("points", 100)
        if not isinstance(points, int) or points < 1:
            raise ModelError("unsupported", f"points={points!r} of nearest-neighbour: give a whole number from 1 on")
        core = NearestNeighbors(**({"n_neighbors": 1, "algorithm": "brute"} | others))
        pipeline = fit_scaled(scalers, core, vectors)
        values = scalers[0].transform(vectors) if scalers else vectors
        core.fit(settled(_cover(values, points, seed), FLOAT32))
        return pipeline

    def settle(self, estimator: NearestNeighbors, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        if estimator.n_neighbors != 1:
            raise ModelError("unsupported", "nearest-neighbour is exported for n_neighbors=1 only")
        if estimator.metric not in ("minkowski", "euclidean") or estimator.p != 2:
            raise ModelError("unsupported", "nearest-neighbour is exported for metric='euclidean' only")
        estimator.fit(settled(estimator._fit_X, dtype))

    def scores(self, estimator: NearestNeighbors, values: Vectors) -> Vectors:
        distances, _ = estimator.kneighbors(values, n_neighbors=1)
        return distances[:, 0] ** 2

    def c_source(
        self, estimator: NearestNeighbors, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        return _c_source(estimator._fit_X, fold(scalers, estimator.n_features_in_), threshold, dtype)


def _cover(values: Vectors, count: int, seed: int) -> Vectors:
    """Up to `count` rows, each the farthest from those before it (Gonzalez, 1985), from a random first one."""
    chosen = [int(np.random.default_rng(seed).integers(len(values)))]
    distance = np.full(len(values), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.sum((values - values[chosen[-1]]) ** 2, axis=1))
        farthest = int(distance.argmax())
        if distance[farthest] == 0:
            break
        chosen.append(farthest)
    return values[chosen]


def _c_source(points: Vectors, affine: Affine, threshold: float, dtype: str) -> str:
    count, n = points.shape
    # Near the threshold z lies within its root of a point, and so does every term of the sum.
    radius = float(np.sqrt(max(threshold, 0.0)))
    error = input_error(affine, np.abs(points).max(axis=0) + radius) + ROUNDING * radius
    whole, unit = grid(points) if dtype == INT16 else (points, 1.0)
    kernel = Kernel(
        name="nearest",
        defines="",
        tables=c_array("model_points", whole, "int16_t" if dtype == INT16 else "float"),
        call=f"model_points, {count}",
        guard=2 * radius * float(np.linalg.norm(error)) + (n + 2) * ROUNDING * threshold,
        unit=unit,
        square=unit * unit,
    )
    return c_model(kernel, affine, threshold, dtype)

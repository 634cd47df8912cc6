"""OneClassSVM with the radial basis kernel, where its support vectors fit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.svm import OneClassSVM

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array
from model_export.detectors.numbers import FLOAT32, INT16, grid, settled
from model_export.detectors.precision import ROUNDING, Kernel, c_model, input_error
from model_export.detectors.scaling import Affine, fit_scaled, fold, scaler_of
from model_export.errors import ModelError

MAX_VECTORS = 2000


class Support:
    """Score: -score_samples, between minus the sum of the dual coefficients and 0."""

    name = "one-class-svm"
    estimators = (OneClassSVM,)
    supervised = False

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        return fit_scaled(scalers, OneClassSVM(**({"nu": 0.05} | others)), vectors)

    def settle(self, estimator: OneClassSVM, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        if estimator.kernel != "rbf":
            raise ModelError("unsupported", f"OneClassSVM(kernel={estimator.kernel!r}) cannot be exported: use 'rbf'")
        count = len(estimator.support_vectors_)
        if count > MAX_VECTORS:
            raise ModelError(
                "budget",
                f"{count} support vectors, more than {MAX_VECTORS}: lower nu (--set nu=0.01) or train on fewer windows",
            )
        estimator.support_vectors_ = settled(estimator.support_vectors_, dtype)
        estimator._dual_coef_ = estimator.dual_coef_ = settled(estimator.dual_coef_, dtype)

    def scores(self, estimator: OneClassSVM, values: Vectors) -> Vectors:
        return -estimator.score_samples(values)

    def c_source(
        self, estimator: OneClassSVM, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        affine = fold(scalers, estimator.n_features_in_)
        vectors, weights = estimator.support_vectors_, estimator.dual_coef_.ravel()
        gamma = float(estimator._gamma)
        guard = _error(vectors, weights, gamma, affine)
        unit = weight_unit = 1.0
        if dtype == INT16:
            (vectors, unit), (weights, weight_unit) = grid(vectors), grid(weights)
        table_type = "int16_t" if dtype == INT16 else "float"
        kernel = Kernel(
            name="support",
            defines="",
            tables=c_array("model_vectors", vectors, table_type) + "\n" + c_array("model_weights", weights, table_type),
            call=f"model_vectors, model_weights, {len(vectors)}, {(gamma * unit * unit).hex()}",
            guard=guard,
            unit=unit,
            square=weight_unit,
        )
        return c_model(kernel, affine, threshold, dtype)


def _error(vectors: Vectors, weights: Vectors, gamma: float, affine: Affine) -> float:
    """Bound on the error of the float score anywhere: a kernel is flat where the distance, and its error, is large."""
    count, n = vectors.shape
    farthest = np.abs(vectors).max(axis=0)
    worst = 0.0
    for distance in np.linspace(0.0, 6.0, 61) / np.sqrt(gamma):
        error = float(np.linalg.norm(input_error(affine, farthest + distance) + ROUNDING * distance))
        square_error = 2 * distance * error + (n + 3) * ROUNDING * distance**2
        worst = max(worst, float(np.exp(-gamma * distance**2)) * (gamma * square_error + 4 * ROUNDING))
    return float(np.abs(weights).sum()) * (worst + (count + 1) * ROUNDING)

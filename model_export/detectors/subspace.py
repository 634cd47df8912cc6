"""Principal components: the squared error of reconstructing a window from the leading ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array
from model_export.detectors.numbers import FLOAT32, INT16, grid, settled
from model_export.detectors.precision import ROUNDING, Kernel, c_model, input_error, reach_of
from model_export.detectors.scaling import Affine, fit_scaled, fold, scaler_of
from model_export.errors import ModelError


class Subspace:
    """Score: |z - inverse_transform(transform(z))|**2."""

    name = "pca"
    estimators = (PCA,)
    supervised = False

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        core = PCA(**({"n_components": 0.9, "svd_solver": "full", "random_state": seed} | others))
        fitted = fit_scaled(scalers, core, vectors)
        if core.n_components_ == vectors.shape[1]:
            raise ModelError(
                "bad-model",
                f"all {core.n_components_} components are kept, so everything is reconstructed: "
                "lower n_components (--set n_components=0.8), or use more features",
            )
        return fitted

    def settle(self, estimator: PCA, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        if estimator.whiten:
            raise ModelError("unsupported", "PCA(whiten=True) cannot be exported: use whiten=False")
        estimator.mean_ = settled(estimator.mean_, FLOAT32)
        estimator.components_ = settled(estimator.components_, dtype)

    def scores(self, estimator: PCA, values: Vectors) -> Vectors:
        return np.sum((values - estimator.inverse_transform(estimator.transform(values))) ** 2, axis=1)

    def c_source(
        self, estimator: PCA, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        affine = fold(scalers, estimator.n_features_in_)
        count, n = estimator.components_.shape
        reach = reach_of(affine, seen)
        components, unit = grid(estimator.components_) if dtype == INT16 else (estimator.components_, 1.0)
        kernel = Kernel(
            name="subspace",
            defines=f"#define EW_SUBSPACE_FEATURES {n}\n#define EW_SUBSPACE_SQUARE {float(unit * unit).hex()}",
            tables="\n".join(
                (
                    c_array("model_mean", estimator.mean_, "float"),
                    c_array("model_components", components, "int16_t" if dtype == INT16 else "float"),
                )
            ),
            call=f"model_mean, model_components, {count}",
            guard=_error(estimator, affine, threshold, reach),
            reach=reach,
        )
        return c_model(kernel, affine, threshold, dtype)


def _error(estimator: PCA, affine: Affine, threshold: float, reach: float) -> float:
    """Bound on the error of the float score near the threshold, |z| <= reach in every coordinate."""
    count, n = estimator.components_.shape
    largest = reach + np.abs(estimator.mean_)
    distance_error = input_error(affine, np.full(n, reach)) + ROUNDING * largest
    magnitudes = np.abs(estimator.components_)
    along = magnitudes @ largest
    along_error = magnitudes @ distance_error + (n + 1) * ROUNDING * along
    rest_error = distance_error + magnitudes.T @ (along_error + 2 * ROUNDING * along) + count * ROUNDING * largest
    radius = float(np.sqrt(max(threshold, 0.0)))
    norm = float(np.linalg.norm(rest_error))
    return (2 * radius + norm) * norm + (n + 1) * ROUNDING * threshold

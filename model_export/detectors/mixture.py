"""Gaussian mixtures: minus the log of the density.

emlearn converts them too, but to a table that a native module cannot hold (a structure with pointers that is not
constant), with expf and logf of a C library that is not there, and with constants cut to six digits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array
from model_export.detectors.numbers import FLOAT32, INT16, grid, settled
from model_export.detectors.precision import ROUNDING, Kernel, c_model, ellipsoid_error
from model_export.detectors.scaling import Affine, fit_scaled, fold, scaler_of


class _Mixture:
    """Score: -score_samples."""

    supervised = False

    def settle(self, estimator: Any, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        estimator.means_ = settled(estimator.means_, dtype)
        factors = estimator.precisions_cholesky_
        # Each component has its unit: a tight one has factors much larger than a wide one's.
        one_each = estimator.covariance_type != "tied"
        parts = [settled(np.asarray(factor), dtype) for factor in (factors if one_each else [factors])]
        estimator.precisions_cholesky_ = np.array(parts) if one_each else parts[0]

    def scores(self, estimator: Any, values: Vectors) -> Vectors:
        return -estimator.score_samples(values)

    def c_source(
        self, estimator: Any, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        affine = fold(scalers, estimator.n_features_in_)
        means = estimator.means_
        count, n = means.shape
        factors = _factors(estimator)
        # At its own mean a component's distance is 0: what is left of its log density is its constant.
        constants = np.diag(estimator._estimate_weighted_log_prob(means))
        diagonal = estimator.covariance_type in ("diag", "spherical")
        upper = np.triu_indices(n)
        table = [np.diag(factor) if diagonal else factor[upper] for factor in factors]
        unit, own_halves, table_type = 1.0, "", "float"
        whole_means, halves = means, np.empty(0)
        if dtype == INT16:
            whole_means, unit = grid(means)
            grids = [grid(part) for part in table]
            table = [whole for whole, _ in grids]
            halves = np.array([(unit * factor_unit) ** 2 / 2 for _, factor_unit in grids])
            own_halves, table_type = "#define EW_MIXTURE_HALF(k) model_halves[k]", "int16_t"
        kernel = Kernel(
            name="mixture",
            defines=f"#define EW_MIXTURE_FEATURES {n}\n{own_halves}",
            tables="\n".join(
                (
                    c_array("model_means", whole_means, table_type),
                    c_array("model_factors", np.concatenate(table), table_type),
                    c_array("model_constants", constants, "double"),
                    c_array("model_halves", halves, "float") if own_halves else "",
                )
            ),
            unit=unit,
            call=f"model_means, model_factors, model_constants, {count}, {int(diagonal)}",
            guard=max(
                _component_error(factors[k], means[k], float(constants[k]), affine, threshold, count)
                for k in range(count)
            ),
        )
        return c_model(kernel, affine, threshold, dtype)


class Mixture(_Mixture):
    name = "gaussian-mixture"
    estimators = (GaussianMixture,)

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        core = GaussianMixture(**({"n_components": 3, "reg_covar": 1e-4, "random_state": seed} | others))
        return fit_scaled(scalers, core, vectors)


class BayesianMixture(_Mixture):
    name = "bayesian-mixture"
    estimators = (BayesianGaussianMixture,)

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        defaults = {"n_components": 4, "reg_covar": 1e-4, "max_iter": 500, "random_state": seed}
        return fit_scaled(scalers, BayesianGaussianMixture(**(defaults | others)), vectors)


def _factors(estimator: Any) -> list[Vectors]:
    """The upper triangular Cholesky factor of each component's precision, (n, n), whatever the covariance type."""
    count, n = estimator.means_.shape
    given = estimator.precisions_cholesky_
    if estimator.covariance_type == "full":
        return list(given)
    if estimator.covariance_type == "tied":
        return [given] * count
    if estimator.covariance_type == "diag":
        return [np.diag(row) for row in given]
    return [np.eye(n) * value for value in given]


def _component_error(
    factor: Vectors,
    mean: Vectors,
    constant: float,
    affine: Affine,
    threshold: float,
    count: int,
) -> float:
    """Bound on the error of the float score near the threshold, were this component the nearest.

    There its squared distance is at most 2 * (threshold + constant + log(count)).
    """
    square = max(2 * (threshold + constant + np.log(count)), 0.0) + 1.0
    square_error = ellipsoid_error(factor, mean, affine, square)
    return square_error / 2 + ROUNDING * (8 + 3 * count) * (abs(constant) + square + 8)

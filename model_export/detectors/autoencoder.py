"""MLPRegressor as autoencoder: how badly a small network reproduces the window it was given.

emlearn converts MLPRegressor too, with weights cut to six digits after the point; here the weights are the very ones
scikit-learn holds, so that both decide alike.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array
from model_export.detectors.numbers import FLOAT32, INT16, grid, settled
from model_export.detectors.precision import ROUNDING, Kernel, c_model, input_error, reach_of
from model_export.detectors.scaling import Affine, fold, scaler_of
from model_export.errors import ModelError

# As firmware/native/autoencoder.inc numbers them.
_ACTIVATIONS = {"identity": "EW_IDENTITY", "relu": "EW_RELU", "logistic": "EW_LOGISTIC", "tanh": "EW_TANH"}
MAX_WIDTH = 255


class Autoencoder:
    """Score: mean squared error of the reconstruction."""

    name = "autoencoder"
    estimators = (MLPRegressor,)
    supervised = False

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        values = scalers[0].fit_transform(vectors) if scalers else vectors
        width = vectors.shape[1]
        defaults: dict[str, Any] = {
            "hidden_layer_sizes": (max(1, width // 2), max(1, width // 4), max(1, width // 2)),
            "activation": "tanh",
            "alpha": 1e-4,
            "learning_rate_init": 0.01,
            "max_iter": 300,
            "early_stopping": False,
            "random_state": seed,
        }
        core = MLPRegressor(**(defaults | others))
        # One output is a column to scikit-learn, and a network with one output keeps no list of outputs.
        core.fit(values, values if width > 1 else values.ravel())
        return make_pipeline(*scalers, core) if scalers else core

    def settle(self, estimator: MLPRegressor, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        if max(estimator.n_features_in_, *(len(bias) for bias in estimator.intercepts_)) > MAX_WIDTH:
            raise ModelError("budget", f"a layer is wider than {MAX_WIDTH}: use smaller hidden_layer_sizes")
        if estimator.n_outputs_ != estimator.n_features_in_:
            raise ModelError("unsupported", "an autoencoder has as many outputs as inputs: fit it to its own input")
        if estimator.out_activation_ != "identity":
            raise ModelError("unsupported", f"loss={estimator.loss!r} cannot be exported: use 'squared_error'")
        # A layer's weights and intercepts are one table.
        layers = [
            settled(np.vstack(layer), dtype) for layer in zip(estimator.coefs_, estimator.intercepts_, strict=True)
        ]
        estimator.coefs_ = [layer[:-1] for layer in layers]
        estimator.intercepts_ = [layer[-1] for layer in layers]

    def scores(self, estimator: MLPRegressor, values: Vectors) -> Vectors:
        return np.mean((estimator.predict(values).reshape(values.shape) - values) ** 2, axis=1)

    def c_source(
        self, estimator: MLPRegressor, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        affine = fold(scalers, estimator.n_features_in_)
        sizes = [estimator.n_features_in_, *(len(bias) for bias in estimator.intercepts_)]
        weights: list[Vectors] = []
        units: list[float] = []
        for matrix, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True):
            table = np.concatenate((matrix.T.ravel(), bias))
            table, unit = grid(table) if dtype == INT16 else (table, 1.0)
            weights.append(table)
            units.append(unit)
        table_type = "int16_t" if dtype == INT16 else "float"
        own_units = "#define EW_AUTOENCODER_UNIT(layer) model_units[layer]" if dtype == INT16 else ""
        reach = reach_of(affine, seen)
        kernel = Kernel(
            name="autoencoder",
            defines=f"#define EW_AUTOENCODER_WIDTH {max(sizes)}\n{own_units}",
            tables="\n".join(
                (
                    c_array("model_sizes", np.array(sizes), "uint8_t"),
                    c_array("model_weights", np.concatenate(weights), table_type),
                    c_array("model_units", np.array(units), "float") if own_units else "",
                )
            ),
            call=f"model_sizes, {len(sizes) - 1}, model_weights, {_ACTIVATIONS[estimator.activation]}",
            guard=_error(estimator, affine, threshold, reach),
            reach=reach,
        )
        return c_model(kernel, affine, threshold, dtype)


def _error(estimator: MLPRegressor, affine: Affine, threshold: float, reach: float) -> float:
    """Bound on the error of the float score near the threshold, |z| <= reach, carried from layer to layer."""
    n = estimator.n_features_in_
    largest = np.full(n, reach)
    error = input_error(affine, largest)
    steepest = {"logistic": 0.25}.get(estimator.activation, 1.0)
    last = len(estimator.coefs_) - 1
    for layer, (matrix, bias) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        magnitudes = np.abs(matrix)
        sums = magnitudes.T @ largest + np.abs(bias)
        error = magnitudes.T @ error + (len(matrix) + 2) * ROUNDING * sums
        largest = sums
        if layer < last and estimator.activation in ("logistic", "tanh"):
            largest = np.minimum(largest, 1.0)
            error = steepest * error + 8 * ROUNDING
    residual = np.sqrt(max(threshold, 0.0) * n)
    norm = float(np.linalg.norm(error + input_error(affine, np.full(n, reach)))) + ROUNDING * float(residual)
    return float((2 * residual + norm) * norm / n + (n + 2) * ROUNDING * threshold)

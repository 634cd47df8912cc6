"""LedoitWolf: the squared Mahalanobis distance to the mean, with a covariance shrunk towards a sphere.

Shrinkage keeps the matrix invertible where windows are few and features say nearly the same (Ledoit and Wolf, 2004),
and unlike EllipticEnvelope it takes every training window for normal: what is rare but was recorded as normal counts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import pinvh
from sklearn.covariance import LedoitWolf

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.elliptic import Elliptic
from model_export.detectors.numbers import FLOAT32, INT16
from model_export.detectors.scaling import fit_scaled, fold, scaler_of

# A feature is rounded to a whole count, which is noise of this variance, in counts squared (Bennett, 1948).
_ROUNDING_VARIANCE = 1 / 12


class Gaussian:
    """Score: squared Mahalanobis distance; threshold > 0."""

    name = "gaussian"
    estimators = (LedoitWolf,)
    supervised = False
    table_dtype = INT16

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaler_of(settings)
        core = LedoitWolf(**others)
        pipeline = fit_scaled(scalers, core, vectors)
        # Without this a feature that rested during training would have no variance at all, and no matrix an inverse.
        per_count = fold(scalers, vectors.shape[1]).scale
        core.covariance_ = core.covariance_ + np.diag(_ROUNDING_VARIANCE * per_count**2)
        core.precision_ = pinvh(core.covariance_)
        return pipeline

    def settle(self, estimator: LedoitWolf, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        """As an elliptic envelope's."""
        Elliptic().settle(estimator, dtype, scalers)

    def scores(self, estimator: LedoitWolf, values: Vectors) -> Vectors:
        return estimator.mahalanobis(values)

    def c_source(
        self, estimator: LedoitWolf, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        # The same quadratic form, of the same three attributes.
        return Elliptic().c_source(estimator, scalers, threshold, seen, dtype)

    def table(
        self, estimator: LedoitWolf, scalers: list[Any], threshold: float, shifts: list[int], base: bytes | None = None
    ) -> bytes:
        return Elliptic().table(estimator, scalers, threshold, shifts, base)

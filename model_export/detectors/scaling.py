"""Scalers in front of a detector, folded into one affine map so that the board feeds it raw integer features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from model_export.detectors.arrays import Labels, Vectors
from model_export.errors import ModelError


@dataclass(frozen=True, slots=True)
class Affine:
    """z = (x - offset) * scale per feature; both float64 (n_features,)."""

    offset: Vectors
    scale: Vectors

    def then(self, other: "Affine") -> "Affine":
        """This map followed by `other`."""
        return Affine(self.offset + other.offset / self.scale, self.scale * other.scale)


def identity(n_features: int) -> Affine:
    """The map that changes nothing."""
    return Affine(np.zeros(n_features), np.ones(n_features))


def split(estimator: Any) -> tuple[list[Any], Any]:
    """(scalers in order, the detector after them) of an estimator or Pipeline."""
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
        return steps[:-1], steps[-1]
    return [], estimator


def fold(scalers: list[Any], n_features: int) -> Affine:
    """The one affine map of a list of fitted scalers; raises ModelError(unsupported) for one that is not affine."""
    total = identity(n_features)
    for scaler in scalers:
        total = total.then(_affine(scaler, n_features))
    return total


def transform(scalers: list[Any], features: npt.NDArray[Any]) -> Vectors:
    """What scikit-learn itself makes of the features: float64 (n, n_features)."""
    values = np.asarray(features, dtype=np.float64)
    for scaler in scalers:
        values = scaler.transform(values)
    return values


def _affine(scaler: Any, n_features: int) -> Affine:
    if isinstance(scaler, StandardScaler):
        offset, scale = scaler.mean_ if scaler.with_mean else None, scaler.scale_
        return Affine(_vector(offset, 0.0, n_features), 1.0 / _vector(scale, 1.0, n_features))
    if isinstance(scaler, RobustScaler):
        offset = scaler.center_ if scaler.with_centering else None
        scale = scaler.scale_ if scaler.with_scaling else None
        return Affine(_vector(offset, 0.0, n_features), 1.0 / _vector(scale, 1.0, n_features))
    if isinstance(scaler, MinMaxScaler):
        if scaler.clip:
            raise ModelError("unsupported", "MinMaxScaler(clip=True) hides anomalies beyond the range: use clip=False")
        return Affine(-scaler.min_ / scaler.scale_, np.asarray(scaler.scale_))
    raise ModelError(
        "unsupported",
        f"{type(scaler).__name__} cannot be folded into a model: use StandardScaler, RobustScaler or MinMaxScaler",
    )


def _vector(values: Any, default: float, n_features: int) -> Vectors:
    return np.full(n_features, default) if values is None else np.asarray(values, dtype=np.float64)


_SCALERS = {"standard": StandardScaler, "robust": RobustScaler, "minmax": MinMaxScaler}


def scaler_of(settings: dict[str, Any], default: str = "standard") -> tuple[list[Any], dict[str, Any]]:
    """(the scaler that `settings["scaler"]` names, unfitted, in a list or none, the other settings)."""
    name = settings.get("scaler", default)
    if name != "none" and name not in _SCALERS:
        raise ModelError("unsupported", f"no scaler {name!r}: choose one of {', '.join(_SCALERS)}, none")
    others = {key: value for key, value in settings.items() if key != "scaler"}
    return ([] if name == "none" else [_SCALERS[name]()]), others


def fit_scaled(scalers: list[Any], core: Any, vectors: Vectors, labels: Labels | None = None) -> Any:
    """`core` fitted behind its scalers: a Pipeline, or the core alone when there are none."""
    if not scalers:
        return core.fit(vectors, labels)
    return make_pipeline(*scalers, core).fit(vectors, labels)

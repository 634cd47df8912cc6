"""A trained model on disk: a folder with the estimator, the windows it was made from, and its card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.features import Features
from model_export import detectors, estimator_file
from model_export.detectors import scaling
from model_export.detectors.base import Detector
from model_export.detectors.numbers import FLOAT32, INT16, as_int16
from model_export.errors import ModelError
from model_export.windows import parse_schema

_ESTIMATOR = "estimator.npz"
_WINDOWS = "windows.npz"
_CARD = "card.json"
_UNREADABLE = (*estimator_file.UNREADABLE, ModelError)


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted estimator and what its artifact needs.

    train, held_out: int32 (n, n_features), the windows it was fitted to and those its threshold was chosen on.
    card: JSON data for people and for the registry; it also holds schema, threshold and margin.
    """

    estimator: Any
    train: npt.NDArray[np.int32]
    held_out: npt.NDArray[np.int32]
    card: dict[str, Any]

    @property
    def detector(self) -> Detector:
        return detectors.of_estimator(self.estimator)

    @property
    def features(self) -> Features:
        return parse_schema(self.card["schema"])

    @property
    def threshold(self) -> float:
        """Anomalous when the score is above; float32-exact."""
        return float(np.float32(self.card["threshold"]))

    @property
    def margin(self) -> float:
        return float(np.float32(self.card["margin"]))

    @property
    def dtype(self) -> str:
        """One of detectors.numbers.DTYPES."""
        return self.card.get("dtype", FLOAT32)

    @property
    def shifts(self) -> list[int]:
        """Bits that an int16 model leaves out of each feature."""
        return self.card.get("shifts", [0] * self.features.n_features)

    def as_seen(self, features: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Raw features as the estimator was fitted to them: themselves, or what int16 holds of them."""
        return as_int16(features, self.shifts) if self.dtype == INT16 else features

    def scores(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """scikit-learn's scores of raw integer features (n, n_features): float64 (n,)."""
        return reference_scores(self.estimator, self.as_seen(features))

    def card_bytes(self) -> bytes:
        """The card as it is written and hashed."""
        return (json.dumps(self.card, indent=2, sort_keys=True) + "\n").encode()


def reference_scores(estimator: Any, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """scikit-learn's scores of raw integer features by an estimator or Pipeline; higher is more anomalous."""
    scalers, core = scaling.split(estimator)
    return detectors.of_estimator(core).scores(core, scaling.transform(scalers, features))


def save(model: Model, folder: Path) -> None:
    """Writes the folder; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    estimator_file.save(folder / _ESTIMATOR, model.estimator)
    np.savez_compressed(folder / _WINDOWS, train=model.train, held_out=model.held_out)
    (folder / _CARD).write_bytes(model.card_bytes())


def load(folder: Path) -> Model:
    """The model in a folder that `save` wrote; raises ModelError(bad-model)."""
    estimator = estimator_file.load(folder / _ESTIMATOR)
    try:
        card = json.loads((folder / _CARD).read_bytes())
        with np.load(folder / _WINDOWS, allow_pickle=False) as arrays:
            model = Model(estimator, arrays["train"], arrays["held_out"], card)
        _check(model)
    except _UNREADABLE as error:
        raise ModelError("bad-model", f"{folder} is no complete model folder: {error}. Train it again") from None
    return model


def _check(model: Model) -> None:
    """Raises ValueError where the files of a folder do not belong together."""
    width = model.features.n_features
    for windows in (model.train, model.held_out):
        if windows.dtype != np.int32 or windows.ndim != 2 or windows.shape[1] != width:
            raise ValueError("windows and schema differ in width")
    if not len(model.train):
        raise ValueError("no window it was trained on")
    if not np.isfinite([model.threshold, model.margin]).all():
        raise ValueError("threshold or margin is not finite")
    try:
        scores = model.scores(model.train[:1])
    except Exception as error:  # noqa: BLE001 - of attributes that are missing or another's scikit-learn makes anything
        raise ValueError(f"its estimator scores nothing: {error!r}") from None
    if not np.isfinite(scores).all():
        raise ValueError("its estimator's scores are no numbers")

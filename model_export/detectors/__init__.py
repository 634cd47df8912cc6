"""The detectors that can be exported, by name and by scikit-learn class."""

from typing import Any

from model_export.detectors.base import Detector
from model_export.detectors.elliptic import Elliptic
from model_export.detectors.scaling import split
from model_export.errors import ModelError

DETECTORS: dict[str, Detector] = {detector.name: detector for detector in (Elliptic(),)}


def by_name(name: str) -> Detector:
    """The detector called `name`; raises ModelError(unsupported)."""
    if name not in DETECTORS:
        raise ModelError("unsupported", f"no detector {name!r}: choose one of {', '.join(DETECTORS)}")
    return DETECTORS[name]


def of_estimator(estimator: Any) -> Detector:
    """The detector that exports a fitted estimator or Pipeline; raises ModelError(unsupported)."""
    _, core = split(estimator)
    for detector in DETECTORS.values():
        if isinstance(core, detector.estimators):
            return detector
    known = ", ".join(kind.__name__ for detector in DETECTORS.values() for kind in detector.estimators)
    raise ModelError("unsupported", f"{type(core).__name__} cannot be exported: use one of {known}")

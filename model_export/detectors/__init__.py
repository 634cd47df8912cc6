"""The detectors that can be exported, by name and by scikit-learn class."""

from difflib import SequenceMatcher
from typing import Any

from sklearn.base import ClassifierMixin

from model_export.detectors.autoencoder import Autoencoder
from model_export.detectors.base import Detector
from model_export.detectors.elliptic import Elliptic
from model_export.detectors.forest import ExtraTrees, Forest, Isolation, Tree
from model_export.detectors.ledoit_wolf import Gaussian
from model_export.detectors.mixture import BayesianMixture, Mixture
from model_export.detectors.nearest import Centres, Neighbours
from model_export.detectors.scaling import split
from model_export.detectors.subspace import Subspace
from model_export.detectors.support import Support
from model_export.errors import ModelError

_ALL: tuple[Detector, ...] = (
    Elliptic(),
    Gaussian(),
    Mixture(),
    BayesianMixture(),
    Isolation(),
    Forest(),
    ExtraTrees(),
    Tree(),
    Autoencoder(),
    Centres(),
    Neighbours(),
    Subspace(),
    Support(),
)
DETECTORS: dict[str, Detector] = {detector.name: detector for detector in _ALL}


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
    kinds = [kind for detector in DETECTORS.values() for kind in detector.estimators]
    known = ", ".join(kind.__name__ for kind in kinds)
    raise ModelError(
        "unsupported",
        f"{type(core).__name__} cannot be exported: use one of {known}. "
        f"The nearest is {_nearest(core, kinds).__name__}",
    )


def _nearest(core: Any, kinds: list[type]) -> type:
    """The kind most like an estimator: of its package of scikit-learn, a classifier where it is one, of a like name."""
    name, package = type(core).__name__, type(core).__module__.split(".")[:2]

    def likeness(kind: type) -> tuple[bool, bool, float]:
        classifier = issubclass(kind, ClassifierMixin) == isinstance(core, ClassifierMixin)
        alike = SequenceMatcher(None, name, kind.__name__).ratio()
        return kind.__module__.split(".")[:2] == package, classifier, alike

    return max(kinds, key=likeness)

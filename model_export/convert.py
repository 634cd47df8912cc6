"""From a trained model to C source, or to a table blob."""

from model_export.detectors import DETECTORS, scaling
from model_export.detectors.base import HasTable
from model_export.errors import ModelError
from model_export.model import Model


def c_source(model: Model) -> str:
    """The content of model.h: everything firmware/native/module.c needs to know about one model."""
    scalers, core = scaling.split(model.estimator)
    return model.detector.c_source(core, scalers, model.threshold, model.train)


def table(model: Model, base: bytes | None = None) -> bytes:
    """The table blob of a model; base: an earlier blob whose trees shall keep their bytes.

    Raises ModelError(unsupported) for a detector that has none.
    """
    detector = model.detector
    if not isinstance(detector, HasTable):
        known = ", ".join(name for name, other in DETECTORS.items() if isinstance(other, HasTable))
        raise ModelError("unsupported", f"{detector.name} has no table blob, {known} have: export it as native")
    scalers, core = scaling.split(model.estimator)
    return detector.table(core, scalers, model.threshold, base)

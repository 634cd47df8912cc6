"""From a trained model to C source."""

from model_export.detectors import scaling
from model_export.model import Model


def c_source(model: Model) -> str:
    """The content of model.h: everything firmware/native/module.c needs to know about one model."""
    scalers, core = scaling.split(model.estimator)
    return model.detector.c_source(core, scalers, model.threshold, model.train)

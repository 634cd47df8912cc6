"""From a trained model to C source, or to a table blob."""

import numpy as np

from model_export.detectors import DETECTORS, scaling
from model_export.detectors.base import HasTable
from model_export.detectors.ctext import c_array
from model_export.detectors.numbers import INT16
from model_export.errors import ModelError
from model_export.model import Model


def c_source(model: Model) -> str:
    """The content of model.h: everything firmware/native/module.c needs to know about one model."""
    scalers, core = scaling.split(model.estimator)
    source = model.detector.c_source(core, scalers, model.threshold, model.as_seen(model.train), model.dtype)
    return _on_int16(source, model.shifts) if model.dtype == INT16 else source


def table(model: Model, base: bytes | None = None) -> bytes:
    """The table blob of a model; base: an earlier blob whose trees shall keep their bytes.

    Raises ModelError(unsupported) for a detector that has none, and for a model of another dtype than its blob.
    """
    detector = model.detector
    if not isinstance(detector, HasTable):
        known = ", ".join(name for name, other in DETECTORS.items() if isinstance(other, HasTable))
        raise ModelError("unsupported", f"{detector.name} has no table blob, {known} have: export it as native")
    if model.dtype != detector.table_dtype:
        raise ModelError(
            "unsupported",
            f"{detector.name} of {model.dtype} has no table blob: export it as native, or train it with "
            f"--dtype {detector.table_dtype}",
        )
    scalers, core = scaling.split(model.estimator)
    return detector.table(core, scalers, model.threshold, model.shifts, base)


def _on_int16(source: str, shifts: list[int]) -> str:
    """`source`, whose model_score takes int16, behind one that takes the board's int32 features."""
    inner = source.replace("float model_score(const EW_FEATURE *x)", "float model_score_int16(const EW_FEATURE *x)")
    table = c_array("model_shifts", np.array(shifts), "uint8_t") if any(shifts) else ""
    shift = "model_shifts[i]" if any(shifts) else "0"
    return f"""\
{inner}
#include "int16.h"
{table}
static float model_score(const int32_t *x) {{
    EW_FEATURE seen[MODEL_FEATURES];
    for (int i = 0; i < MODEL_FEATURES; i++) {{
        seen[i] = ew_int16(x[i], {shift});
    }}
    return model_score_int16(seen);
}}
"""

"""The frame of a model that scores in float and, where that leaves the decision open, again in double precision.

Every kernel is written once (firmware/native/*.inc) and compiled for both. How far the float score may be off is found
here, model by model, with the rules of rounding-error analysis (Higham, Accuracy and Stability of Numerical Algorithms,
chapter 3): a sum of n products is off by at most n roundings of the sum of their magnitudes.
"""

from dataclasses import dataclass

import numpy as np

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array, c_float, float_above, nearest_float
from model_export.detectors.scaling import Affine

ROUNDING = 2.0**-24  # of one float operation, relative
# The bounds are of first order, and laid around the threshold instead of around the exact score.
_SAFETY = 2.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """One .inc file in use. `call` is its argument list after `z, MODEL_FEATURES`, naming the arrays of `tables`.

    guard: bound on the error of the float score near the threshold. reach: the largest coordinate for which it holds,
    or None when being near the threshold is enough.
    """

    name: str
    defines: str
    tables: str
    call: str
    guard: float
    reach: float | None = None


def c_model(kernel: Kernel, affine: Affine, threshold: float) -> str:
    """The complete model.h around a kernel."""
    center = np.rint(affine.offset)
    rest = (affine.offset - center) * affine.scale
    guard = float_above(min(kernel.guard * _SAFETY, 1e30))
    beyond = "" if kernel.reach is None else f" || ew_out_of_reach(z, MODEL_FEATURES, {c_float(kernel.reach)})"
    as_float = np.vectorize(nearest_float, otypes=[np.float64])
    return f"""\
#include <stdint.h>
#include "decide.h"
#include "exp_log.h"
#include "standardise.h"
#define MODEL_FEATURES {len(center)}
{kernel.defines}
#include "real_float.h"
#include "{kernel.name}.inc"
#include "real_double.h"
#include "{kernel.name}.inc"

{c_array("model_center", center, "int32_t")}
{c_array("model_scale_f", as_float(affine.scale), "float")}
{c_array("model_rest_f", as_float(rest), "float")}
{c_array("model_offset", affine.offset, "double")}
{c_array("model_scale", affine.scale, "double")}
{kernel.tables}

static float model_score(const int32_t *x) {{
    const float threshold = {c_float(threshold)};
    float z[MODEL_FEATURES];
    ew_standardise_f(x, model_center, model_scale_f, model_rest_f, MODEL_FEATURES, z);
    float score = ew_{kernel.name}_f(z, MODEL_FEATURES, {kernel.call});
    if (ew_in_doubt(score, threshold, {c_float(guard)}){beyond}) {{
        double precise[MODEL_FEATURES];
        ew_standardise_d(x, model_offset, model_scale, MODEL_FEATURES, precise);
        return ew_decide(ew_{kernel.name}_d(precise, MODEL_FEATURES, {kernel.call}), threshold);
    }}
    return score;
}}
"""


def input_error(affine: Affine, largest: Vectors) -> Vectors:
    """How far z may be off in float where |z| <= largest, (n,): one rounding each of difference, scale, product, rest
    and subtraction."""
    rest = (affine.offset - np.rint(affine.offset)) * affine.scale
    return ROUNDING * (4 * largest + 3 * np.abs(rest))


def reach_of(affine: Affine, seen: Windows) -> float:
    """A coordinate that 99 of 100 windows stay below in every feature: the rest are scored in double precision."""
    largest = np.abs((seen - affine.offset) * affine.scale).max(axis=1)
    return float_above(float(np.quantile(largest, 0.99)))


def settled(values: Vectors) -> Vectors:
    """Values rounded to float32, as float64."""
    return values.astype(np.float32).astype(np.float64)

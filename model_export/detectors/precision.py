"""The frame of a model that scores in float and, where that leaves the decision open, again in double precision.

Every kernel is written once (firmware/native/*.inc) and compiled for both. How far the float score may be off is found
here, model by model, with the rules of rounding-error analysis (Higham, Accuracy and Stability of Numerical Algorithms,
chapter 3): a sum of n products is off by at most n roundings of the sum of their magnitudes.
"""

from dataclasses import dataclass

import numpy as np

from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array, c_float, float_above, nearest_float
from model_export.detectors.numbers import INT16
from model_export.detectors.scaling import Affine

ROUNDING = 2.0**-24  # of one float operation, relative
# The bounds are of first order, and laid around the threshold instead of around the exact score.
_SAFETY = 2.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """One .inc file in use. `call` is its argument list after `z, MODEL_FEATURES`, naming the arrays of `tables`.

    guard: bound on the error of the float score near the threshold. reach: the largest coordinate for which it holds,
    or None when being near the threshold is enough. unit: of z, and square: of what the kernel returns, where it works
    in whole multiples of them; powers of two.
    """

    name: str
    defines: str
    tables: str
    call: str
    guard: float
    reach: float | None = None
    unit: float = 1.0
    square: float = 1.0


def c_model(kernel: Kernel, affine: Affine, threshold: float, dtype: str) -> str:
    """The complete model.h around a kernel."""
    affine = Affine(affine.offset, affine.scale / kernel.unit)
    factor = "" if kernel.square == 1.0 else f" * {c_float(kernel.square)}"
    center = np.rint(affine.offset)
    rest = (affine.offset - center) * affine.scale
    guard = float_above(min(kernel.guard * _SAFETY, 1e30))
    beyond = "" if kernel.reach is None else f" || ew_out_of_reach(z, MODEL_FEATURES, {c_float(kernel.reach)})"
    as_float = np.vectorize(nearest_float, otypes=[np.float64])
    return f"""\
{type_defines(dtype)}#include "decide.h"
#include "exp_log.h"
#include "standardise.h"
#define MODEL_FEATURES {len(center)}
{kernel.defines}
{kernel.tables}
#include "real_float.h"
#include "{kernel.name}.inc"
#include "real_double.h"
#include "{kernel.name}.inc"

{c_array("model_center", center, "int32_t")}
{c_array("model_scale_f", as_float(affine.scale), "float")}
{c_array("model_rest_f", as_float(rest), "float")}
{c_array("model_offset", affine.offset, "double")}
{c_array("model_scale", affine.scale, "double")}

static float model_score(const EW_FEATURE *x) {{
    const float threshold = {c_float(threshold)};
    float z[MODEL_FEATURES];
    ew_standardise_f(x, model_center, model_scale_f, model_rest_f, MODEL_FEATURES, z);
    float score = ew_{kernel.name}_f(z, MODEL_FEATURES, {kernel.call}){factor};
    if (ew_in_doubt(score, threshold, {c_float(guard)}){beyond}) {{
        double precise[MODEL_FEATURES];
        ew_standardise_d(x, model_offset, model_scale, MODEL_FEATURES, precise);
        return ew_decide(ew_{kernel.name}_d(precise, MODEL_FEATURES, {kernel.call}){factor}, threshold);
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


def type_defines(dtype: str) -> str:
    """The first lines of a model.h: what its features and tables are."""
    return "#include <stdint.h>\n" + (
        "#define EW_FEATURE int16_t\n#define EW_TABLE int16_t\n" if dtype == INT16 else ""
    )


def ellipsoid_error(factor: Vectors, mean: Vectors, affine: Affine, square: float) -> float:
    """Bound on the error of |(z - mean) @ factor|**2 in float where it is at most `square`.

    z then lies in an ellipsoid, whose extent along each axis bounds every term.
    """
    n = len(mean)
    extent = np.sqrt(square * np.sum(np.linalg.inv(factor) ** 2, axis=0))
    distance_error = input_error(affine, extent + np.abs(mean)) + ROUNDING * extent
    y_error = np.abs(factor).T @ (distance_error + (n + 1) * ROUNDING * extent)
    return 2 * float(np.sqrt(square)) * float(np.linalg.norm(y_error)) + (n + 2) * ROUNDING * square

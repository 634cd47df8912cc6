"""EllipticEnvelope: the squared Mahalanobis distance to a robust centre, by emlearn's inline C."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.covariance import EllipticEnvelope

from contract.table import TableError
from model_export import table
from model_export.detectors import emlearn_code
from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import c_array, c_float, float_above
from model_export.detectors.numbers import FLOAT32, INT16, grid
from model_export.detectors.precision import ROUNDING, Kernel, c_model, ellipsoid_error, type_defines
from model_export.detectors.scaling import Affine, fold
from model_export.errors import ModelError

# Above this condition scikit-learn's own double precision no longer settles the distance to one part in a million.
MAX_CONDITION = 1e9
# emlearn writes constants with six digits after the point. In coordinates whose spread is 2**-_SHRINK the entries of
# the precision matrix grow by 4**_SHRINK, and what six digits cut off falls below the rounding of a float.
_SHRINK = 6
# An int16 mean is off by at most half a step of 2**-10 of its feature's spread.
_MEAN_BITS = 10


class Elliptic:
    """Score: squared Mahalanobis distance; threshold > 0."""

    name = "elliptic-envelope"
    estimators = (EllipticEnvelope,)
    supervised = False
    table_dtype = INT16

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        # scikit-learn fits the densest half by default. Sensors rest on a few values most of the time, and a half of
        # their data can be nearly flat: on shuttle F1 is .77 with one half, .93 with nine tenths.
        chosen: dict[str, Any] = {"support_fraction": 0.9, "random_state": seed} | settings
        return EllipticEnvelope(**chosen).fit(vectors)

    def settle(self, estimator: EllipticEnvelope, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        """Nothing in float32: the matrix is kept in double. In int16 its Cholesky factor is, and the mean."""
        if dtype == INT16:
            settle_int16(estimator, fold(list(scalers), estimator.n_features_in_))

    def scores(self, estimator: EllipticEnvelope, values: Vectors) -> Vectors:
        return -estimator.score_samples(values)

    def c_source(
        self, estimator: EllipticEnvelope, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        affine = fold(scalers, estimator.n_features_in_)
        if dtype == INT16:
            return _int16_source(estimator, affine, threshold)
        precision = np.asarray(estimator.get_precision()) * np.outer(affine.scale, affine.scale)
        location = estimator.location_ / affine.scale + affine.offset
        spread = 1.0 / np.sqrt(np.diag(precision))
        check_condition(precision * np.outer(spread, spread))

        exponent = -np.round(np.log2(spread)) - _SHRINK
        scale = np.exp2(exponent)
        center = np.rint(location)
        rest = location - center
        shrunk = _Shrunk(rest * scale, precision / np.outer(scale, scale))
        n = len(center)
        return f"""\
#include <stdint.h>
#include "decide.h"
#include "quadratic.h"
#include "standardise.h"
{emlearn_code.envelope(shrunk, "model_envelope")}
#define MODEL_FEATURES {n}
{c_array("model_center", center, "int32_t")}
{c_array("model_scale", scale, "float")}
{c_array("model_rest", rest, "double")}
{c_array("model_precision", precision, "double")}
static float model_score(const EW_FEATURE *x) {{
    const float threshold = {c_float(threshold)};
    float z[MODEL_FEATURES];
    for (int i = 0; i < MODEL_FEATURES; i++) {{
        z[i] = (float)ew_difference(x[i], model_center[i]) * model_scale[i];
    }}
    float distance = model_envelope_predict(z, MODEL_FEATURES);
    if (ew_in_doubt(distance, threshold, {c_float(float_above(threshold * guard(shrunk.precision)))})) {{
        return ew_decide(ew_quadratic_d(x, model_center, model_rest, model_precision, MODEL_FEATURES), threshold);
    }}
    return distance;
}}
"""

    def table(
        self, estimator: Any, scalers: list[Any], threshold: float, shifts: list[int], base: bytes | None = None
    ) -> bytes:
        if base:
            raise ModelError("unsupported", "the table of a Gaussian has no trees to keep: leave out --base")
        affine = fold(scalers, estimator.n_features_in_)
        return table.gaussian(**_on_grids(estimator, affine), shifts=shifts, threshold=threshold)


def _on_grids(estimator: Any, affine: Affine) -> dict[str, Any]:
    """A settled estimator as table.integers takes it, all but the threshold."""
    exponent = np.rint(np.log2(estimator.int16_scale_ * affine.scale))
    bits = fractions(exponent)
    return {
        "factor": estimator.int16_factor_,
        "mean": (affine.offset + estimator.location_ / affine.scale) * np.exp2(bits),
        "fractions": bits,
        "exponent": 2 * int(bits[0] - exponent[0] - np.log2(estimator.int16_unit_)),
    }


def settle_int16(estimator: Any, affine: Affine) -> None:
    """Puts the precision matrix on int16, L L' with L whole multiples of a unit, and the mean on whole steps.

    Both in coordinates of about unit spread, powers of two of a count of the feature, which `affine` maps to what the
    estimator takes: so a table blob has nothing to round. A matrix rounded entry by entry may have no inverse any more;
    a product of factors stays a squared length. The factor is kept with the estimator, where `_int16_source` finds it.
    """
    precision = np.asarray(estimator.get_precision())
    exponent = np.round(np.log2(np.diag(precision) * affine.scale**2) / 2)
    scale = np.exp2(exponent) / affine.scale
    spread = 1.0 / np.sqrt(np.diag(precision))
    check_condition(precision * np.outer(spread, spread))
    factor, unit = grid(np.linalg.cholesky(precision / np.outer(scale, scale)).astype(np.float64))
    step = np.exp2(-fractions(exponent))
    mean = np.rint((affine.offset + estimator.location_ / affine.scale) / step) * step
    estimator.int16_factor_, estimator.int16_unit_, estimator.int16_scale_ = factor, float(unit), scale
    estimator.precision_ = (factor @ factor.T) * unit**2 * np.outer(scale, scale)
    estimator.location_ = (mean - affine.offset) * affine.scale


def fractions(exponent: Vectors) -> Vectors:
    """Bits of a count, 0 or more, that the steps of each mean have, so that a step is the same part of each spread,
    2**-exponent counts: whole counts where that is widest, and 2**-10 of a spread at most."""
    return exponent + max(_MEAN_BITS, -float(exponent.min()))


def _int16_source(estimator: Any, affine: Affine, threshold: float) -> str:
    """In integers alone where a table blob could hold it: with no float of a chip without a unit for them it is a tenth
    as large and five times as fast. Else in float and, in doubt, in double."""
    try:
        return _integer_source(table.integers(**_on_grids(estimator, affine), threshold=threshold), threshold)
    except (ModelError, TableError):
        return _float_source(estimator, affine, threshold)


def _integer_source(made: "table.Integers", threshold: float) -> str:
    return f"""\
{type_defines(INT16)}#include "gaussian.h"
#define MODEL_FEATURES {len(made.mean)}
{c_array("model_factor", made.factor, "int16_t")}
{c_array("model_mean", made.mean, "int32_t")}
{c_array("model_fractions", made.fractions, "uint8_t")}
static float model_score(const EW_FEATURE *x) {{
    int32_t steps[MODEL_FEATURES];
    for (int i = 0; i < MODEL_FEATURES; i++) {{
        steps[i] = ((int32_t)x[i] * ((int32_t)1 << model_fractions[i])) - model_mean[i];
    }}
    return ew_gaussian_score(
        steps, model_factor, MODEL_FEATURES, {made.limit}ull, {made.exponent}, {table.float_bits(threshold)}u);
}}
"""


def _float_source(estimator: Any, affine: Affine, threshold: float) -> str:
    factor, unit = estimator.int16_factor_, estimator.int16_unit_
    n = len(factor)
    whole = affine.then(Affine(estimator.location_, estimator.int16_scale_))
    kernel = Kernel(
        name="ellipsoid",
        defines="",
        tables=c_array("model_factor", np.concatenate([factor[j:, j] for j in range(n)]), "int16_t"),
        call="model_factor",
        guard=ellipsoid_error(factor * unit, np.zeros(n), whole, threshold),
        square=unit * unit,
    )
    return c_model(kernel, whole, threshold, INT16)


class _Shrunk:
    """The fitted envelope in the board's coordinates, as emlearn's converter reads one."""

    def __init__(self, location: Vectors, precision: Vectors) -> None:
        self.location_ = location
        self.precision = precision
        self.offset_ = 0.0

    def get_precision(self) -> Vectors:
        return self.precision


def check_condition(precision: Vectors) -> None:
    """Raises ModelError(bad-model) when a precision matrix of unit diagonal is too near to singular."""
    condition = float(np.linalg.cond(precision))
    if not condition <= MAX_CONDITION:
        raise ModelError(
            "bad-model",
            f"the features determine each other (condition {condition:.0e}, at most {MAX_CONDITION:.0e}): "
            "leave out those that say the same, such as mean, min and max of a window of one sample",
        )


def guard(precision: Vectors) -> float:
    """Bound on the relative error of a float32 evaluation of d' P d, n*n products summed in order.

    The sum is wrong by at most (2n + 8) roundings of sum |d_i||P_ij||d_j| <= norm(|P|) |d|**2, and d' P d itself is at
    least the least eigenvalue x |d|**2 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Doubled,
    as the band is laid around the threshold and not around the exact distance. Beyond 1/4 the bound says nothing: the
    whole range is then in doubt.
    """
    n = len(precision)
    eigenvalues = np.linalg.eigvalsh(precision)
    spread = float(np.linalg.norm(np.abs(precision), 2) / eigenvalues[0])
    bound = 2 * (2 * n + 8) * ROUNDING * spread
    return bound if 0 <= bound < 0.25 else 1e20

"""Tree ensembles as integers: thresholds become integer cuts, leaves become entries of one table of values.

A node of scikit-learn sends x left when float32(scaled x) <= threshold. On an integer feature that is x < cut, with the
cut found here per node by asking scikit-learn's own scaler and rounding; the compiled trees hold no float at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.table import EXP2
from model_export.detectors import scaling
from model_export.detectors.arrays import Vectors
from model_export.detectors.ctext import c_array, c_float
from model_export.detectors.numbers import LIMIT

_LOWEST, _HIGHEST = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True)
class IntegerTree:
    """One tree in preorder, as scikit-learn keeps it. All (nodes,), int64.

    left, right: index of the child, -1 in leaves; feature and cut: of inner nodes, x[feature] < cut goes left;
    value: of leaves, index into Ensemble.values.
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]
    value: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees whose leaf values are summed in order; the window is anomalous when the sum exceeds `limit`.

    values: float64, ascending and distinct. The score is sum * scale, or 2 ** (sum * scale), as `shape` says
    (contract.table.LINEAR, EXP2); scale: float32-exact.
    """

    trees: list[IntegerTree]
    values: Vectors
    n_features: int
    limit: float
    shape: int
    scale: float

    @property
    def score_of_sum(self) -> str:
        """C expression of the float score in terms of `float sum`."""
        linear = f"sum * {c_float(self.scale)}"
        return f"ew_exp2_f({linear})" if self.shape == EXP2 else linear


def integer_trees(
    trees: list[Any],
    columns: list[npt.NDArray[np.intp]],
    leaf_values: list[Vectors],
    scalers: list[Any],
    n_features: int,
) -> tuple[list[IntegerTree], Vectors]:
    """(trees, distinct leaf values) of sklearn.tree._tree.Tree objects.

    columns: for each tree the feature that each of its columns is; leaf_values: for each tree a value per node.
    """
    values = np.unique(np.concatenate([v[t.children_left < 0] for t, v in zip(trees, leaf_values, strict=True)]))
    made = []
    for tree, names, value in zip(trees, columns, leaf_values, strict=True):
        inner = tree.children_left >= 0
        feature = np.where(inner, names[np.where(inner, tree.feature, 0)], 0)
        cut = np.zeros(len(inner), dtype=np.int64)
        cut[inner] = integer_cuts(tree.threshold[inner], feature[inner], scalers, n_features)
        at = np.where(inner, 0, np.searchsorted(values, value))
        made.append(IntegerTree(tree.children_left.copy(), tree.children_right.copy(), feature, cut, at))
    return made, values


def within_int16(ensemble: Ensemble) -> Ensemble:
    """The ensemble for int16 features: a cut that lies beyond every one of them goes to the end of int16, where it
    decides them alike and does not wrap."""
    trees = [replace(tree, cut=np.clip(tree.cut, -LIMIT, LIMIT)) for tree in ensemble.trees]
    return replace(ensemble, trees=trees)


def integer_cuts(
    thresholds: Vectors, features: npt.NDArray[np.int64], scalers: list[Any], n_features: int
) -> npt.NDArray[np.int64]:
    """For each (threshold, feature) the least integer x with float32(scale(x)) > threshold; int64 (n,).

    2**31 - 1 where no smaller integer is above: features end far below. Scalers rise with x, so halving finds it.
    """
    low = np.full(len(thresholds), _LOWEST, dtype=np.int64)
    high = np.full(len(thresholds), _HIGHEST, dtype=np.int64)
    while np.any(low < high):
        middle = (low + high) >> 1
        above = _scaled(middle, features, scalers, n_features) > thresholds
        high = np.where(above, middle, high)
        low = np.where(above, low, middle + 1)
        low = np.minimum(low, high)
    return high


def _scaled(
    x: npt.NDArray[np.int64], features: npt.NDArray[np.int64], scalers: list[Any], n_features: int
) -> npt.NDArray[np.float32]:
    """float32(scale(x)) of x as the given feature: what a tree of scikit-learn compares."""
    if not scalers:
        return x.astype(np.float64).astype(np.float32)
    rows = np.repeat(x.astype(np.float64)[:, None], n_features, axis=1)
    return scaling.transform(scalers, rows)[np.arange(len(x)), features].astype(np.float32)


def fraction_bits(ensemble: Ensemble) -> int:
    """Bits after the point of the integer sum: as many, up to 20, as keep it within int32."""
    largest = float(np.abs(ensemble.values).max()) * len(ensemble.trees) + abs(ensemble.limit)
    return int(min(20, np.floor(np.log2(2.0**30 / max(largest, 1e-9)))))


def c_tail(ensemble: Ensemble, threshold: float, leaf_of_tree: str) -> str:
    """Tables and `model_score` for an ensemble; `leaf_of_tree` is C that fills `leaves[MODEL_TREES]` from `x`."""
    bits = fraction_bits(ensemble)
    unit = 2.0**bits
    index_type = "uint8_t" if len(ensemble.values) <= 256 else "uint16_t"
    limit = int(np.clip(np.floor(ensemble.limit * unit), -(2**31) + 2**20, 2**31 - 2**20))
    return f"""\
#define MODEL_TREES {len(ensemble.trees)}
{c_array("model_units", np.rint(ensemble.values * unit), "int32_t")}
{c_array("model_values", ensemble.values, "double")}

static float model_score(const EW_FEATURE *x) {{
    {index_type} leaves[MODEL_TREES];
    {leaf_of_tree}
    int32_t units = 0;
    for (int i = 0; i < MODEL_TREES; i++) {{
        units += model_units[leaves[i]];
    }}
    int anomalous = units > {limit};
    if (ew_forest_in_doubt(units, {limit}, MODEL_TREES)) {{
        double precise = 0.0;
        for (int i = 0; i < MODEL_TREES; i++) {{
            precise += model_values[leaves[i]];
        }}
        anomalous = precise > {float(ensemble.limit).hex()};
    }}
    float sum = (float)units * {c_float(1 / unit)};
    return ew_forest_side({ensemble.score_of_sum}, {c_float(threshold)}, anomalous);
}}
"""


def exact_limit(score_of_sum: Callable[[float], float], threshold: float, low: float, high: float) -> float:
    """The largest double s in [low, high] with score_of_sum(s) <= threshold, by halving; `score_of_sum` rises.

    It is asked with scikit-learn's own arithmetic, so that `sum > limit` is its decision to the last bit.
    """
    if score_of_sum(low) > threshold:
        return float(np.nextafter(low, -np.inf))
    if score_of_sum(high) <= threshold:
        return high
    while np.nextafter(low, np.inf) < high:
        middle = low + (high - low) / 2
        if not low < middle < high:
            break
        if score_of_sum(middle) <= threshold:
            low = middle
        else:
            high = middle
    return float(low)

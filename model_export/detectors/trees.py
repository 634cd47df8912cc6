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
_GROUP_NODES = 2000


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


@dataclass(frozen=True, slots=True)
class Units:
    """The leaf values as the integers that compiled trees return, in units of 2**-bits of what `shape` is applied to.

    of_value: int32 range, ascending and distinct, one for each of Ensemble.values, so that a unit names its value;
    limit: Ensemble.limit in units; open: how far from it the sum of all trees leaves the decision open.
    """

    of_value: list[int]
    bits: int
    limit: int
    open: int


def units_of(ensemble: Ensemble) -> Units:
    """The units of an ensemble: as fine as lets every sum stay within 2**30."""
    trees = len(ensemble.trees)
    scale = ensemble.scale
    largest = (float(np.abs(ensemble.values).max()) * trees + abs(ensemble.limit)) * scale
    bits = int(np.clip(np.floor(np.log2(2.0**30 / max(largest, 1e-9))), 1, 30))
    exact = ensemble.values * (scale * 2.0**bits)
    found: list[int] = []
    for value in np.rint(exact).astype(np.int64).tolist():
        found.append(max(value, found[-1] + 1) if found else value)  # values closer than a unit are told apart
    off = float(np.abs(np.array(found) - exact).max())
    limit = int(np.floor(ensemble.limit * scale * 2.0**bits))
    return Units(found, bits, limit, int(np.ceil(off * trees)) + 2)


def c_tail(ensemble: Ensemble, threshold: float, tree: str) -> str:
    """Tables and `model_score` for an ensemble whose trees are C functions TREE_0 to TREE_N that return units."""
    units = units_of(ensemble)
    groups = _groups(ensemble.trees)
    features = ", ".join(f"x[{i}]" for i in range(ensemble.n_features))
    functions = ""
    calls = ""
    for number, group in enumerate(groups):
        steps = "\n    ".join(f"sums[{i}] = sum += {tree}_{i}(f, MODEL_FEATURES);" for i in group)
        functions += f"""
static int32_t __attribute__((noinline, flatten)) model_trees_{number}(const EW_FEATURE *x, int32_t *sums,
    int32_t sum) {{
    const int32_t f[MODEL_FEATURES] = {{{features}}};
    {steps}
    return sum;
}}
"""
        calls += f"    sum = model_trees_{number}(x, sums, sum);\n"
    shape = "ew_forest_exp2" if ensemble.shape == EXP2 else "ew_forest_linear"
    return f"""\
#define MODEL_TREES {len(ensemble.trees)}
#define MODEL_VALUES {len(ensemble.values)}
{c_array("model_units", np.array(units.of_value), "int32_t")}
{c_array("model_values", ensemble.values, "double")}

// The trees become one run of comparisons (flatten) over features held in registers.{functions}
static float model_score(const EW_FEATURE *x) {{
    int32_t sums[MODEL_TREES]; // of the trees up to each
    int32_t sum = 0;
{calls}    int anomalous = sum > {units.limit};
    if (ew_forest_in_doubt(sum, {units.limit}, {units.open})) {{
        anomalous = ew_forest_sum_of(sums, MODEL_TREES, model_units, model_values, MODEL_VALUES)
            > {float(ensemble.limit).hex()};
    }}
    return ew_forest_side({shape}(sum, {units.bits}), {c_float(threshold)}, anomalous);
}}
"""


def _groups(trees: list[IntegerTree]) -> list[range]:
    """Runs of trees that become one function each: what a compiler takes for one grows faster than its size."""
    groups: list[range] = []
    start = nodes = 0
    for i, tree in enumerate(trees):
        if i > start and nodes + len(tree.left) > _GROUP_NODES:
            groups.append(range(start, i))
            start, nodes = i, 0
        nodes += len(tree.left)
    return [*groups, range(start, len(trees))]


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

"""Tree ensembles: isolation forests, and classifiers where anomalies are labelled.

Every tree becomes one C function by emlearn's inline generator, told that leaves are classes and their numbers what
they add to the score: so its comparisons serve a forest it does not know, and classifiers whose leaves it would round.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesClassifier, IsolationForest, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from contract.table import EXP2, LINEAR
from model_export import table
from model_export.detectors import emlearn_code, scaling, trees
from model_export.detectors.arrays import Vectors, Windows
from model_export.detectors.ctext import nearest_float
from model_export.detectors.numbers import FLOAT32
from model_export.detectors.trees import Ensemble, IntegerTree, within_int16
from model_export.errors import ModelError


class _Forest:
    """What ensembles share: nothing to settle, and C from integer trees."""

    table_dtype = FLOAT32

    def settle(self, estimator: Any, dtype: str = FLOAT32, scalers: Sequence[Any] = ()) -> None:
        """Nothing: cuts are integers, leaf values stay double."""

    def ensemble(self, estimator: Any, scalers: list[Any], threshold: float) -> Ensemble:
        raise NotImplementedError

    def c_source(
        self, estimator: Any, scalers: list[Any], threshold: float, seen: Windows, dtype: str = FLOAT32
    ) -> str:
        # The numbers are int16, the comparisons stay int32: those of int16 took 1 to 8 % more code on x64, rv32imc and
        # armv7emsp, as a chip compares whole registers.
        ensemble = self.ensemble(estimator, scalers, threshold)
        return inline_source(ensemble if dtype == FLOAT32 else within_int16(ensemble), threshold)

    def table(
        self, estimator: Any, scalers: list[Any], threshold: float, shifts: list[int], base: bytes | None = None
    ) -> bytes:
        return table.forest(self.ensemble(estimator, scalers, threshold), threshold, base)


class Isolation(_Forest):
    """Score: -score_samples, between 0 and 1; the sum is of minus the depths."""

    name = "isolation-forest"
    estimators = (IsolationForest,)
    supervised = False

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        scalers, others = scaling.scaler_of(settings, default="none")
        core = IsolationForest(**({"n_estimators": 50, "max_samples": 128, "random_state": seed} | others))
        return scaling.fit_scaled(scalers, core, vectors)

    def scores(self, estimator: IsolationForest, values: Vectors) -> Vectors:
        return -estimator.score_samples(values)

    def ensemble(self, estimator: IsolationForest, scalers: list[Any], threshold: float) -> Ensemble:
        # The parts and the order of scikit-learn's sum (IsolationForest._compute_score_samples), its sign changed.
        depths = [
            estimator._decision_path_lengths[i] + estimator._average_path_length_per_tree[i] - 1.0
            for i in range(len(estimator.estimators_))
        ]
        n = estimator.n_features_in_
        made, values = trees.integer_trees(
            [tree.tree_ for tree in estimator.estimators_],
            list(estimator.estimators_features_),
            [-depth for depth in depths],
            scalers,
            n,
        )
        scale = len(made) * _average_path_length(estimator)

        def score_of(total: float) -> float:
            return float(2 ** (-np.divide(np.array([-total]), scale))[0])

        limit = trees.exact_limit(score_of, threshold, -64.0 * len(made), 0.0)
        return Ensemble(made, values, n, limit, EXP2, nearest_float(1.0 / scale))


class _Classifier(_Forest):
    """Score: share of the anomalous class, as predict_proba gives it."""

    supervised = True
    kind: type
    defaults: Mapping[str, Any]

    def fit(
        self,
        vectors: Vectors,
        labels: npt.NDArray[np.bool_] | None,
        seed: int,
        settings: dict[str, Any],
    ) -> Any:
        if labels is None or not labels.any() or labels.all():
            raise ModelError(
                "bad-data",
                f"{self.kind.__name__} learns from labels, and the training part has no anomalous window: name the "
                "label column with --label, train on a part that holds anomalies, or choose isolation-forest",
            )
        scalers, others = scaling.scaler_of(settings, default="none")
        core = self.kind(**({**self.defaults, "random_state": seed, **others}))
        return scaling.fit_scaled(scalers, core, vectors, labels)

    def scores(self, estimator: Any, values: Vectors) -> Vectors:
        return np.ascontiguousarray(estimator.predict_proba(values)[:, 1])

    def ensemble(self, estimator: Any, scalers: list[Any], threshold: float) -> Ensemble:
        if len(estimator.classes_) != 2:
            raise ModelError("unsupported", f"{len(estimator.classes_)} classes: anomalous and normal are two")
        parts = [tree.tree_ for tree in getattr(estimator, "estimators_", [estimator])]
        n = estimator.n_features_in_
        made, values = trees.integer_trees(
            parts, [np.arange(n)] * len(parts), [tree.value[:, 0, 1] for tree in parts], scalers, n
        )
        count = len(parts)

        def score_of(total: float) -> float:
            return total / count

        limit = trees.exact_limit(score_of, threshold, 0.0, float(count))
        return Ensemble(made, values, n, limit, LINEAR, nearest_float(1.0 / count))


class Forest(_Classifier):
    name = "random-forest"
    estimators = (RandomForestClassifier,)
    kind = RandomForestClassifier
    defaults = MappingProxyType({"n_estimators": 20, "max_depth": 8, "class_weight": "balanced"})


class ExtraTrees(_Classifier):
    name = "extra-trees"
    estimators = (ExtraTreesClassifier,)
    kind = ExtraTreesClassifier
    defaults = MappingProxyType({"n_estimators": 20, "max_depth": 8, "class_weight": "balanced"})


class Tree(_Classifier):
    name = "decision-tree"
    estimators = (DecisionTreeClassifier,)
    kind = DecisionTreeClassifier
    defaults = MappingProxyType({"max_depth": 6, "class_weight": "balanced"})


def inline_source(ensemble: Ensemble, threshold: float) -> str:
    """model.h with every tree as nested comparisons: the fastest form, 3 to 6 bytes of code a node."""
    name = "model_forest"
    nodes, roots = emlearn_nodes(ensemble.trees)
    leaves = trees.units_of(ensemble).of_value
    functions = emlearn_code.trees(nodes, roots, leaves, ensemble.n_features, name)
    return f"""\
#include <stdint.h>
#include "forest.h"
#include "standardise.h"
#define MODEL_FEATURES {ensemble.n_features}
// emlearn adds a majority vote over the leaves. Declared static it is not used, and not compiled.
static int32_t {name}_predict(const int32_t *features, int32_t features_length);
{functions}
{trees.c_tail(ensemble, threshold, f"{name}_tree")}"""


def emlearn_nodes(made: list[IntegerTree]) -> tuple[list[list[int]], list[int]]:
    """(nodes [feature, cut, left, right], roots) of all trees; a child that is a leaf is -1 - its value."""
    nodes: list[list[int]] = []
    roots: list[int] = []
    for tree in made:
        roots.append(len(nodes))
        inner = np.flatnonzero(tree.left >= 0)
        if not len(inner):  # a tree that is one leaf
            leaf = -1 - int(tree.value[0])
            nodes.append([0, 0, leaf, leaf])
            continue
        place = {int(node): len(nodes) + i for i, node in enumerate(inner)}
        for node in inner:
            children = [
                place[int(child)] if tree.left[child] >= 0 else -1 - int(tree.value[child])
                for child in (tree.left[node], tree.right[node])
            ]
            nodes.append([int(tree.feature[node]), int(tree.cut[node]), *children])
    return nodes, roots


def _average_path_length(estimator: IsolationForest) -> float:
    """What scikit-learn divides the mean depth by."""
    from sklearn.ensemble._iforest import _average_path_length as average

    return float(average([estimator._max_samples])[0])

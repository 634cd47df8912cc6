"""A forest that keeps most of an earlier one's trees: the oldest go, as many are fitted anew and come last.

A full refit shares no tree with the forest before it, so its patch is as long as its table. Whole trees that stay cost
a patch next to nothing (contract/patch_forest.py).
"""

import copy
from typing import Any

from sklearn.ensemble import ExtraTreesClassifier, IsolationForest, RandomForestClassifier

from model_export.detectors import scaling
from model_export.errors import ModelError

_KINDS = (IsolationForest, RandomForestClassifier, ExtraTreesClassifier)
# What an isolation forest keeps for each of its trees besides the trees.
_PER_TREE = ("estimators_features_", "_decision_path_lengths", "_average_path_length_per_tree")


def trees_of(estimator: Any) -> int:
    """How many trees a fitted forest has; raises ModelError(unsupported) for what is no forest or has a scaler."""
    scalers, core = scaling.split(estimator)
    if not isinstance(core, _KINDS):
        raise ModelError("unsupported", f"a {type(core).__name__} has no trees to keep: train it without --warm-from")
    if scalers:
        raise ModelError("unsupported", "a scaler fitted anew moves the cuts of every tree: train without one")
    return len(core.estimators_)


def renewed(old: Any, fresh: Any) -> Any:
    """The forest `old` with its oldest trees replaced by all those of `fresh`, which was fitted to newer data.

    Raises ModelError(unsupported) where the two do not go together.
    """
    if type(old) is not type(fresh):
        raise ModelError("unsupported", f"a {type(old).__name__} takes no trees of a {type(fresh).__name__}")
    count = len(fresh.estimators_)
    made = copy.copy(fresh)
    made.n_estimators = len(old.estimators_)
    made.estimators_ = [*old.estimators_[count:], *fresh.estimators_]
    if isinstance(fresh, IsolationForest):
        if old._max_samples != fresh._max_samples:
            raise ModelError(
                "unsupported",
                f"trees of {old._max_samples} windows and of {fresh._max_samples} do not make one score: set "
                "max_samples to a number that both recordings have",
            )
        for name in _PER_TREE:
            kept = getattr(old, name)[count:]
            setattr(made, name, type(kept)([*kept, *getattr(fresh, name)]))
    elif old.classes_.tolist() != fresh.classes_.tolist():
        raise ModelError("unsupported", "the two recordings do not have the same classes")
    return made

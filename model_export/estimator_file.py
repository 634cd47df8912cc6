"""Fitted scikit-learn estimators as one .npz file of arrays and JSON, without pickle.

A pickle runs code when it is read, and a model folder is passed between people. This file holds numbers: reading one
can build the classes listed in CLASSES and nothing else. It is written byte for byte the same for the same estimator.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.covariance import EllipticEnvelope, LedoitWolf
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, IsolationForest, RandomForestClassifier
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier, ExtraTreeRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

from model_export.errors import ModelError

CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        BayesianGaussianMixture,
        DecisionTreeClassifier,
        EllipticEnvelope,
        ExtraTreeClassifier,
        ExtraTreeRegressor,
        ExtraTreesClassifier,
        GaussianMixture,
        IsolationForest,
        KMeans,
        LabelBinarizer,
        LedoitWolf,
        MinMaxScaler,
        MLPRegressor,
        NearestNeighbors,
        OneClassSVM,
        PCA,
        Pipeline,
        RandomForestClassifier,
        RobustScaler,
        StandardScaler,
    )
}
# Needed to fit, not to score.
_LEFT_OUT = ("_random_state", "_optimizer", "_tree", "_rng", "loss_curve_", "validation_scores_")
# What the bytes of anything else make of reading an .npz with JSON.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,  # a zip file of another kind, JSON too deep
    zipfile.BadZipFile,
    zlib.error,
)


def save(path: Path, estimator: BaseEstimator) -> None:
    """Writes a fitted estimator; raises ModelError(unsupported) for a class or value that has no place in the file."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    text = json.dumps(_encode(estimator, arrays), sort_keys=True)
    buffer = io.BytesIO()
    named: dict[str, Any] = {"estimator": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
    np.savez_compressed(buffer, **named)
    path.write_bytes(buffer.getvalue())


def load(path: Path) -> Any:
    """The estimator in a file `save` wrote; raises ModelError(bad-model) for anything else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _decode(json.loads(arrays["estimator"].tobytes()), arrays)
    except UNREADABLE as error:
        raise ModelError("bad-model", f"{path} holds no estimator that can be read: {error}. Train it again") from None


def _encode(value: Any, arrays: dict[str, npt.NDArray[Any]]) -> Any:
    """`value` as JSON, its arrays put aside in `arrays` under running numbers."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item(), arrays)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return {"objects": [_encode(item, arrays) for item in value.ravel()], "shape": list(value.shape)}
        return {"array": _put(value, arrays)}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(item, arrays)] for key, item in value.items()]}
    if isinstance(value, Tree):
        return _encode_tree(value, arrays)
    if type(value).__name__ in CLASSES:
        state = {key: _encode(item, arrays) for key, item in sorted(vars(value).items()) if key not in _LEFT_OUT}
        return {"class": type(value).__name__, "state": state}
    raise ModelError(
        "unsupported", f"a model cannot hold a {type(value).__name__}: use one of {', '.join(sorted(CLASSES))}"
    )


def _encode_tree(tree: Any, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    _, (n_features, n_classes, n_outputs), state = tree.__reduce__()
    return {
        "tree": [int(n_features), _put(n_classes, arrays), int(n_outputs)],
        "max_depth": int(state["max_depth"]),
        "node_count": int(state["node_count"]),
        # Field by field: the record's padding bytes are whatever memory held.
        "nodes": {field: _put(state["nodes"][field], arrays) for field in state["nodes"].dtype.names},
        "values": _put(state["values"], arrays),
    }


def _put(value: npt.NDArray[Any], arrays: dict[str, npt.NDArray[Any]]) -> str:
    key = f"a{len(arrays)}"
    arrays[key] = value
    return key


def _check_tree(nodes: npt.NDArray[Any], n_features: int) -> None:
    """Raises ValueError for nodes that lead scikit-learn, which follows them in C unchecked, out of tree or window."""
    left, right, feature = (nodes[field].astype(np.int64) for field in ("left_child", "right_child", "feature"))
    inner = left != -1
    parents = np.flatnonzero(inner)
    for children in (left[inner], right[inner]):
        if not ((children > parents) & (children < len(nodes))).all():
            raise ValueError("a node of a tree has a child that is none")
    if not ((feature[inner] >= 0) & (feature[inner] < n_features)).all():
        raise ValueError("a node of a tree asks for a feature that is none")


def _decode(value: Any, arrays: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "class" in value:
        estimator = object.__new__(CLASSES[value["class"]])
        for key, item in value["state"].items():
            setattr(estimator, key, _decode(item, arrays))
        return estimator
    if "array" in value:
        return arrays[value["array"]]
    if "objects" in value:
        out = np.empty(len(value["objects"]), dtype=object)
        out[:] = [_decode(item, arrays) for item in value["objects"]]
        return out.reshape(value["shape"])
    if "tree" in value:
        n_features, n_classes, n_outputs = value["tree"]
        tree = Tree(n_features, arrays[n_classes], n_outputs)
        nodes = np.zeros(value["node_count"], dtype=NODE_DTYPE)
        for field, key in value["nodes"].items():
            nodes[field] = arrays[key]
        _check_tree(nodes, tree.n_features)
        state = {key: value[key] for key in ("max_depth", "node_count")}
        tree.__setstate__(state | {"nodes": nodes, "values": arrays[value["values"]]})
        return tree
    if "dict" in value:
        return {key: _decode(item, arrays) for key, item in value["dict"]}
    if "tuple" in value:
        return tuple(_decode(item, arrays) for item in value["tuple"])
    return [_decode(item, arrays) for item in value["list"]]

"""Estimators survive their file bit for bit, and a file can build nothing but estimators."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, IsolationForest, RandomForestClassifier
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

from model_export import estimator_file
from model_export.errors import ModelError

X = np.random.default_rng(0).normal(size=(120, 4))
Y = X[:, 0] > 1

CASES = [
    (EllipticEnvelope(random_state=0), "score_samples"),
    (IsolationForest(n_estimators=5, random_state=0), "score_samples"),
    (RandomForestClassifier(n_estimators=5, random_state=0), "predict_proba"),
    (ExtraTreesClassifier(n_estimators=5, random_state=0), "predict_proba"),
    (DecisionTreeClassifier(random_state=0), "predict_proba"),
    (GaussianMixture(n_components=2, random_state=0), "score_samples"),
    (BayesianGaussianMixture(n_components=2, random_state=0), "score_samples"),
    (MLPRegressor(hidden_layer_sizes=(3,), max_iter=2000, random_state=0), "predict"),
    (KMeans(n_clusters=3, random_state=0), "transform"),
    (PCA(n_components=2), "transform"),
    (OneClassSVM(nu=0.2), "score_samples"),
    (NearestNeighbors(algorithm="brute"), "kneighbors"),
    (make_pipeline(StandardScaler(), RobustScaler(), MinMaxScaler(), EllipticEnvelope(random_state=0)), "predict"),
]


@pytest.mark.parametrize(("estimator", "method"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_a_loaded_estimator_answers_as_the_saved_one(tmp_path: Path, estimator, method):
    estimator.fit(X, X) if isinstance(estimator, MLPRegressor) else estimator.fit(X, Y)
    path = tmp_path / "e.npz"
    estimator_file.save(path, estimator)
    written = path.read_bytes()
    loaded = estimator_file.load(path)
    assert np.array_equal(np.asarray(getattr(estimator, method)(X)), np.asarray(getattr(loaded, method)(X)))
    estimator_file.save(path, loaded)
    assert path.read_bytes() == written


def test_a_class_that_is_not_listed_is_neither_written_nor_built(tmp_path: Path):
    path = tmp_path / "e.npz"
    with pytest.raises(ModelError, match="cannot hold a SVC"):
        estimator_file.save(path, SVC().fit(X, Y))
    forged = json.dumps({"class": "Popen", "state": {}}).encode()
    np.savez(path, estimator=np.frombuffer(forged, dtype=np.uint8))
    with pytest.raises(ModelError) as caught:
        estimator_file.load(path)
    assert caught.value.code == "bad-model"


def test_a_file_with_pickled_objects_is_refused(tmp_path: Path):
    path = tmp_path / "e.npz"
    np.savez(path, estimator=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelError):
        estimator_file.load(path)


def test_cut_and_foreign_files_are_refused(tmp_path: Path):
    path = tmp_path / "e.npz"
    estimator_file.save(path, GaussianMixture(random_state=0).fit(X))
    whole = path.read_bytes()
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x", "y")
    for content in (b"", whole[: len(whole) // 2], b"not a zip", other.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ModelError):
            estimator_file.load(path)


@pytest.mark.parametrize(
    ("field", "value"), [("left_child", 0), ("right_child", 99), ("left_child", -7), ("feature", 4), ("feature", 2**40)]
)
def test_a_tree_that_would_lead_out_of_its_memory_is_refused(tmp_path: Path, field, value):
    path = tmp_path / "estimator.npz"
    estimator_file.save(path, DecisionTreeClassifier(random_state=0).fit(X, Y))
    with np.load(path) as saved:
        arrays = dict(saved)
    (key,) = re.findall(rf'"{field}": "(\w+)"', arrays["estimator"].tobytes().decode())
    arrays[key] = arrays[key].astype(np.int64)
    arrays[key][0] = value
    np.savez(path, **arrays)
    with pytest.raises(ModelError, match="a node of a tree"):
        estimator_file.load(path)

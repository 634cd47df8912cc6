"""Every detector, compiled, decides as scikit-learn does on all of a series and on points where decisions turn.

On rv32imc, as an ESP32-C3 runs it, it gives the bits of x64. `make soak` looks at more than 100,000 points on both.
"""

import json
import shutil

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import EllipticEnvelope, MinCovDet
from sklearn.decomposition import PCA, KernelPCA
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, RobustScaler, StandardScaler
from sklearn.svm import SVC

from model_export import detectors, parity, qemu
from model_export.detectors import scaling, trees
from model_export.detectors.forest import Isolation
from model_export.errors import ModelError
from model_export.model import Model, reference_scores
from model_export.train import Plan, train
from tests.model_export.conftest import make_series, module
from tests.support import shuttle

A_SLICE = parity.DEFAULT_POINTS  # as many as every export looks at


needs_qemu = pytest.mark.skipif(
    not qemu.available() or not shutil.which("riscv64-unknown-elf-gcc"),
    reason="needs qemu-system-misc, gcc-riscv64-unknown-elf and picolibc-riscv64-unknown-elf",
)


def compiled(model: Model, points: np.ndarray) -> parity.Parity:
    return parity.compare(model, points, parity.native_scores(module(model), points))


@pytest.mark.parametrize("name", list(detectors.DETECTORS))
def test_decisions_equal_those_of_scikit_learn(name, native_toolchain):
    model = shuttle.model(name)
    outcome = compiled(model, np.concatenate((shuttle.windows().features, parity.points_for(model, 10_000))))
    assert outcome.points > 65_000
    assert outcome.decisions_differing == 0
    assert outcome.largest_relative_difference < 1e-4
    assert model.card["test"]["f1"] > 0.9


def on_rv32imc(model: Model, points: np.ndarray) -> tuple[parity.Parity, bool]:
    """(parity of the rv32imc module in QEMU, whether its scores are x64's to the last bit)."""
    here = parity.native_scores(module(model), points)
    there = qemu.scores(module(model, "rv32imc"), points)
    return parity.compare(model, points, there), np.array_equal(here.view(np.int32), there.view(np.int32))


@needs_qemu
@pytest.mark.parametrize("name", list(detectors.DETECTORS))
def test_an_rv32imc_module_gives_the_bits_of_x64_and_the_decisions_of_scikit_learn(name, native_toolchain):
    model = shuttle.model(name)
    seen = np.concatenate((model.train, model.held_out))
    hard = parity.points_for(model, 800)[len(seen) :]
    outcome, same = on_rv32imc(model, np.concatenate((seen[::8], hard)))
    assert outcome.points > 1800
    assert outcome.decisions_differing == 0
    assert same


@needs_qemu
@pytest.mark.soak
@pytest.mark.timeout(1800)  # a one-class SVM takes 220 s of a core
@pytest.mark.parametrize("name", list(detectors.DETECTORS))
def test_an_rv32imc_module_does_over_100_000_points(name, native_toolchain):
    model = shuttle.full_model(name)
    # Where few lines meet an anomaly, as with a tree, fewer points are found than asked for.
    outcome, same = on_rv32imc(model, parity.points_for(model, 125_000))
    assert outcome.points > 100_000
    assert outcome.decisions_differing == 0
    assert same


@pytest.mark.parametrize("scaler", ["robust", "minmax", "none"])
@pytest.mark.parametrize("name", ["gaussian-mixture", "isolation-forest", "random-forest", "kmeans"])
def test_any_scaler_is_folded_into_the_model(name, scaler, native_toolchain):
    model = shuttle.model(name, scaler=scaler)
    outcome = compiled(model, parity.points_for(model, A_SLICE))
    assert outcome.decisions_differing == 0


def test_a_pipeline_of_several_scalers_is_folded_into_one(native_toolchain):
    alone = shuttle.model("elliptic-envelope")
    pipeline = make_pipeline(
        RobustScaler(), StandardScaler(with_mean=False), MinMaxScaler(), EllipticEnvelope(support_fraction=0.9)
    )
    model = Model(pipeline.fit(alone.train), alone.train, alone.held_out, alone.card)
    assert compiled(model, parity.points_for(model, A_SLICE)).decisions_differing == 0


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gaussian-mixture", {"covariance_type": "diag", "n_components": 5}),
        ("gaussian-mixture", {"covariance_type": "tied"}),
        ("gaussian-mixture", {"covariance_type": "spherical", "n_components": 1}),
        ("bayesian-mixture", {"covariance_type": "diag"}),
        ("isolation-forest", {"max_features": 0.5, "n_estimators": 7}),
        ("isolation-forest", {"max_samples": 4, "n_estimators": 3}),
        ("random-forest", {"max_depth": 2, "n_estimators": 2}),
        ("autoencoder", {"activation": "relu", "hidden_layer_sizes": [3]}),
        ("autoencoder", {"activation": "logistic"}),
        ("autoencoder", {"activation": "identity"}),
        ("nearest-neighbour", {"points": 3}),
        ("one-class-svm", {"nu": 0.01, "gamma": 0.5}),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else value,
)
def test_settings_change_the_model_and_not_the_agreement(name, settings, native_toolchain):
    model = shuttle.model(name, **settings)
    assert compiled(model, parity.points_for(model, A_SLICE)).decisions_differing == 0


@pytest.mark.parametrize("name", ["isolation-forest", "extra-trees"])
def test_scores_agree_at_the_exact_threshold_of_every_node(name, native_toolchain):
    model = shuttle.model(name)
    scalers, core = scaling.split(model.estimator)
    ensemble = detectors.DETECTORS[name].ensemble(core, scalers, model.threshold)  # type: ignore[attr-defined]
    nodes = [(f, c) for t in ensemble.trees for f, c in zip(t.feature[t.left >= 0], t.cut[t.left >= 0], strict=True)]
    rows = np.repeat(model.train[np.arange(len(nodes)) % len(model.train)], 3, axis=0)
    for i, (feature, cut) in enumerate(nodes):
        rows[3 * i : 3 * i + 3, feature] = (cut - 1, cut, cut + 1)
    outcome = compiled(model, rows)
    assert outcome.decisions_differing == 0
    assert outcome.largest_difference < 1e-6


def test_cuts_are_exact_where_float32_no_longer_holds_every_integer():
    thresholds = np.array([2.0**24 + 1, 2.0**28 + 20, -(2.0**26) - 3, 0.5, -0.5, 7.0])
    cuts = trees.integer_cuts(thresholds, np.zeros(6, dtype=np.int64), [], 1)
    for threshold, cut in zip(thresholds, cuts, strict=True):
        assert np.float32(cut) > threshold
        assert np.float32(cut - 1) <= threshold


def test_scores_are_scikit_learn_s_own():
    model = shuttle.model("isolation-forest")
    windows = model.held_out.astype(np.float64)
    assert np.array_equal(reference_scores(model.estimator, windows), -model.estimator.score_samples(windows))


def test_a_tree_that_is_one_leaf_is_compiled(native_toolchain):
    series = make_series(channels=1)
    model = train(series, Plan("m", "v1;w=1;c=a::100;f=last", "isolation-forest", {"n_estimators": 2}))
    for tree in model.estimator.estimators_[:1]:
        tree.fit(np.zeros((4, 1)), np.zeros(4))
    forest = model.estimator
    forest._average_path_length_per_tree, forest._decision_path_lengths = zip(
        *((np.ones(t.tree_.node_count), np.asarray(t.tree_.compute_node_depths())) for t in forest.estimators_),
        strict=True,
    )
    model = Model(forest, model.train, model.held_out, model.card | {"threshold": 0.5})
    assert compiled(model, model.train).decisions_differing == 0


def test_estimators_that_cannot_be_exported_are_named_with_those_that_can():
    with pytest.raises(ModelError, match=r"GradientBoostingClassifier cannot be exported.*RandomForestClassifier"):
        detectors.of_estimator(GradientBoostingClassifier())
    with pytest.raises(ModelError, match=r"PowerTransformer cannot be folded.*StandardScaler"):
        scaling.fold([PowerTransformer()], 3)
    with pytest.raises(ModelError, match="clip=False"):
        scaling.fold([MinMaxScaler(clip=True).fit(np.eye(3))], 3)
    with pytest.raises(ModelError, match="whiten=False"):
        detectors.DETECTORS["pca"].settle(PCA(n_components=2, whiten=True).fit(np.eye(4)))
    with pytest.raises(ModelError, match="use 'rbf'"):
        shuttle.model("one-class-svm", kernel="linear")
    with pytest.raises(ModelError, match="lower n_components"):
        shuttle.model("pca", n_components=9)
    with pytest.raises(ModelError, match="no scaler 'log'"):
        shuttle.model("kmeans", scaler="log")


@pytest.mark.parametrize(
    ("estimator", "nearest"),
    [
        (GradientBoostingClassifier(), "(RandomForest|ExtraTrees)Classifier"),
        (LocalOutlierFactor(), "NearestNeighbors"),
        (SVC(), "OneClassSVM"),
        (MiniBatchKMeans(), "KMeans"),
        (KernelPCA(), "PCA"),
        (MinCovDet(), "EllipticEnvelope"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_nearest_that_can_be_exported_is_named(estimator, nearest):
    with pytest.raises(ModelError, match=f"The nearest is {nearest}$"):
        detectors.of_estimator(estimator)


def test_a_classifier_without_labels_says_what_to_do():
    with pytest.raises(ModelError, match="--label"):
        train(make_series(), Plan("m", "v1;w=4;c=a::100,b::100;f=mean,sd", "random-forest"))


def test_isolation_needs_no_scaler():
    assert scaling.split(Isolation().fit(np.random.default_rng(0).normal(size=(200, 2)), None, 0, {}))[0] == []

"""Training is repeatable, keeps anomalies out of what it learns, and says why it cannot go on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.covariance import EllipticEnvelope
from threadpoolctl import threadpool_limits

from model_export import data, estimator_file, model
from model_export.errors import ModelError
from model_export.train import Plan, divide, train
from model_export.windows import compute, parse_schema
from tests.model_export.conftest import make_series
from tests.support import shuttle

SCHEMA = "v1;w=4;c=a::100,b::100;f=mean,sd"


def test_the_same_series_and_seed_give_the_same_folder(tmp_path: Path):
    for name in ("one", "two"):
        model.save(train(make_series(), Plan("m", SCHEMA, seed=3)), tmp_path / name)
    for file in ("estimator.npz", "windows.npz", "card.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_number_of_threads_changes_no_bit(tmp_path: Path):
    plan = Plan("m", shuttle.SCHEMA, "kmeans", train_part=0.1, held_out_part=0.1)
    for count in (1, 4):
        with threadpool_limits(count):
            model.save(train(shuttle.series(), plan, shuttle.windows()), tmp_path / str(count))
    assert (tmp_path / "1/estimator.npz").read_bytes() == (tmp_path / "4/estimator.npz").read_bytes()


def test_a_loaded_model_scores_as_the_trained_one(tmp_path: Path, water_flow):
    model.save(water_flow, tmp_path)
    loaded = model.load(tmp_path)
    assert np.array_equal(loaded.scores(loaded.train), water_flow.scores(water_flow.train))
    assert (loaded.threshold, loaded.margin) == (water_flow.threshold, water_flow.margin)


def test_anomalous_windows_are_kept_out_and_found_afterwards():
    trained = train(make_series(rows=2000, labels=True), Plan("m", SCHEMA))
    assert trained.train.max() < 2900
    test = trained.card["test"]
    assert test["recall"] == 1.0
    assert test["anomalous"] == 12
    assert trained.card["false_alarms"]["held_out"] <= 0.01


def test_no_part_reaches_into_the_next():
    windows = compute(make_series(), parse_schema(SCHEMA))
    parts = divide(windows, 600, 4, Plan("m", SCHEMA, train_part=0.5, held_out_part=0.25))
    assert windows.ends[parts.train].max() == 299
    assert (windows.ends - 3)[parts.held_out].min() == 300
    assert windows.ends[parts.held_out].max() == 449
    assert (windows.ends - 3)[parts.test].min() == 450


def test_the_card_tells_where_the_model_comes_from(water_flow):
    card = water_flow.card
    assert card["dataset"]["sha256"] == data.load("water-flow").sha256
    assert card["dataset"]["rows"] == 1268
    assert {"scikit-learn", "numpy", "emlearn", "python"} <= set(card["versions"])
    assert card["seed"] == 0


def test_water_flow_s_four_faults_are_found(water_flow):
    windows = compute(data.load("water-flow"), water_flow.features)
    alarms = windows.ends[water_flow.scores(windows.features) > water_flow.threshold]
    for first, last in ((93, 118), (211, 227), (328, 332), (872, 893)):
        assert ((alarms >= first) & (alarms <= last)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_part": 0.02}, "too few for 4 features"),
        ({"held_out_part": 0.01}, "raise --held-out-part"),
        ({"detector": "oracle"}, "choose one of elliptic-envelope"),
        ({"settings": {"support_fraction": 7}}, "float in the range"),
        ({"settings": {"no_such_thing": 1}}, "no_such_thing"),
        ({"detector": "nearest-neighbour", "settings": {"metric": "manhattan"}}, "metric='euclidean' only"),
        ({"detector": "nearest-neighbour", "settings": {"points": 0}}, "a whole number from 1 on"),
        (
            {"detector": "autoencoder", "settings": {"loss": "poisson", "scaler": "none", "max_iter": 2}},
            "loss='poisson' cannot be exported",
        ),
        (
            {"schema": "v1;w=1;c=a::100,b::100;f=mean,sd"},
            "constant in the training part: a.sd, b.sd",
        ),
    ],
)
def test_what_stops_training_is_named(change, message):
    with pytest.raises(ModelError, match=message):
        train(make_series(), dataclasses.replace(Plan("m", SCHEMA), **change))


def test_an_incomplete_folder_is_refused(tmp_path: Path, water_flow):
    model.save(water_flow, tmp_path)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ModelError, match="no complete model folder"):
        model.load(tmp_path)
    with pytest.raises(ModelError):
        model.load(tmp_path / "nowhere")


def test_damaged_windows_and_an_estimator_of_another_kind_are_refused(tmp_path: Path, water_flow):
    model.save(water_flow, tmp_path)
    whole = (tmp_path / "windows.npz").read_bytes()
    half = len(whole) // 2
    for damaged in (b"", whole[:100], whole[:half], whole[:half] + bytes([whole[half] ^ 0xFF]) + whole[half + 1 :]):
        (tmp_path / "windows.npz").write_bytes(damaged)
        with pytest.raises(ModelError, match="no complete model folder"):
            model.load(tmp_path)
    (tmp_path / "windows.npz").write_bytes(whole)
    estimator_file.save(tmp_path / "estimator.npz", EllipticEnvelope())  # never fitted
    with pytest.raises(ModelError, match="scores nothing"):
        model.load(tmp_path)
    estimator_file.save(tmp_path / "estimator.npz", KMeans(2, n_init=1).fit(np.eye(3)))  # of three features
    with pytest.raises(ModelError, match="scores nothing"):
        model.load(tmp_path)

"""The search ranks what it can train, says why it left the rest out, and counts cost by the model's shape."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model_export import compile as compiler
from model_export import convert, cost, detectors, injected, parity, search
from model_export.cli_search import search as command
from model_export.errors import ModelError
from model_export.model import Model, reference_scores
from model_export.search import Outcome
from model_export.train import Plan, train
from model_export.windows import compute, parse_schema, schema_for
from tests.model_export.conftest import make_series

PLAN = {"train_part": 0.4, "held_out_part": 0.3}


@pytest.fixture(scope="module")
def unlabelled(native_toolchain) -> Outcome:
    tried = search.candidates(False, 4, ["gaussian", "kmeans", "random-forest"])
    return search.search(make_series(), tried, 4, PLAN, None, lambda: None)


def test_without_labels_synthetic_faults_rank_the_candidates(unlabelled):
    assert not unlabelled.labelled
    # Two detectors, one of them with a second setting and one in int16 as well, on two sets of features.
    assert len(unlabelled.found) == 8
    best = unlabelled.found[0]
    assert best.quality == pytest.approx(best.recall - best.false_alarms)
    assert best.quality >= unlabelled.found[-1].quality
    assert set(best.recall_by_kind) == set(injected.KINDS)


def test_classifiers_are_tried_only_with_labels():
    assert "random-forest" not in {one.detector for one in search.candidates(False, 4)}
    assert "random-forest" in {one.detector for one in search.candidates(True, 4)}


def test_with_labels_quality_is_measured_on_them(native_toolchain):
    series = make_series(labels=True)
    tried = search.candidates(True, 1, ["gaussian", "decision-tree"])
    outcome = search.search(series, tried, 1, PLAN, None, lambda: None)
    assert outcome.labelled
    assert {one.candidate.detector for one in outcome.found} == {"gaussian", "decision-tree"}
    assert outcome.found[0].quality > 0.99
    assert not outcome.found[0].recall_by_kind


def test_a_candidate_over_the_budget_is_left_out_with_its_size(native_toolchain):
    tried = search.candidates(False, 1, ["nearest-neighbour"])
    outcome = search.search(make_series(), tried, 1, PLAN, 1500, lambda: None)
    assert outcome.found
    assert all(one.bytes <= 1500 for one in outcome.found)
    assert any("over the budget of 1500" in reason for _, reason in outcome.refused)


def test_when_nothing_is_left_the_reason_is_given(native_toolchain):
    with pytest.raises(ModelError, match=r"no candidate is left.*over the budget of 10"):
        search.search(make_series(), search.candidates(False, 1, ["gaussian"]), 1, PLAN, 10, lambda: None)
    with pytest.raises(ModelError, match="classifiers need labels"):
        search.search(make_series(), search.candidates(False, 4, ["random-forest"]), 4, PLAN, None, lambda: None)


def test_rows_that_nothing_beats_are_on_the_front(unlabelled):
    assert cost.pareto([0.9, 0.8, 0.7, 0.9], [10, 5, 7, 11], [3, 3, 3, 3]) == [True, True, False, False]
    assert cost.pareto([0.9, 0.9], [10, 10], [3, 3]) == [True, True]
    assert any(unlabelled.on_front)


def test_every_fault_changes_the_window_it_is_put_into():
    series = make_series()
    schema = schema_for(series, 8, ("mean", "sd", "last"))
    windows = compute(series, parse_schema(schema))
    made = injected.windows(series, schema, windows.ends[-20:], 200)
    for vectors in made.values():
        assert vectors.shape == (20, 6)
        assert (vectors != windows.features[-20:]).any(axis=1).all()


@pytest.mark.parametrize(
    ("detector", "settings", "floats"),
    [
        ("gaussian", {}, 2 * 2 + 2 * 4),
        ("kmeans", {"n_clusters": 5}, 2 * 2 + 5 * 7),
        ("pca", {"n_components": 1}, 5 * 2 + 4 * 2),
        ("gaussian-mixture", {"n_components": 2, "covariance_type": "diag"}, 4 + 2 * (6 + 4 + 18) + 16),
    ],
)
def test_operations_follow_from_the_shape(detector, settings, floats):
    model = train(make_series(), Plan("m", "v1;w=1;c=a::100,b::100;f=last", detector, settings))
    assert cost.of_model(model).floats == floats


def test_trees_cost_their_expected_depth():
    model = train(make_series(), Plan("m", "v1;w=1;c=a::100,b::100;f=last", "isolation-forest", {"n_estimators": 10}))
    assert 10 * 2 < cost.of_model(model).integers < 10 * 9


def test_the_command_shows_a_table_or_json(tmp_path: Path, native_toolchain):
    csv = tmp_path / "pump.csv"
    values = make_series().values
    np.savetxt(csv, values, delimiter=",", header="a,b", comments="", fmt="%.2f")
    arguments = ["--data", str(csv), "--window", "1", "--detectors", "gaussian"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert "No labels to test on" in done.output
    assert "counted, not measured" in done.output
    again = CliRunner().invoke(command, [*arguments, "--json"])
    # In float32 and int16.
    assert [one["detector"] for one in json.loads(again.output)["found"]] == ["gaussian"] * 2


def test_hazards_end_the_command_with_cause_and_next_step(tmp_path: Path):
    csv = tmp_path / "empty.csv"
    csv.write_bytes(b"")
    done = CliRunner().invoke(command, ["--data", str(csv)])
    assert done.exit_code == 1
    assert "is empty" in done.output
    done = CliRunner().invoke(command, ["--data", "water-flow", "--train-part", "0.8", "--held-out-part", "0.3"])
    assert "leave nothing to test on" in done.output
    done = CliRunner().invoke(command, ["--data", "water-flow", "--detectors", "oracle"])
    assert "choose one of elliptic-envelope" in done.output


def test_a_series_of_one_feature_is_searched(native_toolchain):
    series = make_series(channels=1)
    outcome = search.search(series, search.candidates(False, 1, ["gaussian"]), 1, PLAN, None, lambda: None)
    assert outcome.found[0].model.features.n_features == 1


def test_127_features_are_compiled_and_decide_alike(native_toolchain):
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(600, 127)) @ rng.normal(size=(127, 127)) * 10).astype(np.int32)
    gaussian = detectors.by_name("gaussian")
    narrow = train(make_series(channels=1), Plan("m", "v1;w=1;c=a::100;f=last", "gaussian"))
    estimator = gaussian.fit(vectors.astype(np.float64), None, 0, {})
    limit = float(np.float32(np.quantile(reference_scores(estimator, vectors), 0.99)))
    wide = Model(estimator, vectors, vectors[:0], narrow.card | {"threshold": limit})
    mpy = compiler.native_module(convert.c_source(wide), "x64")
    assert parity.compare(wide, vectors, parity.native_scores(mpy, vectors)).decisions_differing == 0

"""A forest that goes on from an earlier one keeps whole trees, and its patch is small."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cloud.models import patching
from model_export import convert, data, keys
from model_export import model as models
from model_export.cli import model
from model_export.errors import ModelError
from model_export.model import Model
from model_export.train import Plan, Warm, train
from tests.model_export.conftest import make_series

SCHEMA = "v1;w=4;c=a::100,b::100;f=mean,sd"
PLAN = Plan("m", SCHEMA, "isolation-forest", {"n_estimators": 20, "max_samples": 64})
FOREST = dataclasses.replace(PLAN, detector="random-forest", settings={"n_estimators": 10})


def trees(made: Model) -> list[bytes]:
    """Each tree of a forest by its cuts."""
    return [tree.tree_.threshold.tobytes() + tree.tree_.feature.tobytes() for tree in made.estimator.estimators_]


@pytest.mark.parametrize("plan", [PLAN, FOREST], ids=["isolation forest", "random forest"])
def test_the_oldest_trees_go_and_new_ones_come_last(plan: Plan):
    old = train(make_series(rows=2000, labels=True), plan)
    series = make_series(rows=2000, seed=2, labels=True)
    new = train(series, plan, start=Warm(old, 0.2))
    count = len(trees(old)) // 5
    assert trees(new)[:-count] == trees(old)[count:]
    assert not set(trees(new)[-count:]) & set(trees(old))
    assert new.card["warm"] == {
        "from": "0" * 64,
        "replaced": count,
        "kept": len(trees(old)) - count,
        "generation": 1,
    }
    assert new.card["settings"]["n_estimators"] == len(trees(old))


def test_each_generation_fits_other_trees_and_is_repeatable(tmp_path: Path):
    series = make_series(rows=2000)
    first = train(series, PLAN)
    second = train(series, PLAN, start=Warm(first, 0.1))
    models.save(second, tmp_path)
    third = train(series, PLAN, start=Warm(models.load(tmp_path), 0.1))
    assert third.card["warm"]["generation"] == 2
    assert len(set(trees(third))) == 20
    assert trees(train(series, PLAN, start=Warm(second, 0.1))) == trees(third)


def test_a_loaded_forest_scores_as_the_renewed_one(tmp_path: Path):
    renewed = train(make_series(seed=2), PLAN, start=Warm(train(make_series(), PLAN), 0.3))
    models.save(renewed, tmp_path)
    loaded = models.load(tmp_path)
    assert np.array_equal(loaded.scores(loaded.train), renewed.scores(renewed.train))


@pytest.mark.parametrize(
    ("before", "now", "share", "message"),
    [
        ({"detector": "elliptic-envelope", "settings": {}}, {}, 0.1, "has detector elliptic-envelope"),
        ({"detector": "elliptic-envelope", "settings": {}}, {"detector": "elliptic-envelope"}, 0.1, "no trees to keep"),
        ({"schema": SCHEMA.replace("sd", "max")}, {}, 0.1, "has schema"),
        ({}, {"dtype": "int16"}, 0.1, "has dtype"),
        ({}, {"settings": {"max_samples": 32}}, 0.1, "trees of 64 windows and of 32"),
        ({"settings": {"n_estimators": 3, "max_samples": 64}}, {}, 0.99, "leaves no tree"),
    ],
)
def test_forests_that_do_not_go_together_are_refused(
    before: dict[str, Any], now: dict[str, Any], share: float, message: str
):
    old = train(make_series(), dataclasses.replace(PLAN, **before))
    with pytest.raises(ModelError, match=message):
        train(make_series(), dataclasses.replace(PLAN, **now), start=Warm(old, share))


def test_the_patch_of_a_renewed_forest_is_small(tmp_path: Path):
    def run(*arguments: object) -> str:
        outcome = CliRunner().invoke(model, [str(argument) for argument in arguments])
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    of = ("train", "--data", "water-flow", "--detector", "isolation-forest")
    run(*of, "--out", tmp_path / "one")
    told = run(*of, "--train-part", 0.45, "--warm-from", tmp_path / "one", "--out", tmp_path / "two")
    assert "45 kept, 5 new" in told
    assert data.PRESETS["water-flow"].train_part != 0.45, "the new trees saw other windows"
    before = convert.table(models.load(tmp_path / "one"))
    after = convert.table(models.load(tmp_path / "two"), before)
    patch = patching.forest(before, after)
    assert patch is not None
    print(f"{len(patch)} bytes of {len(after)}")
    assert len(patch) < 0.08 * len(after)


def test_a_base_that_is_no_table_is_refused(tmp_path: Path):
    keys.create(tmp_path, "own")
    models.save(train(make_series(), PLAN), tmp_path / "m")
    (tmp_path / "old.ewa").write_bytes(b"EWA1 and nothing of use")
    command = ["export", str(tmp_path / "m"), "--version", "1.0.0", "--key", str(tmp_path / "own.pem")]
    command += ["--base", str(tmp_path / "old.ewa"), "--out", str(tmp_path / "new.ewa")]
    for form, message in (("blob", "is no artifact"), ("native", "machine code resembles no base")):
        outcome = CliRunner().invoke(model, [*command, "--target", form])
        assert outcome.exit_code != 0
        assert message in outcome.output
    assert not (tmp_path / "new.ewa").exists()

"""Forests as table blobs: small, the same bytes each time, and trees that stay what they are between versions."""

from dataclasses import replace

import numpy as np
import pytest

from contract import artifact
from contract import table as wire_format
from model_export import convert, detectors, package, parity, table
from model_export.detectors import scaling
from model_export.detectors.trees import Ensemble, IntegerTree
from model_export.errors import ModelError
from model_export.keys import PublisherKey
from model_export.train import Plan, train
from tests.model_export.conftest import make_series
from tests.support import shuttle

FORESTS = ("isolation-forest", "random-forest", "extra-trees", "decision-tree")


def ensemble_of(name: str, **settings: object) -> tuple[Ensemble, float]:
    model = shuttle.model(name, "float32", **settings)
    scalers, core = scaling.split(model.estimator)
    return detectors.DETECTORS[name].ensemble(core, scalers, model.threshold), model.threshold  # type: ignore[attr-defined]


def line(levels: int) -> IntegerTree:
    """A tree that goes left `levels` times or ends."""
    ids = np.arange(2 * levels + 1)
    inner = ids < levels
    none = 0 * ids
    return IntegerTree(np.where(inner, ids + 1, -1), np.where(inner, ids + levels + 1, -1), none, none, none)


@pytest.mark.parametrize("name", FORESTS)
def test_a_node_takes_three_bytes_and_the_bytes_are_the_same_each_time(name: str):
    ensemble, threshold = ensemble_of(name)
    blob = table.forest(ensemble, threshold)
    facts = wire_format.Forest(blob)
    nodes = sum(len(tree.left) for tree in ensemble.trees)
    print(f"{name}: {nodes} nodes, {facts.forest_bytes / nodes:.2f} bytes a node, {len(blob)} bytes in all")
    assert facts.forest_bytes <= 3.2 * nodes
    assert table.forest(ensemble, threshold) == blob
    assert (facts.threshold, facts.limit) == (threshold, ensemble.limit)


def test_a_forest_keeps_the_bytes_of_the_trees_it_shares_with_its_base():
    old, threshold = ensemble_of("isolation-forest")
    other, _ = ensemble_of("isolation-forest", max_samples=64)
    base = table.forest(old, threshold)
    # The values of both forests, under the indices of one: half of the trees are new.
    values = np.union1d(old.values, other.values)
    kept = [replace(tree, value=np.searchsorted(values, old.values[tree.value])) for tree in old.trees[25:]]
    new = [replace(tree, value=np.searchsorted(values, other.values[tree.value])) for tree in other.trees[:25]]
    blob = table.forest(replace(old, trees=kept + new, values=values), threshold, base)
    assert table.tree_bytes(blob)[:25] == table.tree_bytes(base)[25:]
    facts, before = wire_format.Forest(blob), wire_format.Forest(base)
    assert [facts.tree_digest(i) for i in range(25)] == [before.tree_digest(i + 25) for i in range(25)]


def test_a_new_threshold_changes_the_header_alone():
    ensemble, threshold = ensemble_of("isolation-forest")
    base = table.forest(ensemble, threshold)
    limit = ensemble.limit + 0.25
    blob = table.forest(replace(ensemble, limit=limit), float(np.float32(threshold + 0.01)), base)
    assert blob != base
    assert blob[wire_format.FOREST_BYTES :] == base[wire_format.FOREST_BYTES :]


def test_what_the_format_cannot_hold_is_refused_with_a_setting_to_lower():
    made = Ensemble([line(65)], np.array([1.0]), 1, 0.5, 0, 1.0)
    with pytest.raises(ModelError, match=r"65 turns to the left in a tree, and a table blob holds 64.*max_depth"):
        table.forest(made, 0.5)
    assert wire_format.Forest(table.forest(replace(made, trees=[line(64)]), 0.5)).forest_bytes == 2 + 64 * 6 + 2 + 2
    with pytest.raises(ModelError, match="1025 trees"):
        table.forest(replace(made, trees=[line(1)] * 1025), 0.5)
    with pytest.raises(ModelError, match="16385 leaf values"):
        table.forest(replace(made, trees=[line(1)], values=np.arange(16385.0)), 0.5)


@pytest.mark.parametrize("name", FORESTS)
def test_decisions_equal_those_of_scikit_learn_in_machine_code_and_in_bytecode(name: str):
    model = shuttle.model(name)
    blob = convert.table(model)
    points = parity.points_for(model, 6000)
    viper = parity.compare(model, points, parity.table_scores(blob, points))
    plain = parity.compare(model, points[-3000:], parity.table_scores(blob, points[-3000:], plain=True))
    print(f"{name}: {viper.points} and {plain.points} points, scores differ by at most {viper.largest_difference:.1g}")
    assert viper.decisions_differing == plain.decisions_differing == 0
    assert max(viper.largest_difference, plain.largest_difference) < 1e-6


def test_decisions_near_the_limit_are_those_of_the_sum_of_doubles():
    # Values whose sum, rounded after each addition, lies at the limit: in doubt by units, and decided by the last bit.
    rng = np.random.default_rng(3)
    values = np.unique(rng.random(64))
    trees = [line(1) for _ in range(41)]
    picked = rng.integers(len(values), size=(len(trees), 3))
    trees = [
        replace(tree, value=row, feature=np.full(3, i % 5))
        for i, (tree, row) in enumerate(zip(trees, picked, strict=True))
    ]
    rows = np.array([[-1 if mask >> f & 1 else 1 for f in range(5)] for mask in range(32)], dtype=np.int32)
    sums = []
    for row in rows:
        total = 0.0
        for tree, pick in zip(trees, picked, strict=True):
            total += values[pick[1] if row[tree.feature[0]] < 0 else pick[2]]
        sums.append(total)
    for limit in (sums[5], np.nextafter(sums[5], -1), np.nextafter(sums[5], 99)):
        made = Ensemble(trees, values, 5, float(limit), 0, 1.0)
        threshold = float(np.float32(limit))
        for plain in (False, True):
            scores = parity.table_scores(table.forest(made, threshold), rows, plain)
            assert np.array_equal(scores > threshold, np.array(sums) > limit)


def test_bounds_of_32_bits_and_far_leaves_decide_as_well():
    rng = np.random.default_rng(4)
    spread = np.concatenate((rng.integers(-(2**30), 2**30, 150), rng.integers(-2000, 2000, 50)))
    trees = [
        replace(line(1), feature=np.full(3, i % 3), cut=np.array([cut, 0, 0]), value=np.array([0, 2 * i, 2 * i + 1]))
        for i, cut in enumerate(spread)
    ]
    values = np.sort(rng.random(400)) - 0.5
    made = Ensemble(trees, values, 3, 0.0, 0, 1.0)
    blob = table.forest(made, 0.0)
    rows = rng.integers(-(2**30) + 1, 2**30 - 1, size=(500, 3)).astype(np.int32)
    rows[:250] = rng.choice(spread, size=(250, 3)) + rng.integers(-1, 2, size=(250, 3))
    expected = np.zeros(len(rows))
    for tree in trees:
        expected += values[np.where(rows[:, tree.feature[0]] < tree.cut[0], tree.value[1], tree.value[2])]
    for plain in (False, True):
        scores = parity.table_scores(blob, rows, plain)
        assert np.array_equal(scores > 0, expected > 0)
        assert np.abs(scores - expected).max() < 1e-3


def test_an_export_is_a_signed_blob_for_any_board_and_proved(key: PublisherKey):
    release = package.Release("1.0.0", 1, 1)
    plan = Plan("m", "v1;w=1;c=a::100,b::100;f=last", "random-forest", {"n_estimators": 5})
    model = train(make_series(labels=True), plan)
    done = package.export_table(model, release, key)
    _, manifest, _, payload = artifact.split(done.artifact)
    assert (manifest.format, manifest.arch, manifest.abi) == ("blob", "any", 0)
    assert wire_format.Forest(payload).threshold == manifest.threshold
    assert done.parity.decisions_differing == 0
    assert '"x64"' in done.card.decode()
    assert package.export_table(model, release, key).artifact == done.artifact


def test_a_detector_without_a_table_is_refused_with_those_that_have_one(key: PublisherKey):
    model = shuttle.model("pca")
    with pytest.raises(ModelError, match="pca has no table blob, elliptic-envelope, gaussian, isolation-forest"):
        package.export_table(model, package.Release("1.0.0", 1, 1), key)

"""Forests as table blobs: small, the same bytes each time, and trees that stay what they are between versions."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from contract import table as wire_format
from model_export import data, detectors, table
from model_export.detectors import scaling
from model_export.detectors.trees import Ensemble, IntegerTree
from model_export.errors import ModelError
from model_export.train import Plan, train

FORESTS = ("isolation-forest", "random-forest", "extra-trees", "decision-tree")


@cache
def ensemble_of(name: str, max_samples: int = 128) -> tuple[Ensemble, float]:
    preset = data.PRESETS["shuttle"]
    settings: dict[str, object] = {"max_samples": max_samples} if name == "isolation-forest" else {}
    model = train(data.load("shuttle"), Plan("s", preset.schema, name, settings, train_part=0.1, held_out_part=0.1))
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

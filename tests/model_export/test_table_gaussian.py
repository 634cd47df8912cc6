"""Gaussians as table blobs: small, the same bytes each time, and scikit-learn's decisions from integers alone."""

import shutil
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from contract.table_gaussian import Gaussian
from model_export import convert, data, package, parity, qemu, table
from model_export.detectors import numbers
from model_export.errors import ModelError
from model_export.keys import PublisherKey
from model_export.model import Model
from model_export.train import Plan, train
from tests.support import shuttle

GAUSSIANS = ("gaussian", "elliptic-envelope")
ENDS = (-(2**31), -(2**30), -32769, -32768, -32767, -32766, 0, 32765, 32766, 32767, 32768, 2**30, 2**31 - 1)


def model_of(name: str) -> Model:
    return shuttle.model(name, "int16")


def water_flow_of(scaler: str = "standard") -> Model:
    preset = data.PRESETS["water-flow"]
    plan = Plan("s", preset.schema, "gaussian", {"scaler": scaler}, dtype="int16")
    parts = replace(plan, train_part=preset.train_part, held_out_part=preset.held_out_part)
    return train(data.load("water-flow"), parts)


def decisions(blob: bytes, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(n, 2): what the contract's own code makes of points here: whether the integers are above, and the score."""
    read = Gaussian(blob)
    read.check()
    return np.array([(read.distance(row) > read.limit, read.score(row)) for row in points.tolist()])


def with_ends(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows each with one feature at or beyond an end of int16."""
    made = np.repeat(rows[: len(ENDS)], rows.shape[1], axis=0)
    for i in range(len(made)):
        made[i, i % rows.shape[1]] = ENDS[i // rows.shape[1]]
    return made


@pytest.mark.parametrize("name", GAUSSIANS)
def test_decisions_equal_those_of_scikit_learn(name: str):
    agrees(model_of(name), 6000)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", GAUSSIANS)
def test_decisions_equal_those_of_scikit_learn_over_100_000_points(name: str):
    agrees(model_of(name), 100_000)


def agrees(model: Model, count: int) -> None:
    blob = convert.table(model)
    seen = shuttle.windows().features[: count // 2]
    hard = parity.points_for(model, count - len(seen))[-count:]
    points = np.concatenate((seen, hard, with_ends(model.train)))
    ours = decisions(blob, points)
    reference = model.scores(points)
    board = parity.compare(model, points[-4000:], parity.table_scores(blob, points[-4000:]))
    relative = np.abs(ours[:, 1] - reference) / np.maximum(reference, model.threshold)
    differing = int(np.count_nonzero((reference > model.threshold) != ours[:, 0]))
    print(
        f"{model.card['detector']}: {len(points)} points, {differing} decided otherwise, "
        f"scores by at most {relative.max():.1e} of them; "
        f"{board.points} under MicroPython, {board.decisions_differing} otherwise; {len(blob)} bytes"
    )
    assert len(points) > count
    assert differing == board.decisions_differing == 0
    assert np.array_equal(ours[:, 0], ours[:, 1] > model.threshold)
    assert relative.max() < 1e-12
    assert model.card["test"]["f1"] > 0.9
    assert len(blob) == 32 + 6 * 9 + 9 * 10


@pytest.mark.parametrize("scaler", ["standard", "robust", "minmax", "none"])
def test_scalers_and_features_that_lose_bits_are_part_of_the_blob(scaler: str):
    model = water_flow_of(scaler)
    assert any(model.shifts)
    points = np.concatenate((parity.points_for(model, 1000), with_ends(model.train)))
    reference = model.scores(points)
    ours = decisions(convert.table(model), points)
    assert np.array_equal(ours[:, 0], reference > model.threshold)
    assert (np.abs(ours[:, 1] - reference) / np.maximum(reference, model.threshold)).max() < 1e-12


def test_a_score_is_the_exact_distance_of_the_settled_estimator():
    model = model_of("elliptic-envelope")
    read = Gaussian(convert.table(model))
    mean = [Fraction(value) for value in model.estimator.location_.tolist()]
    precision = [[Fraction(value) for value in row] for row in model.estimator.get_precision().tolist()]
    for row in parity.points_for(model, 40)[-60:].tolist():
        d = [x - m for x, m in zip(np.clip(row, numbers.LOWEST, numbers.HIGHEST).tolist(), mean, strict=True)]
        exact = sum(d[i] * precision[i][j] * d[j] for i in range(len(d)) for j in range(len(d)))
        assert exact == Fraction(read.distance(row), 1 << read.exponent)
        assert (exact > Fraction(model.threshold)) == (read.distance(row) > read.limit)


@pytest.mark.skipif(
    not qemu.available() or not shutil.which("riscv64-unknown-elf-gcc"),
    reason="needs qemu-system-misc, gcc-riscv64-unknown-elf and picolibc-riscv64-unknown-elf",
)
def test_words_of_32_bits_and_single_floats_decide_the_same(native_toolchain):
    model = model_of("gaussian")
    points = np.concatenate((parity.points_for(model, 400)[-600:], with_ends(model.train)))
    outcome = parity.compare(model, points, qemu.table_scores(convert.table(model), points))
    assert outcome.decisions_differing == 0
    assert outcome.largest_relative_difference < 1e-6


def test_an_export_is_signed_proved_and_the_same_each_time(key: PublisherKey):
    model = water_flow_of()
    release = package.Release("1.0.0", 1, 1)
    done = package.export_table(model, release, key)
    assert done.parity.decisions_differing == 0
    assert package.export_table(model, release, key).artifact == done.artifact


def test_what_has_no_blob_is_refused_with_what_to_do(water_flow: Model, key: PublisherKey):
    release = package.Release("1.0.0", 1, 1)
    with pytest.raises(ModelError, match=r"elliptic-envelope of float32 has no table blob.*--dtype int16"):
        package.export_table(water_flow, release, key)
    with pytest.raises(ModelError, match=r"decision-tree of int16 has no table blob.*--dtype float32"):
        package.export_table(model_of("decision-tree"), release, key)
    with pytest.raises(ModelError, match="the table of a Gaussian has no trees to keep: leave out --base"):
        package.export_table(model_of("gaussian"), release, key, base=b"EWT1")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fractions": np.array([10.0, 16.0])}, "16 fraction bits of a feature, and a table blob holds 15"),
        ({"mean": np.array([0.0, 2.0**31])}, r"2\.15e\+09 steps of a mean"),
        ({"mean": np.array([0.0, 0.5])}, "train it again"),
        ({"exponent": 128}, "128 bits of exponent"),
        ({"threshold": 2.0**20}, "units of the threshold.*coarser scale in the schema"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(changes: dict[str, Any], words: str):
    sound: dict[str, Any] = {
        "factor": np.eye(2) * numbers.LIMIT,
        "mean": np.zeros(2),
        "fractions": np.array([10.0, 10.0]),
        "shifts": [0, 0],
        "exponent": 48,
        "threshold": 9.5,
    }
    assert Gaussian(table.gaussian(**sound)).limit == 19 << 47
    with pytest.raises(ModelError, match=words):
        table.gaussian(**(sound | changes))

"""model_export/profile.py: bins hold what training held, are the same bytes each time, and fit into a manifest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cloud.devices import stability
from contract import artifact, profile, wire
from model_export import data, windows
from model_export import profile as bins_of
from model_export.keys import PublisherKey
from model_export.model import Model
from model_export.package import Release, export_native
from model_export.train import Plan, train
from tests.model_export.conftest import make_series


@pytest.fixture(scope="module")
def model() -> Model:
    return train(make_series(8 * 600), Plan("made", "v1;w=8;c=c0:x:100,c1:x:100;f=mean,max"))


def count(model: Model, rows: npt.NDArray[np.int32]) -> tuple[list[int], list[list[int]]]:
    """Scores and features of windows in the model's bins, as a board counts them, without its limit."""
    bins = bins_of.fields_of(model)["bins"]
    scores = np.searchsorted(profile.score_edges(bins), model.scores(rows).astype(np.float32), side="left")
    features = [
        np.bincount(np.searchsorted(profile.feature_edges(bins, at), rows[:, at], side="left"), minlength=4).tolist()
        for at in range(profile.profiled(bins))
    ]
    return np.bincount(scores, minlength=8).tolist(), features


def judged(model: Model, rows: npt.NDArray[np.int32]) -> tuple[float, list[float]]:
    """The index of the scores, and of each feature."""
    shares = bins_of.fields_of(model)["shares"]
    scores, features = count(model, rows)
    return stability.index(scores, shares[:8]), [
        stability.index(counts, shares[8 + 4 * at : 12 + 4 * at]) for at, counts in enumerate(features)
    ]


def test_bins_hold_an_eighth_and_a_quarter_of_what_they_were_made_from(model: Model):
    fields = bins_of.fields_of(model)
    assert fields == bins_of.fields_of(model)
    assert profile.why_unsound(fields["bins"], fields["shares"], model.features.n_features) == ""
    assert profile.profiled(fields["bins"]) == model.features.n_features
    assert all(abs(share - 255 / 8) <= 4 for share in fields["shares"][:8])
    scores, _ = count(model, model.held_out)
    assert max(scores) - min(scores) <= 4
    assert max(judged(model, model.held_out)[0], *judged(model, model.train)[1]) < 0.05


def test_an_artifact_carries_its_bins_and_the_same_model_gives_the_same_bytes(model: Model, key: PublisherKey):
    exports = [export_native(model, "x64", Release("1.0.0", 1, 1_700_000_000), key).artifact for _ in range(2)]
    assert exports[0] == exports[1]
    manifest = artifact.split(exports[0])[1]
    assert {"bins": manifest.bins, "shares": manifest.shares} == bins_of.fields_of(model)


def test_scores_that_repeat_and_columns_that_are_constant_have_the_shares_they_have(model: Model):
    stuck = model.train.copy()
    stuck[:, 1] = 7
    fields = bins_of.fields_of(replace(model, train=stuck, held_out=stuck[:100]))
    assert profile.feature_edges(fields["bins"], 1) == (7, 7, 7)
    assert list(fields["shares"][12:16]) == [255, 0, 0, 0]


@pytest.mark.parametrize("n_features", [1, 40, wire.MAX_FEATURES])
def test_a_manifest_has_room_for_the_bins_whatever_else_it_says(n_features: int, model: Model):
    schema = "v1;" + "x" * 509
    room = bins_of.features_with_room(schema)
    assert room >= 40
    fixed: dict[str, Any] = {}
    for name, kind, _, high in (*artifact.FIELDS, *artifact.OPTIONAL):
        fixed[name] = 5 + high if kind in artifact.SIZED else 5
    count = min(n_features, room)
    fixed["schema"] = len(schema)
    fixed["bins"], fixed["shares"] = 28 + 12 * count, 8 + 4 * count
    assert sum(len(name) + 1 + size for name, size in fixed.items()) <= artifact.MAX_MANIFEST_BYTES


def of_recording(folder: Path, path: str, parts: tuple[float, float]) -> tuple[Model, windows.Windows, int]:
    """A model of the recording's first parts, all its windows, and the row where the rest begins."""
    series = data.load(str(folder / path))
    schema = windows.schema_for(series, 12, ("mean", "min", "max", "ld"))
    model = train(series, Plan("recorded", schema, train_part=parts[0], held_out_part=parts[1]))
    return model, windows.compute(series, model.features), int(sum(parts) * len(series.values))


def test_a_recording_without_a_disturbance_is_stable_and_one_with_a_level_shift_has_changed(evaluation_data: Path):
    """NAB: days of small noise (the last four), and a database's load before and after it rose for good."""
    model, found, begin = of_recording(evaluation_data, "nab/artificialNoAnomaly/art_daily_small_noise.csv", (0.4, 0.3))
    calm, _ = judged(model, found.features[found.ends >= begin])
    path = "nab/realAWSCloudwatch/rds_cpu_utilization_cc0c53.csv"
    model, found, begin = of_recording(evaluation_data, path, (0.3, 0.15))
    before, _ = judged(model, found.features[(found.ends >= begin) & (found.ends < 2900)])
    after, features = judged(model, found.features[found.ends >= 3300])
    print(f"index of the scores: calm {calm:.3f}, before the shift {before:.3f}, after it {after:.2f}")
    assert calm < stability.LOOK
    assert before < stability.CHANGED
    assert after > 10 * stability.CHANGED
    assert min(features) > stability.CHANGED

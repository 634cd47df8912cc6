"""A report stands alone: one HTML file, its charts as PNG, and the best model with its lineage."""

import html
import json
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from model_export import charts, report, search
from model_export import model as models
from model_export.errors import ModelError
from model_export.search import Outcome
from tests.model_export.conftest import make_series

PLAN = {"train_part": 0.4, "held_out_part": 0.3}


@pytest.fixture(scope="module")
def outcome(native_toolchain) -> Outcome:
    pytest.importorskip("matplotlib")
    series = make_series(labels=True)
    return search.search(series, search.candidates(True, 1, ["gaussian", "pca"]), 1, PLAN, None, lambda: None)


@pytest.fixture(scope="module")
def written(outcome, tmp_path_factory) -> Path:
    return report.write(outcome, make_series(labels=True), tmp_path_factory.mktemp("report"))


def test_the_page_loads_nothing_from_elsewhere(written):
    page = written.read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page


def test_charts_are_png_files_with_a_picture(written):
    for name in ("pareto", "roc", "precision-recall", "scores"):
        data = (written.parent / f"{name}.png").read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", data[16:24])
        assert width > 600
        assert height > 400


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_page_is_written_whatever_the_best_model_s_numbers_are(outcome, tmp_path, dtype):
    at = next(i for i, one in enumerate(outcome.found) if one.candidate.dtype == dtype)
    page = report.write(
        replace(outcome, found=outcome.found[at:], on_front=outcome.on_front[at:]), make_series(), tmp_path
    )
    assert ("Numbers are int16" in page.read_text()) == (dtype == "int16")


def test_the_best_model_is_saved_with_where_it_comes_from(written, outcome):
    model = models.load(written.parent / "model")
    assert model.card["detector"] == outcome.found[0].candidate.detector
    assert model.card["dataset"]["sha256"] == "0" * 64
    assert model.card["search"] == {
        "quality": outcome.found[0].quality,
        "measured_on": "labels",
        "tried": len(outcome.found) + len(outcome.refused),
    }
    assert set(model.card["code"]) == {"edgewise", "revision"}
    assert "seed" in model.card
    assert "scikit-learn" in model.card["versions"]


def test_the_page_holds_the_confusion_of_the_test_part(written, outcome):
    best = outcome.found[0]
    alarms = best.scores > best.model.threshold
    page = html.unescape(written.read_text())
    assert f'anomalous<td class="n">{int((alarms & best.truth).sum())}<td' in page
    assert "energy" in page.lower()
    assert "Quality is the average precision over the labelled windows" in page
    assert f"the best of {len(outcome.found)} on the very windows it was measured on" in page


@pytest.fixture(scope="module")
def unlabelled_page(outcome, tmp_path_factory) -> str:
    faults = [replace(one, recall_by_kind={"spike": 0.5}) for one in outcome.found]
    series = replace(make_series(), name="<script>alert(1)</script>")
    folder = tmp_path_factory.mktemp("unlabelled")
    return report.write(replace(outcome, found=faults, labelled=False), series, folder).read_text()


def test_without_labels_the_page_says_what_quality_cannot_tell(unlabelled_page):
    page = unlabelled_page
    assert "It does not say how they do on the faults of this machine" in page
    assert "spike 50 %" in page


def test_names_from_the_data_are_escaped(unlabelled_page):
    assert "&lt;script&gt;alert(1)" in unlabelled_page
    assert "<script" not in unlabelled_page


def test_the_same_search_gives_the_same_files(outcome, written, tmp_path):
    again = report.write(outcome, make_series(labels=True), tmp_path)
    for path in sorted(written.parent.glob("*.png")):
        assert (again.parent / path.name).read_bytes() == path.read_bytes()
    assert json.loads((tmp_path / "search.json").read_bytes()) == report.summary(outcome)


def test_without_matplotlib_the_remedy_is_named(outcome, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModelError, match="charts need matplotlib: run `make setup`"):
        charts.roc(outcome.found[0])

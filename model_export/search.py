"""Tries detectors, settings and feature sets on one series, and says what each reaches and costs.

The series is divided in order of time: train, held out for the threshold, test. With labels in the test part, quality
is the average precision over its windows. Without, all of that part is taken for normal, and quality is the recall of
synthetic faults (`model_export.injected`) less the share of its windows in alarm, both at the candidate's own
threshold: 1 at best. That ranks detectors by the faults we thought of, and the report says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from model_export import compile as compiler
from model_export import convert, cost, detectors, injected
from model_export import train as training
from model_export.data import Series
from model_export.detectors.numbers import FLOAT32, INT16
from model_export.errors import ModelError
from model_export.model import Model
from model_export.windows import Windows, compute, parse_schema, schema_for

FEATURE_SETS = (("mean", "sd"), ("mean", "var", "min", "max", "ld", "zc"))
# Of a window of one sample every statistic of level is the sample itself.
SINGLE_SAMPLE = (("last",),)
# Beside each detector's own defaults.
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "isolation-forest": ({"n_estimators": 20},),
    "gaussian-mixture": ({"n_components": 2, "covariance_type": "diag"},),
    "kmeans": ({"n_clusters": 16},),
    "nearest-neighbour": ({"points": 30},),
    "pca": ({"n_components": 0.7},),
    "one-class-svm": ({"nu": 0.01},),
}


# Those whose tables make most of their size: they are tried in int16 too.
INT16_TOO = ("gaussian", "nearest-neighbour", "one-class-svm")


@dataclass(frozen=True, slots=True)
class Candidate:
    detector: str
    settings: dict[str, Any]
    tokens: tuple[str, ...]
    dtype: str = FLOAT32

    @property
    def described(self) -> dict[str, Any]:
        """The settings as tables show them."""
        return self.settings if self.dtype == FLOAT32 else self.settings | {"dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate that could be trained and compiled.

    quality: average precision, 0 to 1, or without labels recall less false alarms, -1 to 1. bytes: of the native module
    for this machine. scores, truth: of the windows quality was measured on. recall_by_kind: share of synthetic faults
    above the threshold, empty with labels.
    """

    candidate: Candidate
    model: Model
    quality: float
    false_alarms: float
    recall: float
    bytes: int
    cost: cost.Cost
    scores: npt.NDArray[np.float64]
    truth: npt.NDArray[np.bool_]
    recall_by_kind: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Outcome:
    """found: best first, and on_front says which of them no other beats in quality, bytes and operations at once.
    refused: candidates with the reason they were left out. labelled: quality was measured on labels."""

    found: list[Found]
    on_front: list[bool]
    refused: list[tuple[Candidate, str]]
    labelled: bool


def candidates(labelled: bool, window: int, names: Iterable[str] = ()) -> list[Candidate]:
    """What is tried: every detector, or those named, that can learn from such data."""
    chosen = [detectors.by_name(name) for name in names] or list(detectors.DETECTORS.values())
    return [
        Candidate(detector.name, settings, tokens, dtype)
        for tokens in (FEATURE_SETS if window > 1 else SINGLE_SAMPLE)
        for detector in chosen
        if labelled or not detector.supervised
        for settings in ({}, *SETTINGS.get(detector.name, ()))
        for dtype in ((FLOAT32, INT16) if detector.name in INT16_TOO and not settings else (FLOAT32,))
    ]


def search(
    series: Series,
    tried: list[Candidate],
    window: int,
    plan: dict[str, Any],
    budget_bytes: int | None,
    progress: Callable[[], None],
) -> Outcome:
    """Trains, measures and compiles each candidate. plan: fields of train.Plan that are the same for all.

    Raises ModelError when none is left.
    """
    found: list[Found] = []
    refused: list[tuple[Candidate, str]] = []
    made: dict[tuple[str, ...], _Material] = {}
    for candidate in tried:
        try:
            if candidate.tokens not in made:
                schema = schema_for(series, window, candidate.tokens, plan["train_part"])
                made[candidate.tokens] = _material(series, schema, plan)
            one = _try(series, candidate, made[candidate.tokens], plan)
            if budget_bytes is not None and one.bytes > budget_bytes:
                refused.append((candidate, f"{one.bytes} bytes are over the budget of {budget_bytes}"))
            else:
                found.append(one)
        except ModelError as error:
            refused.append((candidate, str(error)))
        progress()
    if not found:
        reason = refused[0][1] if refused else "no detector learns from such data: classifiers need labels"
        raise ModelError("bad-data", f"no candidate is left. The first was refused: {reason}")
    found.sort(key=lambda one: (-one.quality, one.bytes))
    front = cost.pareto(
        [one.quality for one in found], [one.bytes for one in found], [one.cost.operations for one in found]
    )
    return Outcome(found, front, refused, any(material.labelled for material in made.values()))


@dataclass(frozen=True, slots=True)
class _Material:
    """What candidates with the same features share. faults: synthetic ones by kind, empty where labels serve."""

    schema: str
    windows: Windows
    test: npt.NDArray[np.bool_]
    faults: dict[str, npt.NDArray[np.int32]]

    @property
    def labelled(self) -> bool:
        return not self.faults


def _material(series: Series, schema: str, plan: dict[str, Any]) -> _Material:
    features = parse_schema(schema)
    windows = compute(series, features)
    parts = training.divide(windows, len(series.values), features.window, training.Plan("search", schema, **plan))
    if not parts.test.any():
        raise ModelError("bad-data", "no window is left to test on: lower --train-part or --held-out-part")
    if (
        windows.anomalous is not None
        and windows.anomalous[parts.test].any()
        and not windows.anomalous[parts.test].all()
    ):
        return _Material(schema, windows, parts.test, {})
    ends = injected.clean_ends(windows, parts.test)
    if not len(ends):
        raise ModelError("bad-data", "the test part is anomalous throughout: nothing normal to tell from it")
    faults = injected.windows(series, schema, ends, round(len(series.values) * plan["train_part"]))
    return _Material(schema, windows, parts.test, faults)


def _try(series: Series, candidate: Candidate, material: _Material, plan: dict[str, Any]) -> Found:
    model = training.train(
        series,
        training.Plan(
            candidate.detector, material.schema, candidate.detector, candidate.settings, dtype=candidate.dtype, **plan
        ),
        material.windows,
    )
    size = len(compiler.native_module(convert.c_source(model), "x64"))
    normal = model.scores(material.windows.features[material.test])
    by_kind: dict[str, float] = {}
    if material.windows.anomalous is not None and material.labelled:
        scores, truth = normal, material.windows.anomalous[material.test]
    else:
        faulty = {kind: model.scores(vectors) for kind, vectors in material.faults.items()}
        by_kind = {kind: float((values > model.threshold).mean()) for kind, values in faulty.items()}
        scores = np.concatenate((normal, *faulty.values()))
        truth = np.arange(len(scores)) >= len(normal)
    alarms = scores > model.threshold
    false_alarms, recall = float(alarms[~truth].mean()), float(alarms[truth].mean())
    return Found(
        candidate,
        model,
        quality=recall - false_alarms if by_kind else float(average_precision_score(truth, scores)),
        false_alarms=false_alarms,
        recall=recall,
        bytes=size,
        cost=cost.of_model(model),
        scores=scores,
        truth=truth,
        recall_by_kind=by_kind,
    )

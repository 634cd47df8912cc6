"""Runs the evaluation: fit on the first part, export, score everything after it by the compiled model, count.

The protocol and what each figure means are in docs/evaluation.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_export import evaluate_board as board
from model_export import evaluate_recipe as recipe
from model_export.errors import ModelError
from model_export.evaluate_data import Recording
from model_export.evaluate_measures import (
    Alarms,
    Confusion,
    Detections,
    Episodes,
    confusion,
    count_detections,
    count_episodes,
    drifted_at,
)
from model_export.keys import PublisherKey
from model_export.model import Model

# A model is called outdated, from its alarms alone, when this share of as many rows as it was trained on were in alarm:
# longer than a fault should last, and enough rows for a new model to rest on as much as the first.
DRIFT_SHARE = 0.7

Scorer = Callable[[Model, Any], Any]
"""(model, series) -> float64 (windows,): scores of every window."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SkabResult:
    name: str
    setting: str
    counts: Confusion


@dataclass(frozen=True, slots=True)
class NabResult:
    """One series. labelled: its windows, those in the training part too; retrained_at: row at which the one retrain
    took place, or None; `retrained` counts with it. told: what a board with the retrain tells of it, each_row: every
    row in alarm, as detections of the benchmark."""

    name: str
    window: int
    labelled: int
    frozen: Episodes
    retrained: Episodes
    retrained_at: int | None
    told: Detections
    each_row: Detections


def compiled(key: PublisherKey) -> Scorer:
    """Scores by the exported artifact under MicroPython, which must have proven its parity first."""
    return lambda model, series: board.scores(board.export(model, key), series)


def reference(model: Model, series: Any) -> Any:
    """Scores by scikit-learn: for sensitivity studies, where hundreds of settings are tried."""
    from model_export.windows import compute

    return model.scores(compute(series, model.features).features)


def skab(recording: Recording, setting: recipe.Setting, score: Scorer) -> SkabResult:
    """One recording of SKAB: every second after the training rows, by the window that ends with it."""
    if len(recording.values) <= recipe.TRAIN_ROWS or recording.anomalous is None:
        raise ModelError("bad-data", f"{recording.name}: more than {recipe.TRAIN_ROWS} labelled rows are needed")
    start = recipe.TRAIN_ROWS
    model = recipe.fit(recording.part(0, start), recipe.SKAB_WINDOW, recipe.SKAB_TOKENS, setting)
    alarms = alarms_of(model, recording, 0, score)
    return SkabResult(recording.name, setting.name, confusion(alarms[start:], recording.anomalous[start:]))


def nab(recording: Recording, setting: recipe.Setting, score: Scorer) -> NabResult:
    """One series of the Numenta benchmark, with the first model for ever and with one retrain."""
    rows = len(recording.values)
    start = int(recipe.TRAIN_PART * rows)
    window = recipe.nab_window(recording, start)
    if start < 4 * window:
        raise ModelError("bad-data", f"{recording.name}: {start} rows to train on are fewer than 4 windows of {window}")
    model = recipe.fit(recording.part(0, start), window, recipe.NAB_TOKENS, setting)
    alarms = alarms_of(model, recording, 0, score)
    alarms[:start] = False
    frozen = retrained = count_episodes(recording.hours, alarms, recording.spans, start)
    at = drifted_at(alarms, start, start, DRIFT_SHARE)
    if at is not None:
        recent = recipe.fit(recording.part(at - start, at), window, recipe.NAB_TOKENS, setting)
        after = alarms_of(recent, recording, at - window + 1, score)
        alarms = np.concatenate((alarms[:at], after[at:]))
        retrained = count_episodes(recording.hours, alarms, recording.spans, start)
    return NabResult(
        recording.name,
        window,
        len(recording.spans),
        frozen,
        retrained,
        at,
        told=count_detections(recording.hours, board.told(alarms), recording.spans, start),
        each_row=count_detections(recording.hours, alarms, recording.spans, start),
    )


def alarms_of(model: Model, recording: Recording, start: int, score: Scorer) -> Alarms:
    """bool (rows,): the window that ends at each row scores above the threshold; False before the first that begins at
    row `start` or later."""
    scores = score(model, recording.part(start, len(recording.values)))
    alarms = np.zeros(len(recording.values), dtype=np.bool_)
    alarms[start + model.features.window - 1 :] = scores > model.threshold
    return alarms

"""The shuttle series and models of it, which tests of several packages share: each is made once in a process."""

import json
from functools import cache

from model_export import data
from model_export.data import Series
from model_export.detectors.numbers import FLOAT32
from model_export.model import Model
from model_export.train import Plan, train
from model_export.windows import Windows, compute, parse_schema

SCHEMA = data.PRESETS["shuttle"].schema
# An autoencoder learns for 300 rounds, six seconds. What it learns after 30 changes hardly a decision.
_QUICK: dict[str, dict[str, object]] = {"autoencoder": {"max_iter": 30}}


@cache
def series() -> Series:
    """49,097 rows of nine integers, labelled."""
    return data.load("shuttle")


@cache
def windows() -> Windows:
    """Each row as a window of its own."""
    return compute(series(), parse_schema(SCHEMA))


def model(detector: str, dtype: str = FLOAT32, **settings: object) -> Model:
    """Trained on the first tenth, its threshold found on the second; quickly, unless the settings say otherwise.

    Shared: a test that changes it copies it first.
    """
    return _model(detector, dtype, json.dumps(_QUICK.get(detector, {}) | settings, sort_keys=True))


def full_model(detector: str, dtype: str = FLOAT32) -> Model:
    """As `model` gives it, with the detector's own settings however long they take."""
    return _model(detector, dtype, "{}")


@cache
def _model(detector: str, dtype: str, settings: str) -> Model:
    plan = Plan("shuttle", SCHEMA, detector, json.loads(settings), train_part=0.1, held_out_part=0.1, dtype=dtype)
    return train(series(), plan, windows())

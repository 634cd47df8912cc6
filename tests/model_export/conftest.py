"""Series and models the tests share; training is deterministic, so once per run is enough."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from model_export import compile as compiler
from model_export import convert, data, keys
from model_export.data import Series
from model_export.keys import PublisherKey
from model_export.model import Model
from model_export.train import Plan, train


def make_series(rows: int = 600, channels: int = 2, seed: int = 1, labels: bool = False) -> Series:
    """Correlated noise in steps of 1/100; with labels, every 50th row is far away and labelled."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=(rows, channels)) + rng.normal(size=(rows, 1)) * 0.5 + 20, 2)
    odd = np.arange(rows) % 50 == 49
    if labels:
        values[odd] += 9
    return Series("made", "0" * 64, tuple(f"c{i}" for i in range(channels)), values, odd if labels else None)


def module(model: Model, arch: str = "x64") -> bytes:
    """The native module of a model; a source is compiled once in a process, which takes a second."""
    return _built(convert.c_source(model), arch)


_built = cache(compiler.native_module)


@pytest.fixture(scope="session")
def water_flow() -> Model:
    preset = data.PRESETS["water-flow"]
    plan = Plan(
        "water-flow", preset.schema, train_part=preset.train_part, held_out_part=preset.held_out_part, false_alarms=0.01
    )
    return train(data.load("water-flow"), plan)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> PublisherKey:
    folder: Path = tmp_path_factory.mktemp("keys")
    return keys.create(folder, "test")

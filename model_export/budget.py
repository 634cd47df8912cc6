"""What a model may weigh on each board, and which smaller setting fits when one is too heavy."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_export import compile as compiler
from model_export import convert
from model_export.detectors import scaling
from model_export.errors import ModelError
from model_export.model import Model, reference_scores

# Sizes rise nearly in a straight line with a setting; the guess along it stays a little below.
_CAUTION = 0.95
_TRIES = 4  # each is a build, which takes seconds


@dataclass(frozen=True, slots=True)
class Board:
    """One kind of board.

    payload_bytes: largest model. MicroPython copies a native module from flash to RAM when it is imported, so this is
    RAM too: about a quarter of what is free beside Wi-Fi. A decision of ours; --budget-bytes sets another.
    clock_mhz, active_mw: processor running, radio off, 3.3 V. cycles_float, cycles_integer: assumed for one addition,
    multiplication or comparison, where floats without a float unit are libgcc calls. Assumed figures serve to compare
    models, `make bench` counts instructions.
    """

    name: str
    arch: str
    payload_bytes: int
    clock_mhz: int
    active_mw: int
    cycles_float: int
    cycles_integer: int


BOARDS = {
    board.name: board
    for board in (
        Board("esp32", "xtensawin", 32_768, 160, 132, 4, 3),
        Board("esp32-s3", "xtensawin", 65_536, 160, 132, 4, 3),
        Board("esp32-c3", "rv32imc", 32_768, 160, 83, 60, 3),
        Board("esp32-c6", "rv32imc", 49_152, 160, 83, 60, 3),
        Board("nrf52840", "armv7emsp", 24_576, 64, 20, 3, 3),
    )
}


def by_name(name: str) -> Board:
    """Raises ModelError(unsupported)."""
    if name not in BOARDS:
        raise ModelError("unsupported", f"no board {name!r}: choose one of {', '.join(BOARDS)}")
    return BOARDS[name]


@dataclass(frozen=True, slots=True)
class Knob:
    """The setting that makes a detector smaller; `value` is what a fitted estimator has, `lowest` where to stop."""

    setting: str
    value: Callable[[Any], int]
    lowest: int = 1


KNOBS = {
    "isolation-forest": Knob("n_estimators", lambda core: len(core.estimators_)),
    "random-forest": Knob("n_estimators", lambda core: len(core.estimators_)),
    "extra-trees": Knob("n_estimators", lambda core: len(core.estimators_)),
    "gaussian-mixture": Knob("n_components", lambda core: len(core.means_)),
    "bayesian-mixture": Knob("n_components", lambda core: len(core.means_)),
    "kmeans": Knob("n_clusters", lambda core: len(core.cluster_centers_)),
    "nearest-neighbour": Knob("points", lambda core: len(core._fit_X), 4),
    "pca": Knob("n_components", lambda core: int(core.n_components_)),
}


def require(model: Model, arch: str, size: int, limit: int, what: str) -> None:
    """Raises ModelError(budget) when `size` bytes exceed `limit`; `what` sets the limit, such as a board's name."""
    if size <= limit:
        return
    raise ModelError("budget", f"the model is {size} bytes, {what} takes {limit}. {_advice(model, arch, size, limit)}")


def _advice(model: Model, arch: str, size: int, limit: int) -> str:
    found = smaller(model, arch, size, limit)
    if found is not None:
        setting, value, bytes_ = found
        return f"Train it with `--set {setting}={value}`: that is {bytes_} bytes"
    features = max(1, int(model.features.n_features * (limit / size) ** 0.5))
    return f"Give {model.card['detector']} at most {features} features, or take a detector whose size has a setting"


def smaller(model: Model, arch: str, size: int, limit: int) -> tuple[str, int, int] | None:
    """(setting, value, bytes) that fits `limit`, proven by fitting and compiling it; None where the detector has no
    such setting, or none small enough. size: bytes of the model as it is.

    A classifier cannot be fitted again, as a model folder holds no labels: its first trees stand for fewer trees.
    """
    knob = KNOBS.get(model.card["detector"])
    if knob is None:
        return None
    value = knob.value(scaling.split(model.estimator)[1])
    lowest = knob.lowest
    least = _size_with(model, arch, knob.setting, lowest)
    if value <= lowest or least > limit:
        return None
    guess = lowest + int(_CAUTION * (value - lowest) * (limit - least) / max(1, size - least))
    for _ in range(_TRIES):
        if guess <= lowest:
            break
        proven = _size_with(model, arch, knob.setting, guess)
        if proven <= limit:
            return knob.setting, guess, proven
        guess = (guess + lowest) // 2
    return knob.setting, lowest, least


def _size_with(model: Model, arch: str, setting: str, value: int) -> int:
    """Bytes of the native module with another setting."""
    return len(compiler.native_module(convert.c_source(_with(model, setting, value)), arch))


def _with(model: Model, setting: str, value: int) -> Model:
    """The model as it would be with another setting."""
    if model.detector.supervised:
        return _first_trees(model, value)
    settings = model.card["settings"] | {setting: value}
    seen = model.as_seen(model.train)
    estimator = model.detector.fit(seen.astype(np.float64), None, model.card["seed"], settings)
    scalers, core = scaling.split(estimator)
    model.detector.settle(core, model.dtype, scalers)
    limit = float(np.float32(np.quantile(reference_scores(estimator, seen), 0.99)))
    return Model(estimator, model.train, model.held_out, model.card | {"threshold": limit})


def _first_trees(model: Model, count: int) -> Model:

    estimator = copy.deepcopy(model.estimator)
    core = scaling.split(estimator)[1]
    core.estimators_ = core.estimators_[:count]
    core.n_estimators = count
    return Model(estimator, model.train, model.held_out, model.card)

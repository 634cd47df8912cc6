"""Fits a detector to the first part of a series, sets its threshold on the next, and measures it on the rest."""

import copy
import platform
import warnings
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from model_export import detectors, threshold
from model_export.data import Series
from model_export.detectors import scaling, warm
from model_export.detectors.base import Detector
from model_export.detectors.numbers import FLOAT32, INT16, as_int16, shifts_for
from model_export.errors import ModelError
from model_export.model import Model, reference_scores
from model_export.windows import Windows, compute, parse_schema

MIN_WINDOWS_PER_FEATURE = 3
MIN_HELD_OUT = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train. `train_part` and `held_out_part` are shares of the series, in order of time, from its start.

    false_alarms: target share of normal windows that score above the threshold; threshold: one of threshold.METHODS,
    how it is found on the held-out windows. dtype: one of detectors.numbers.DTYPES.
    """

    name: str
    schema: str
    detector: str = "elliptic-envelope"
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    seed: int = 0
    train_part: float = 0.4
    held_out_part: float = 0.3
    false_alarms: float = 0.01
    threshold: str = "held-out"
    dtype: str = FLOAT32


@dataclass(frozen=True, slots=True)
class Warm:
    """The forest to go on from, and which share of its trees, the oldest, is fitted anew."""

    model: Model
    share: float


@dataclass(frozen=True, slots=True)
class Parts:
    """Row selections of Windows.features, bool (n,): only clean windows in held_out, and in train unless kept."""

    train: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]


def train(series: Series, plan: Plan, windows: Windows | None = None, start: Warm | None = None) -> Model:
    """A fitted model with its card; deterministic. Raises ModelError.

    windows: those of `series` by the plan's schema, where they are at hand already. start: keep most trees of a forest.
    """
    detector = detectors.by_name(plan.detector)
    if start is not None:
        _check_start(start, plan)
        of_start = {**start.model.card["settings"], "n_estimators": warm.trees_of(start.model.estimator)}
        plan = replace(plan, settings=of_start | {**plan.settings, "n_estimators": of_start["n_estimators"]})
    features = parse_schema(plan.schema)
    windows = compute(series, features) if windows is None else windows
    parts = divide(windows, len(series.values), features.window, plan, keep_anomalies=detector.supervised)
    fitted = windows.features[parts.train]
    held_out = windows.features[parts.held_out]
    _check_enough(fitted, held_out, features.names, plan)

    labels = windows.anomalous[parts.train] if detector.supervised and windows.anomalous is not None else None
    shifts = shifts_for(fitted) if plan.dtype == INT16 else []
    seen = as_int16(windows.features, shifts) if shifts else windows.features
    estimator, remarks = _fit(
        detector, seen[parts.train], labels, plan if start is None else _of_new_trees(start, plan)
    )
    # Of features that int16 holds as they are the float32 model learns the same, and need not learn it again.
    twin = copy.deepcopy(estimator) if shifts and np.array_equal(seen[parts.train], fitted) else None
    _settle(detector, estimator, plan.dtype)
    if start is not None:
        estimator = warm.renewed(start.model.estimator, estimator)
    scores = reference_scores(estimator, seen)
    if scores.min() == scores.max():
        raise ModelError(
            "bad-model",
            f"{plan.detector} gives every window the same score ({scores[0]:g}): it learned nothing to tell windows "
            "apart by. Change its settings or the features",
        )
    chosen = threshold.METHODS[plan.threshold](scores[parts.held_out], plan.false_alarms)
    card: dict[str, Any] = {
        "name": plan.name,
        "detector": plan.detector,
        "estimator": type(scaling.split(estimator)[1]).__name__,
        "settings": plan.settings,
        "schema": plan.schema,
        "schema_hash": features.schema_hash.hex(),
        "threshold": chosen.value,
        "margin": chosen.margin,
        "seed": plan.seed,
        "dataset": {
            "name": series.name,
            "sha256": series.sha256,
            "rows": len(series.values),
            "channels": list(series.channels),
            "labelled": series.labels is not None,
            "train_part": plan.train_part,
            "held_out_part": plan.held_out_part,
        },
        "windows": {"train": len(fitted), "held_out": len(held_out), "test": int(parts.test.sum())},
        "false_alarms": {
            "target": plan.false_alarms,
            "method": plan.threshold,
            "held_out": chosen.false_alarms,
            "confidence_95": [chosen.low, chosen.high],
        },
        "test": measure(windows, parts.test, scores, chosen.value),
        "dtype": plan.dtype,
        "remarks": remarks,
        "versions": {name: version(name) for name in ("scikit-learn", "numpy", "emlearn")}
        | {"python": platform.python_version()},
    }
    if start is not None:
        trees = len(estimator.estimators_)
        card["warm"] = {
            "from": start.model.card["dataset"]["sha256"],
            "replaced": _replaced(start),
            "kept": trees - _replaced(start),
            "generation": _generation(start),
        }
    if shifts:
        card["shifts"] = shifts
        if twin is None:
            twin, _ = _fit(detector, fitted, labels, plan)
        _settle(detector, twin, FLOAT32)
        card["quantisation"] = _quantisation(twin, plan, windows, parts, scores > chosen.value) | {
            "bits_left_out": {name: bits for name, bits in zip(features.names, shifts, strict=True) if bits}
        }
    return Model(estimator, fitted, held_out, card)


def _check_start(start: Warm, plan: Plan) -> None:
    card = start.model.card
    for what, old, new in (
        ("detector", card["detector"], plan.detector),
        ("schema", card["schema"], plan.schema),
        ("dtype", start.model.dtype, FLOAT32),
        ("dtype", FLOAT32, plan.dtype),
    ):
        if old != new:
            raise ModelError(
                "unsupported", f"the model to go on from has {what} {old}, this one {new}: their trees do not fit"
            )
    if warm.trees_of(start.model.estimator) <= _replaced(start):
        raise ModelError("unsupported", f"--replace-share {start.share:g} leaves no tree: train without --warm-from")


def _replaced(start: Warm) -> int:
    return max(1, round(start.share * warm.trees_of(start.model.estimator)))


def _generation(start: Warm) -> int:
    """How often trees were replaced since the forest was fitted as a whole."""
    return start.model.card.get("warm", {}).get("generation", 0) + 1


def _of_new_trees(start: Warm, plan: Plan) -> Plan:
    """The plan of the trees that are new. Another seed in each generation: the same would fit the same trees again."""
    return replace(
        plan, settings={**plan.settings, "n_estimators": _replaced(start)}, seed=plan.seed + _generation(start)
    )


def _quantisation(
    twin: Any, plan: Plan, windows: Windows, parts: Parts, alarms: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """What int16 changed: how many windows of the series `twin`, the float32 estimator of the same plan, decides
    otherwise, each by its own threshold."""
    scores = reference_scores(twin, windows.features)
    limit = threshold.METHODS[plan.threshold](scores[parts.held_out], plan.false_alarms).value
    return {
        "windows": len(alarms),
        "decisions_differing": int(np.count_nonzero(alarms != (scores > limit))),
        "float32_test": measure(windows, parts.test, scores, limit),
    }


def _fit(
    detector: Detector, fitted: npt.NDArray[np.int32], labels: npt.NDArray[np.bool_] | None, plan: Plan
) -> tuple[Any, list[str]]:
    """The fitted estimator, not yet settled, and what scikit-learn warned of; raises ModelError."""
    # KMeans adds up what its threads found as they end: another number of cores, other last bits.
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(1):
        warnings.simplefilter("always")
        try:
            estimator = detector.fit(fitted.astype(np.float64), labels, plan.seed, plan.settings)
        except TypeError as error:
            raise ModelError("unsupported", f"settings of {detector.name}: {error}") from None
        except ValueError as error:
            raise ModelError("bad-data", f"{detector.name} cannot be fitted to this data: {error}") from None
    return estimator, sorted({str(warning.message).partition(":")[0] for warning in caught})


def _settle(detector: Detector, estimator: Any, dtype: str) -> None:
    scalers, core = scaling.split(estimator)
    detector.settle(core, dtype, scalers)


def divide(windows: Windows, n_rows: int, window: int, plan: Plan, keep_anomalies: bool = False) -> Parts:
    """Training, held-out and test windows; none of the first two parts reaches into the part after it.

    keep_anomalies: train on anomalous windows too, as a classifier must.
    """
    train_end = round(n_rows * plan.train_part)
    held_out_end = round(n_rows * (plan.train_part + plan.held_out_part))
    starts = windows.ends - window + 1
    clean = np.ones(len(starts), dtype=np.bool_) if windows.clean is None else windows.clean
    return Parts(
        train=(clean | keep_anomalies) & (windows.ends < train_end),
        held_out=clean & (starts >= train_end) & (windows.ends < held_out_end),
        test=starts >= held_out_end,
    )


def measure(
    windows: Windows, part: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], limit: float
) -> dict[str, Any]:
    """Alarms in one part and, where labels exist, how good they are; a window bears its last sample's label."""
    alarms = scores[part] > limit
    result: dict[str, Any] = {"windows": len(alarms), "alarms": int(alarms.sum())}
    if windows.anomalous is None or not len(alarms):
        return result
    truth = windows.anomalous[part]
    hits = int((alarms & truth).sum())
    result["anomalous"] = int(truth.sum())
    result["hits"] = hits
    result["precision"] = hits / max(1, int(alarms.sum()))
    result["recall"] = hits / max(1, int(truth.sum()))
    result["f1"] = 2 * hits / max(1, int(alarms.sum()) + int(truth.sum()))
    result["false_alarm_rate"] = float(alarms[~truth].mean()) if not truth.all() else 0.0
    return result


def _check_enough(fitted: npt.NDArray[np.int32], held_out: npt.NDArray[np.int32], names: list[str], plan: Plan) -> None:
    needed = max(MIN_HELD_OUT, MIN_WINDOWS_PER_FEATURE * len(names))
    if len(fitted) < needed:
        raise ModelError(
            "bad-data",
            f"{len(fitted)} normal windows to train on, too few for {len(names)} features: at least {needed} are "
            f"needed. Record more, raise --train-part ({plan.train_part:g}) or use fewer features",
        )
    if len(held_out) < MIN_HELD_OUT:
        raise ModelError(
            "bad-data",
            f"{len(held_out)} normal windows are held out to set the threshold, at least {MIN_HELD_OUT} are needed: "
            f"raise --held-out-part ({plan.held_out_part:g})",
        )
    constant = [name for name, low, high in zip(names, fitted.min(0), fitted.max(0), strict=True) if low == high]
    if constant:
        raise ModelError(
            "bad-data",
            f"constant in the training part: {', '.join(constant)}. Leave them out of the schema, train on more rows, "
            "or give their channels a finer scale (--schema): features are whole counts",
        )

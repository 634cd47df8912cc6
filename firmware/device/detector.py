"""Scores a feature vector with the model of a slot, or with the SAFE limits that every firmware has.

Only this file knows how a payload becomes a function. A native payload is a .mpy with two functions,
`score(features: array('i')) -> float` and `n_features() -> int`, imported from its slot's folder. A table blob is data,
scored where it lies by device/table.py or contract/table_gaussian.py, loaded only when a model needs them.
"""

import gc
import sys
import time

from micropython import const

from contract.wire import (
    FORMAT_BLOB,
    FORMAT_NATIVE,
    REASON_BAD_DIGEST,
    REASON_LOAD_FAILED,
    REASON_NAMES,
    REASON_SCHEMA_MISMATCH,
    REASON_SELFTEST_FAILED,
    REASON_WRONG_FORMAT,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from device.slots import Installed, Slots

_MAX_SCORE_US = const(50000)  # a forest of 100 trees takes 0.2 ms on an ESP32; this catches a runaway, not a slow one
_MAX_SCORE_BYTES = const(256)  # a score is one float; emlearn's inline code allocates nothing else
_MIN_FREE_BYTES = const(8192)  # what a session needs once the model is loaded


class DetectorError(Exception):
    """A model that cannot be used; `code` is a REASON_* value."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return REASON_NAMES[self.code] + (": " + self.detail if self.detail else "")


class Detector:
    """A loaded model: `name`, `version`, `sha8`, `threshold`, `margin` and `n_features` are its manifest's."""

    def __init__(self, model: "Installed", score: object, table: object = None) -> None:
        self.name = model.name
        self.version = model.version
        self.sha8 = model.sha8
        self.threshold = model.threshold
        self.margin = model.margin
        self.n_features = model.n_features
        self.spare_bytes = table.spare_bytes if table else _MAX_SCORE_BYTES
        self._score = score
        self._table = table

    def check(self) -> None:
        """Reads every byte of a payload that is data; raises DetectorError."""
        if self._table:
            try:
                self._table.check()
            except Exception as e:  # noqa: BLE001 - TableError, without its module where no table is used
                raise DetectorError(REASON_SELFTEST_FAILED, str(e))

    def score(self, features: "array") -> float:
        """How anomalous `features`, array('i') of n_features, is; raises DetectorError when that is no number."""
        if len(features) != self.n_features:  # machine code would read past the end
            raise DetectorError(REASON_SCHEMA_MISMATCH, "%d features, not %d" % (len(features), self.n_features))
        score = self._score(features)
        if not abs(score) >= 0:  # NaN compares with nothing, None has no size
            raise DetectorError(REASON_SELFTEST_FAILED, "no number")
        return score

    def is_anomalous(self, score: float) -> bool:
        """The model's decision."""
        return score > self.threshold

    def distance(self, score: float) -> float:
        """How far the score is from the threshold; below `margin` the decision is doubtful."""
        return abs(score - self.threshold)


class SafeModel:
    """The model of last resort: limits from the board's own configuration, no file, nothing to verify.

    limits: (feature index, low, high) each. The score is the largest excess over a limit in parts of its span, 0
    when all hold; anomalous above 0. Without limits nothing is ever anomalous.
    """

    name = "safe"
    version = "0.0.0"
    sha8 = bytes(8)
    threshold = 0.0
    margin = 0.0

    def __init__(self, n_features: int, limits: tuple = ()) -> None:
        self.n_features = n_features
        self._limits = limits

    @property
    def has_limits(self) -> bool:
        """False when nothing can ever be anomalous."""
        return len(self._limits) > 0

    def score(self, features: "array") -> float:
        """The largest excess; features: array('i')."""
        worst = 0.0
        for index, low, high in self._limits:
            value = features[index]
            excess = low - value if value < low else value - high
            worst = max(worst, excess / max(high - low, 1))
        return worst

    is_anomalous = Detector.is_anomalous
    distance = Detector.distance


def load(slots: "Slots", slot: int, model: "Installed", schema_hash: bytes, recheck: bool) -> Detector:
    """The model in `slot`, as `model` (slots.Installed) describes it; raises DetectorError.

    schema_hash is that of the features this board computes now. `recheck` takes the artifact's digest again first:
    after a cold start flash may have been changed from outside, after a deep sleep it was not.
    """
    if model.schema_hash != schema_hash:
        raise DetectorError(REASON_SCHEMA_MISMATCH, "the board's features changed")
    if model.format not in (FORMAT_NATIVE, FORMAT_BLOB):
        raise DetectorError(REASON_WRONG_FORMAT)
    if recheck:
        try:
            digest = slots.digest(slot, model.format)
        except OSError as e:
            raise DetectorError(REASON_BAD_DIGEST, "unreadable: " + str(e))
        if digest != model.sha256:
            raise DetectorError(REASON_BAD_DIGEST, "changed on flash")
    if model.format == FORMAT_BLOB:
        return _load_table(slots, slot, model)
    module = _import(slots.folder(slot), slots.module_name(slot))
    try:
        n_features = module.n_features()
        score = module.score
    except Exception as e:  # noqa: BLE001 - a payload may raise anything
        raise DetectorError(REASON_LOAD_FAILED, repr(e))
    _require_features(n_features, model)
    return Detector(model, score)


def _load_table(slots: "Slots", slot: int, model: "Installed") -> Detector:
    gc.collect()
    from contract import table as form

    try:
        data = slots.read_in_place(slot, model.format)
        if form.kind_of(data) == form.GAUSSIAN:
            from contract.table_gaussian import Gaussian as Table
        else:
            from device.table import Forest as Table
        gc.collect()
        table = Table(data)
    except (OSError, form.TableError) as e:
        raise DetectorError(REASON_LOAD_FAILED, str(e))
    _require_features(table.n_features, model)
    if table.threshold != model.threshold:
        raise DetectorError(REASON_LOAD_FAILED, "payload decides at %g" % table.threshold)
    return Detector(model, table.score, table)


def _require_features(n_features: int, model: "Installed") -> None:
    if n_features != model.n_features:
        raise DetectorError(REASON_SCHEMA_MISMATCH, "payload of %s features" % n_features)


def unload(slots: "Slots", slot: int) -> None:
    """Lets go of the payload of a slot, which may have been loaded for its self-test only."""
    sys.modules.pop(slots.module_name(slot), None)


def _import(folder: str, name: str) -> object:
    sys.modules.pop(name, None)  # an older model of this slot
    sys.path.insert(0, folder)
    try:
        return __import__(name)
    except Exception as e:  # noqa: BLE001 - a payload may raise anything, and MicroPython ValueError for a foreign arch
        raise DetectorError(REASON_LOAD_FAILED, repr(e))
    finally:
        sys.path.remove(folder)


def self_test(detector: Detector, golden: "Iterator[tuple[array, float]]", tolerance: float) -> None:
    """Scores every golden vector: within `tolerance` of the publisher's score, the same decision, in time and space.

    golden: iterable of (features, score), features an array('i') that may be reused. Raises DetectorError.
    """
    detector.check()
    gc.collect()
    if gc.mem_free() < _MIN_FREE_BYTES:
        raise DetectorError(REASON_SELFTEST_FAILED, "%d bytes of heap left" % gc.mem_free())
    for index, (features, expected) in enumerate(golden):
        allocated = gc.mem_alloc()
        began = time.ticks_us()
        try:
            score = detector.score(features)
        except DetectorError:
            raise
        except Exception as e:  # noqa: BLE001 - a payload may raise anything
            raise DetectorError(REASON_SELFTEST_FAILED, "vector %d: %r" % (index, e))
        took_us = time.ticks_diff(time.ticks_us(), began)
        used = gc.mem_alloc() - allocated
        if not abs(score - expected) <= tolerance:
            raise DetectorError(REASON_SELFTEST_FAILED, "vector %d: %g, not %g" % (index, score, expected))
        if detector.is_anomalous(score) != detector.is_anomalous(expected):
            raise DetectorError(REASON_SELFTEST_FAILED, "vector %d: decision" % index)
        if took_us > _MAX_SCORE_US:  # something came between, or it is slow and will be so again
            began = time.ticks_us()
            detector.score(features)
            took_us = time.ticks_diff(time.ticks_us(), began)
        if took_us > _MAX_SCORE_US:
            raise DetectorError(REASON_SELFTEST_FAILED, "vector %d: %d us" % (index, took_us))
        if used > detector.spare_bytes:  # below 0 when a collection came between
            raise DetectorError(REASON_SELFTEST_FAILED, "vector %d: %d bytes of heap" % (index, used))

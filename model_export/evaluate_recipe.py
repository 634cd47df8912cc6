"""The two fixed recipes of the evaluation: from the training part of a recording to a model, with nothing else seen."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from model_export import detectors, threshold
from model_export.data import Series
from model_export.detectors import scaling
from model_export.evaluate_data import Recording, sample_hours
from model_export.model import Model, reference_scores
from model_export.windows import compute, parse_schema, schema_for

DETECTOR = "gaussian"
TRAIN_ROWS = 400  # of a SKAB recording
TRAIN_PART = 0.15  # of a NAB series
SKAB_WINDOW = 10
SKAB_TOKENS = ("mean", "sd")
NAB_TOKENS = ("mean",)
NAB_SHORT_WINDOW = 6
# A daily cycle is averaged out by windows of a day, once training has seen it that often.
NAB_DAYS_SEEN = 14
_MAX_WINDOW = 256
# No threshold may call more than one in a thousand windows anomalous that follow the fitted Gaussian itself.
_FLOOR_QUANTILE = 0.999


@dataclass(frozen=True, slots=True)
class Setting:
    """A threshold: `spreads` interquartile ranges above the highest training score."""

    name: str
    spreads: float


BALANCED = Setting("balanced", 14.0)
LOW_ALARM = Setting("low-alarm", 20.0)
NAB_SETTING = Setting("nab", 3.0)


def nab_window(recording: Recording, train_rows: int) -> int:
    """Samples in a window: a day of them when training covers two weeks, else half a dozen."""
    step = sample_hours(recording)
    if round(train_rows * step, 6) < 24 * NAB_DAYS_SEEN:  # times are sums of floats
        return NAB_SHORT_WINDOW
    return min(_MAX_WINDOW, max(NAB_SHORT_WINDOW, round(24 / step)))


def fit(part: Series, window: int, tokens: tuple[str, ...], setting: Setting) -> Model:
    """A model of one training part; its schema's scales come from that part too."""
    schema = schema_for(part, window, tokens)
    features = parse_schema(schema)
    vectors = compute(part, features).features
    detector = detectors.by_name(DETECTOR)
    estimator = detector.fit(vectors.astype(np.float64), None, 0, {})
    detector.settle(scaling.split(estimator)[1])
    chosen = set_threshold(reference_scores(estimator, vectors), features.n_features, setting)
    card = {
        "name": "evaluation",
        "detector": DETECTOR,
        "estimator": type(scaling.split(estimator)[1]).__name__,
        "settings": {},
        "schema": schema,
        "schema_hash": features.schema_hash.hex(),
        "threshold": chosen.value,
        "margin": chosen.margin,
        "seed": 0,
        "dataset": {"name": part.name, "sha256": part.sha256, "rows": len(part.values)},
        "setting": {"name": setting.name, "spreads": setting.spreads},
    }
    return Model(estimator, vectors, vectors[:0], card)


def set_threshold(scores: npt.NDArray[np.float64], n_features: int, setting: Setting) -> threshold.Threshold:
    """From training scores (n,) alone."""
    return threshold.beyond_training(scores, setting.spreads, float(chi2.ppf(_FLOOR_QUANTILE, n_features)))

"""From a series to feature vectors, by the very code the boards run."""

from array import array
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from contract.features import COUNT_LIMIT, Features, SchemaError
from model_export.data import Series
from model_export.errors import ModelError

DEFAULT_TOKENS = ("mean", "var", "min", "max", "ld", "zc")


@dataclass(frozen=True, slots=True)
class Windows:
    """Every window of a series, one per sample once the first window is full.

    features: int32 (n, n_features); ends: intp (n,), row of each window's last sample; anomalous: bool (n,), the label
    of that sample, and clean: bool (n,), no sample of the window labelled, both None without labels.
    """

    features: npt.NDArray[np.int32]
    ends: npt.NDArray[np.intp]
    anomalous: npt.NDArray[np.bool_] | None
    clean: npt.NDArray[np.bool_] | None


def parse_schema(text: str) -> Features:
    """The Features of a schema text; raises ModelError(bad-schema)."""
    try:
        return Features(text)
    except SchemaError as error:
        raise ModelError("bad-schema", f"{error} in {text!r}") from None


def schema_for(series: Series, window: int, tokens: tuple[str, ...] = DEFAULT_TOKENS, train_part: float = 1.0) -> str:
    """A schema for any series: the finest decimal scale that the data has and that leaves half of int16 free.

    train_part: share of the rows, from the first on, that the scales are taken from; what comes later is not known yet.
    """
    seen = series.values[: max(1, round(len(series.values) * train_part))]
    channels = []
    for i, name in enumerate(series.channels):
        plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).strip("_")[:24] or f"c{i}"
        channels.append(f"{plain}::{_scale(seen[:, i])}")
    return f"v1;w={window};c={','.join(channels)};f={','.join(tokens)}"


def _scale(values: npt.NDArray[np.float64]) -> str:
    largest = float(np.abs(values).max())
    room = (COUNT_LIMIT + 1) / 2
    if largest > room:
        return f"1/{10 ** int(np.ceil(np.log10(largest / room)))}"
    scale = 1
    while scale < 1000000 and largest * scale * 10 <= room and np.any(np.abs(values * scale % 1) > 1e-9):
        scale *= 10
    return str(scale)


def to_counts(series: Series, features: Features) -> npt.NDArray[np.int32]:
    """The samples as the sampler would give them: int32 (rows, channels), rounded half to even, clamped."""
    if series.values.shape[1] != features.n_channels:
        raise ModelError(
            "bad-schema",
            f"the schema has {features.n_channels} channels, the data {series.values.shape[1]} "
            f"({', '.join(series.channels)}): select as many with --columns",
        )
    scale = np.array([channel.scale_num / channel.scale_den for channel in features.channels])
    return np.clip(np.rint(series.values * scale), -COUNT_LIMIT, COUNT_LIMIT).astype(np.int32)


def compute(series: Series, features: Features) -> Windows:
    """The feature vector of every window, not to be changed; raises ModelError(bad-data) below one window of rows."""
    counts = to_counts(series, features)
    size = features.window
    if len(counts) < size:
        raise ModelError("bad-data", f"{len(counts)} rows are fewer than one window of {size}: choose a smaller window")
    if set(features.names) == {f"{channel.name}.last" for channel in features.channels}:
        vectors = counts[size - 1 :].copy()  # the samples themselves, in a thousandth of the time
    elif len(counts) == size:  # one window, as a synthetic fault is, is sooner computed than found again
        vectors = _computed(counts.tobytes(), features)
    else:
        vectors = _kept(counts.tobytes(), features.text)
    ends = np.arange(size - 1, len(counts))
    if series.labels is None:
        return Windows(vectors, ends, None, None)
    running = np.concatenate(([0], np.cumsum(series.labels)))
    clean = running[ends + 1] == running[ends + 1 - size]
    return Windows(vectors, ends, series.labels[ends], clean)


@lru_cache(maxsize=4)  # the boards' code is slow here, and a study tries setting after setting on one recording
def _kept(counts: bytes, schema: str) -> npt.NDArray[np.int32]:
    return _computed(counts, Features(schema))


def _computed(counts: bytes, features: Features) -> npt.NDArray[np.int32]:
    """int32 (windows, features), read-only, one window after the other by the board's own code."""
    flat = array("i", counts)
    out = array("i", [0] * features.n_features)
    size, step = features.window, features.n_channels
    vectors = np.empty((len(flat) // step - size + 1, features.n_features), dtype=np.int32)
    for i in range(len(vectors)):
        features.compute_into(flat[i * step : (i + size) * step], out)
        vectors[i] = out
    vectors.flags.writeable = False
    return vectors

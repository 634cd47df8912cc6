"""Synthetic anomalies, for data without labels: five faults of sensors and machines, put into windows taken for normal.

They say whether a detector sees faults of these kinds and sizes, not how it does on the faults of one machine.
"""

import numpy as np
import numpy.typing as npt

from model_export.data import Series
from model_export.windows import Windows, compute, parse_schema

KINDS = ("spike", "shift", "stuck", "noise", "ramp")
# In standard deviations of the channel's training part.
SIZE = 2.0
MAX_WINDOWS = 100


def windows(
    series: Series, schema: str, ends: npt.NDArray[np.intp], train_rows: int, seed: int = 0
) -> dict[str, npt.NDArray[np.int32]]:
    """For each kind the feature vectors of up to MAX_WINDOWS windows, those that end at rows `ends`, with the fault put
    into one channel, in turn: int32 (n, n_features)."""
    features = parse_schema(schema)
    rng = np.random.default_rng(seed)
    spread = series.values[:train_rows].std(axis=0)
    chosen = ends[np.linspace(0, len(ends) - 1, min(len(ends), MAX_WINDOWS)).astype(int)]
    made = {}
    for kind in KINDS:
        vectors = []
        for i, end in enumerate(chosen):
            values = series.values[end - features.window + 1 : end + 1].copy()
            channel = i % features.n_channels
            values[:, channel] = _fault(kind, values[:, channel], float(spread[channel]), rng)
            changed = Series(series.name, series.sha256, series.channels, values, None)
            vectors.append(compute(changed, features).features[0])
        made[kind] = np.array(vectors)
    return made


def _fault(kind: str, x: npt.NDArray[np.float64], spread: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """One channel of one window with a fault."""
    sign = float(rng.choice([-1.0, 1.0]))
    if kind == "spike":
        changed = x.copy()
        changed[-1] += sign * 2 * SIZE * spread
        return changed
    if kind == "shift":
        return x + sign * SIZE * spread
    if kind == "stuck":
        return np.full_like(x, x.mean() + sign * SIZE * spread / 2)
    if kind == "noise":
        return x + rng.normal(0, SIZE * spread / 2, size=len(x))
    return x + sign * SIZE * spread * np.linspace(0, 1, len(x))


def clean_ends(windows: Windows, part: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Last rows of the windows of one part that hold no labelled sample."""
    chosen = part if windows.clean is None else part & windows.clean
    return windows.ends[chosen]

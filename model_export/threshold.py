"""From scores of normal windows to a threshold: the false-alarm rate asked for, and how sure one can be of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

# Share of normal windows that lie within the margin of the threshold and may be routed to a higher tier.
_DOUBTFUL = 0.02


@dataclass(frozen=True, slots=True)
class Threshold:
    """Anomalous when score > value. Both values are float32-exact.

    false_alarms: share of the held-out normal windows above; low, high: its 95 % confidence interval (Clopper and
    Pearson, 1934), which takes windows for independent: overlapping ones are not, and make it too narrow.
    """

    value: float
    margin: float
    false_alarms: float
    low: float
    high: float


def choose(scores: npt.NDArray[np.float64], target: float) -> Threshold:
    """The lowest threshold whose false-alarm rate on `scores` (n,), of normal windows, is at most `target`."""
    ordered = np.sort(scores)
    count = len(ordered)
    allowed = int(target * count)
    value = _between(ordered, count - allowed)
    doubtful = min(count - 1, allowed + max(1, round(_DOUBTFUL * count)))
    above = int(np.count_nonzero(scores > value))
    margin = float(np.float32(max(0.0, value - float(ordered[count - 1 - doubtful]))))
    low, high = interval(above, count)
    return Threshold(value, margin, above / count, low, high)


def _between(ordered: npt.NDArray[np.float64], at: int) -> float:
    """A float32 between the scores at - 1 and at: halfway, so that no normal window lies on it.

    Where scores repeat there may be no room; the float nearest above the lower one then still lets no more pass.
    """
    lower = float(ordered[at - 1])
    upper = float(ordered[at]) if at < len(ordered) else lower + 0.05 * max(abs(lower), 1e-6)
    value = np.float32(lower + (upper - lower) / 2)
    if float(value) < lower:
        value = np.nextafter(value, np.float32(np.inf))
    return float(value)


def interval(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson bounds of a rate of which `hits` of `count` were seen."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, count - hits + 1))
    high = 1.0 if hits == count else float(beta.ppf(1 - tail, hits + 1, count - hits))
    return low, high

"""From scores of normal windows to a threshold: the false-alarm rate asked for, and how sure one can be of it.

`choose` counts on held-out windows and can promise no rate below one in as many as there are. `extreme_value` fits the
tail of the scores and reads rarer rates off it. `beyond_training` needs no held-out windows: it stays clear of the
highest score seen in training by a multiple of their spread.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, genpareto

from model_export.errors import ModelError

# Share of normal windows that lie within the margin of the threshold and may be routed to a higher tier.
_DOUBTFUL = 0.02
# Share of scores that make the tail, as Siffer et al. choose it, and the fewest a fit to three numbers makes sense of.
_TAIL = 0.02
MIN_TAIL = 10


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
    return _described(scores, _between(ordered, count - allowed))


def extreme_value(scores: npt.NDArray[np.float64], target: float) -> Threshold:
    """The score that normal windows exceed at the rate `target`, by a generalised Pareto fit to the highest 2 %.

    Peaks over threshold, as in SPOT (Siffer, Fouque, Termier, Largouet: Anomaly Detection in Streams with Extreme
    Value Theory, KDD 2017, equation 1); the fit is scipy's maximum likelihood. Raises ModelError(bad-data) where the
    tail is too short or the target no tail probability.
    """
    ordered = np.sort(scores)
    count = len(ordered)
    tail = max(MIN_TAIL, round(_TAIL * count))
    if tail > count // 2 or target >= tail / count:
        raise ModelError(
            "bad-data",
            f"{count} held-out windows and a target of {target:g} leave no tail to fit: hold out more, ask for fewer "
            "false alarms, or choose the threshold by counting (--threshold held-out)",
        )
    start = float(ordered[count - tail - 1])
    peaks = ordered[count - tail :] - start
    if peaks[-1] <= 0:
        return _described(scores, _between(ordered, count))
    shape, _, scale = genpareto.fit(peaks, floc=0.0)
    with np.errstate(over="ignore"):
        value = np.float32(start + float(genpareto.isf(target * count / tail, shape, scale=scale)))
    if not np.isfinite(value):
        raise ModelError(
            "bad-data",
            f"the tail of the scores is so heavy (shape {shape:.2g}) that no threshold keeps a rate of {target:g}: ask "
            "for more false alarms, or choose another detector or features",
        )
    return _described(scores, float(value))


def beyond_training(scores: npt.NDArray[np.float64], spreads: float, floor: float = -np.inf) -> Threshold:
    """Above every training score by `spreads` interquartile ranges, and not below `floor`."""
    low, high = np.percentile(scores, [25, 75])
    return _described(scores, float(np.float32(max(scores.max() + spreads * (high - low), floor))))


def _described(scores: npt.NDArray[np.float64], value: float) -> Threshold:
    """A threshold with its margin (2 % of normal windows lie that close below it) and what it lets through."""
    ordered = np.sort(scores)
    count = len(ordered)
    above = int(np.count_nonzero(scores > value))
    doubtful = min(count - 1, above + max(1, round(_DOUBTFUL * count)))
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


METHODS = {"held-out": choose, "extreme-value": extreme_value}
"""How `edgewise model train --threshold` finds a threshold on held-out normal windows, for a target rate."""

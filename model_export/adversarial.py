"""Points that are hard for a compiled model: where a decision turns, and where numbers end."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.features import FEATURE_LIMIT

Scores = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]


def points(
    scores: Scores, threshold: float, seen: npt.NDArray[np.int32], count: int, seed: int = 0
) -> npt.NDArray[np.int32]:
    """At least `count` int32 vectors (n, n_features): pairs of neighbours between which the decision turns, found by
    halving lines from windows scored below the threshold to points above it; then the ends of the number range, noise
    over it, and single features moved one by one around real windows."""
    rng = np.random.default_rng(seed)
    pairs = turning_points(scores, threshold, seen, (count + 1) // 2, rng)
    width = seen.shape[1]
    ends = np.array([[0] * width, [FEATURE_LIMIT] * width, [-FEATURE_LIMIT] * width], dtype=np.int32)
    noise = rng.integers(-FEATURE_LIMIT, FEATURE_LIMIT, size=(64, width), dtype=np.int32, endpoint=True)
    moved = seen[rng.integers(len(seen), size=4 * width)].copy()
    for i in range(len(moved)):
        moved[i, i % width] += 1 if i // width % 2 else -1
    return np.concatenate((pairs, ends, noise, np.clip(moved, -FEATURE_LIMIT, FEATURE_LIMIT)))


def turning_points(
    scores: Scores, threshold: float, seen: npt.NDArray[np.int32], pairs: int, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """Up to `pairs` points not above the threshold, int32, then as many above, each within 1 of its partner in every
    feature. None where no point above is found."""
    inside = seen[scores(seen) <= threshold]
    if not len(inside):
        return np.empty((0, seen.shape[1]), dtype=np.int32)
    low = inside[rng.integers(len(inside), size=pairs)].astype(np.int64)
    high = _outside(scores, threshold, low, seen, rng)
    found = scores(high) > threshold
    low, high = low[found], high[found]
    apart = np.abs(high - low).max(axis=1, initial=0) > 1
    while apart.any():
        middle = (low + high) >> 1
        above = np.zeros(len(low), dtype=np.bool_)
        above[apart] = scores(middle[apart]) > threshold
        high[apart & above] = middle[apart & above]
        low[apart & ~above] = middle[apart & ~above]
        apart = np.abs(high - low).max(axis=1) > 1
    return np.concatenate((low, high)).astype(np.int32)


def _outside(
    scores: Scores,
    threshold: float,
    start: npt.NDArray[np.int64],
    seen: npt.NDArray[np.int32],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """From each start along a random direction, in units of each feature's spread, twice as far until above."""
    direction = rng.normal(size=start.shape) * (seen.std(axis=0) + 1.0)
    reach = np.full(len(start), 0.25)
    there = start.copy()
    for _ in range(40):
        inside = scores(there) <= threshold
        if not inside.any():
            break
        reach[inside] *= 2
        steps = np.clip(np.rint(direction[inside] * reach[inside, None]), -(2.0**40), 2.0**40).astype(np.int64)
        there[inside] = np.clip(start[inside] + steps, -FEATURE_LIMIT, FEATURE_LIMIT)
    return there

"""The tests behind the gates. Pure, exact, without assumptions on how a metric is distributed.

Who is a canary is drawn by a hash, so under "the candidate is no worse" the canaries' values are a random sample,
without replacement, of all values (Fisher's randomisation test; The Design of Experiments, 1935). The chance of a sum
as large as theirs is the share of all draws that have one. Where there are few canaries, and power is dear, the draws
are counted (the shift algorithm of M. Pagano and D. Tritchler, "On obtaining permutation distributions in polynomial
time", JASA 78, 1983), with values rounded up to a grid, so that the result is an upper bound. Where there are many, the
chance is bounded by Hoeffding's comparison with sampling *with* replacement (W. Hoeffding, "Probability inequalities
for sums of bounded random variables", JASA 58, 1963, theorem 4) and Chernoff's bound:

    P(sum >= t)  <=  min over s >= 0 of  exp(-s t) * (mean over all boards of exp(s x)) ** m

Neither needs normality or equal variances. The bound is 10 to 20 times the exact probability at the levels used here.

Looking again and again is paid for in advance (alpha spending; K. K. G. Lan and D. L. DeMets, Biometrika 70, 1983).
Of a gate's share of the error budget one half goes to look k as 1 / 2^k, since what a new model breaks shows at once,
a quarter is shared evenly by the looks that are planned, and a quarter goes as 1 / (k (k + 1)), for as many looks as
there will be. The sum stays within the budget whatever depends on what (a union bound), so the rollout may be watched
for as long as one likes, and delays cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_STEPS = 40
# Counting takes up to 30 ms within these.
_COUNTED_CANARIES = 20
_COUNTED_COHORT = 500
_GRID = 200


def level_of_look(budget: float, look: int, planned: int) -> float:
    """The p-value below which a gate stops the rollout at look 1, 2, ... of `planned` and more.

    `budget`: the chance that this gate stops a good model, over the whole rollout.
    """
    even = 1 / planned if look <= planned else 0.0
    return budget * (0.5 * 0.5**look + 0.25 * even + 0.25 / (look * (look + 1)))


def excess_p(canaries: Sequence[float], controls: Sequence[float]) -> float:
    """An upper bound of the chance that boards drawn at random have a sum as large as the canaries have.

    1.0 without canaries or controls, and wherever the excess is too small to be of interest.
    """
    m = len(canaries)
    if m == 0 or not controls:
        return 1.0
    pool = [*canaries, *controls]
    mean = sum(pool) / len(pool)
    excess = sum(canaries) - m * mean
    variance = sum((x - mean) ** 2 for x in pool) / len(pool)
    if variance <= 0 or excess <= 1.5 * math.sqrt(m * variance):
        return 1.0  # the bound at 1.5 standard errors is 0.32
    if _is_counted(m, len(pool)) and excess > 2.5 * math.sqrt(m * variance):  # below, no gate stops by either
        return _drawn_p(pool, m, sum(canaries))
    spread = math.sqrt(variance)
    units = [(x - mean) / spread for x in pool]
    target = excess / spread / m
    return min(1.0, math.exp(m * _least_exponent(units, target)))


def _drawn_p(pool: Sequence[float], m: int, total: float) -> float:
    """The share of all ways to draw m of the pool that have a sum of at least `total`, at most a little too large."""
    low = min(pool)
    step = (max(pool) - low) / _GRID
    units = [math.ceil((x - low) / step - 1e-9) for x in pool]
    needed = math.ceil((total - m * low) / step - 1e-6)
    ways = np.zeros((m + 1, m * (_GRID + 1) + 1))  # [k, s]: ways to draw k of those seen so far with sum s
    ways[0, 0] = 1.0
    for seen, unit in enumerate(units):
        for k in range(min(m, seen + 1), 0, -1):
            ways[k, unit:] += ways[k - 1, : ways.shape[1] - unit]
    return min(1.0, float(ways[m, needed:].sum()) / math.comb(len(pool), m))


def _least_exponent(units: Sequence[float], target: float) -> float:
    """min over s >= 0 of log(mean(exp(s * unit))) - s * target, by Newton steps; every value met is a valid bound."""
    s = target
    top = max(units)
    best = 0.0
    for _ in range(_STEPS):
        weights = [math.exp(s * (unit - top)) for unit in units]  # shifted: no overflow
        total = sum(weights)
        value = math.log(total / len(units)) + s * (top - target)
        first = sum(w * u for w, u in zip(weights, units, strict=True)) / total
        second = sum(w * u * u for w, u in zip(weights, units, strict=True)) / total - first * first
        if best - value < 1e-9 and value <= best:
            return value
        best = min(best, value)
        if second <= 1e-12 or abs(first - target) < 1e-9:
            return best
        s = max(0.0, s + max(-0.5 * s - 1, min(2.0, (target - first) / second)))
    return best


def least_p(canaries: int, cohort: int) -> float:
    """The smallest value `excess_p` can have: canaries that all differ from all others."""
    if _is_counted(canaries, cohort):
        return 1 / math.comb(cohort, canaries)
    return (canaries / cohort) ** canaries


def _is_counted(canaries: int, cohort: int) -> bool:
    return canaries <= _COUNTED_CANARIES and cohort <= _COUNTED_COHORT


def failures_p(failed: int, tried: int, share: float) -> float:
    """The chance of at least `failed` failures in `tried` installs when each fails with probability `share`."""
    if failed == 0:
        return 1.0
    log_share, log_rest = math.log(share), math.log1p(-share)
    terms = (
        math.lgamma(tried + 1)
        - math.lgamma(k + 1)
        - math.lgamma(tried - k + 1)
        + k * log_share
        + (tried - k) * log_rest
        for k in range(failed, tried + 1)
    )
    return min(1.0, sum(math.exp(term) for term in terms))

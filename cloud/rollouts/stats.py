"""The tests behind the gates. Pure, exact, without assumptions on how a metric is distributed.

Who is a canary is drawn by a hash, so under "the candidate is no worse" the canaries' values are a random sample,
without replacement, of all values (Fisher's randomisation test; The Design of Experiments, 1935). The chance of a sum
as large as theirs is bounded by Hoeffding's comparison with sampling *with* replacement (W. Hoeffding, "Probability
inequalities for sums of bounded random variables", JASA 58, 1963, theorem 4) and Chernoff's bound:

    P(sum >= t)  <=  min over s >= 0 of  exp(-s t) * (mean over all boards of exp(s x)) ** m

The bound needs neither normality nor equal variances. It is 10 to 20 times the exact permutation probability at the
levels used here (measured with 10 canaries of 200 boards), which is what exactness costs in power.

Looking again and again is paid for in advance (alpha spending; K. K. G. Lan and D. L. DeMets, Biometrika 70, 1983): of
the error budget one half is shared evenly by the looks that are planned, the other half goes as 1 / (k (k + 1)) to look
k, for as many looks as there will be. The sum stays within the budget whatever depends on what (a union bound), so the
rollout may be watched for as long as one likes, and delays cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GATES = 8
"""Comparisons that share the error budget of one look."""

_STEPS = 40


def level_of_look(false_stops: float, look: int, planned: int) -> float:
    """The p-value below which one gate stops the rollout at look 1, 2, ... of `planned` and more."""
    even = 1 / planned if look <= planned else 0.0
    return false_stops / GATES * 0.5 * (even + 1 / (look * (look + 1)))


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
    spread = math.sqrt(variance)
    units = [(x - mean) / spread for x in pool]
    target = excess / spread / m
    return min(1.0, math.exp(m * _least_exponent(units, target)))


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
    return (canaries / cohort) ** canaries


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

"""What is counted in the evaluation. Pure functions of alarms and labels.

An *episode* is a run of alarms none of which is more than MERGE_HOURS after the one before it: a day of alarms about
one fault is one report to an operator. A window is *hit* when an alarm lies inside it. An episode is *false* when none
of it, from its first to its last alarm, lies in a window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Alarms = npt.NDArray[np.bool_]
Hours = npt.NDArray[np.float64]
Spans = Sequence[tuple[float, float]]

MERGE_HOURS = 24.0
# Numenta's standard profile (Lavin and Ahmad, Evaluating Real-time Anomaly Detection Algorithms, ICMLA 2015).
_FALSE_POSITIVE_WEIGHT = 0.11
_BEST_HIT = 2 / (1 + np.exp(-5.0)) - 1


@dataclass(frozen=True, slots=True)
class Confusion:
    """Seconds, by label and decision."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def f1(self) -> float:
        total = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / total if total else 0.0

    @property
    def far(self) -> float:
        """False-alarm rate: share of normal seconds in alarm."""
        normal = self.false_positive + self.true_negative
        return self.false_positive / normal if normal else 0.0

    @property
    def mar(self) -> float:
        """Missed-alarm rate: share of anomalous seconds without alarm."""
        anomalous = self.true_positive + self.false_negative
        return self.false_negative / anomalous if anomalous else 0.0


def confusion(alarms: Alarms, anomalous: Alarms) -> Confusion:
    """Counts over one recording; both (seconds,)."""
    return Confusion(
        int((alarms & anomalous).sum()),
        int((alarms & ~anomalous).sum()),
        int((~alarms & anomalous).sum()),
        int((~alarms & ~anomalous).sum()),
    )


@dataclass(frozen=True, slots=True)
class Episodes:
    """windows: labelled ones after the training part; normal_in_alarm: points outside windows that are in alarm, of
    `normal`; points: Numenta's raw score."""

    windows: int = 0
    hit: int = 0
    false: int = 0
    normal: int = 0
    normal_in_alarm: int = 0
    points: float = 0.0

    def __add__(self, other: "Episodes") -> "Episodes":
        return Episodes(
            self.windows + other.windows,
            self.hit + other.hit,
            self.false + other.false,
            self.normal + other.normal,
            self.normal_in_alarm + other.normal_in_alarm,
            self.points + other.points,
        )

    @property
    def mean_score(self) -> float | None:
        """Numenta's normalised score: 100 when every window is hit at its start and nothing else is reported, 0 for a
        detector that is silent; None without windows."""
        if not self.windows:
            return None
        return 100 * (self.points + self.windows) / (self.windows * (_BEST_HIT + 1))

    @property
    def normal_share(self) -> float:
        return self.normal_in_alarm / self.normal if self.normal else 0.0


def episodes(hours: Hours, alarms: Alarms) -> list[tuple[int, int]]:
    """(first, last) row of each episode."""
    found: list[tuple[int, int]] = []
    for row in np.flatnonzero(alarms):
        at = int(row)
        if found and hours[at] - hours[found[-1][1]] <= MERGE_HOURS:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def count_episodes(hours: Hours, alarms: Alarms, spans: Spans, start: int) -> Episodes:
    """One series, scored from row `start` on; spans that end before it are passed over."""
    ahead = sorted(span for span in spans if span[1] >= hours[start])
    scored = np.arange(len(hours)) >= start
    alarms = alarms & scored
    inside = np.zeros(len(hours), dtype=np.bool_)
    for first, last in ahead:
        inside |= (hours >= first) & (hours <= last)
    normal = scored & ~inside
    points = 0.0
    hit = 0
    for first, last in ahead:
        in_window = np.flatnonzero(alarms & (hours >= first) & (hours <= last))
        hit += bool(len(in_window))
        points += _sigmoid(float(hours[in_window[0]] - last) / (last - first or 1.0)) if len(in_window) else -1.0
    false = [
        (begin, end)
        for begin, end in episodes(hours, alarms)
        if not any(hours[begin] <= last and hours[end] >= first for first, last in ahead)
    ]
    for begin, _ in false:
        before = [(first, last) for first, last in ahead if last < hours[begin]]
        position = (hours[begin] - before[-1][1]) / (before[-1][1] - before[-1][0] or 1.0) if before else np.inf
        points += _FALSE_POSITIVE_WEIGHT * _sigmoid(float(position))
    return Episodes(len(ahead), hit, len(false), int(normal.sum()), int((alarms & normal).sum()), float(points))


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections as Numenta's own scorer counts them, standard profile (nab/sweeper.py of its repository).

    outside: detections outside windows, each of which costs up to 0.11 points, as one after the other does; points: of
    the first detection in each window 1 at its start, falling to 0 at its end, of a window without one -1.
    """

    windows: int = 0
    outside: int = 0
    points: float = 0.0

    def __add__(self, other: "Detections") -> "Detections":
        return Detections(self.windows + other.windows, self.outside + other.outside, self.points + other.points)

    @property
    def score(self) -> float | None:
        """100 when every window is hit at its start and nothing else is detected, 0 for silence, below 0 for worse;
        None without windows."""
        return 100 * (self.points + self.windows) / (2 * self.windows) if self.windows else None


def count_detections(hours: Hours, detected: Alarms, spans: Spans, start: int) -> Detections:
    """One series, scored from row `start` on; detected: (rows,), where a detection is."""
    rows = np.arange(len(hours))
    detected = detected & (rows >= start)
    inside = np.zeros(len(hours), dtype=np.bool_)
    ends: list[tuple[int, int]] = []  # (last row, rows) of each window
    ahead = sorted(span for span in spans if span[1] >= hours[start])
    points = 0.0
    for first, last in ahead:
        within = np.flatnonzero((hours >= first) & (hours <= last))
        found = within[detected[within]]
        if len(found):
            points += _sigmoid((int(found[0]) - int(within[-1]) - 1) / len(within)) / _BEST_HIT
        else:
            points -= 1.0
        if len(within):
            inside[within] = True
            ends.append((int(within[-1]), len(within)))
    outside = np.flatnonzero(detected & ~inside)
    for row in outside.tolist():
        before = [(last, count) for last, count in ends if last < row]
        position = (row - before[-1][0]) / max(1, before[-1][1] - 1) if before else np.inf
        points += _FALSE_POSITIVE_WEIGHT * _sigmoid(float(position))
    return Detections(len(ahead), len(outside), float(points))


def drifted_at(alarms: Alarms, start: int, length: int, share: float) -> int | None:
    """The first row by which more than `share` of the last `length` rows, all from `start` on, were in alarm."""
    counts = np.concatenate(([0], np.cumsum(alarms[start:])))
    over = np.flatnonzero(counts[length:] - counts[:-length] > share * length) if len(counts) > length else []
    return start + length + int(over[0]) if len(over) else None


def _sigmoid(position: float) -> float:
    """Numenta's value of an alarm at `position`: -1 is the start of a window, 0 its end, beyond 3 worth -1."""
    return -1.0 if position > 3 else float(2 / (1 + np.exp(5 * position)) - 1)

"""Which sequence numbers of one stream are accounted for: pure arithmetic on ranges, no database.

Theory of operation. A stream (device, epoch, code) numbers its records from 0. Each number ends in one of three ways:
it is *received* (stored), *dropped* (the board declared that it holds it no longer) or *set aside* (its frame is in
quarantine). `next_seq` is the lowest number that is none of these: what the ACK tells the board. `high_seq` is one
more than the highest number seen. Records mostly arrive in order, so next_seq == high_seq nearly always and nothing has
to be looked up to know that a record is new. Only for a record below high_seq does the caller fetch what lies around.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from enum import Enum, auto

Range = tuple[int, int]
"""[start, end) of sequence numbers."""


class Fit(Enum):
    """How a record's numbers lie to those already accounted for."""

    NEW = auto()
    """None of them was stored; some may have been given up before."""
    DUPLICATE = auto()
    """The very range is stored."""
    OVERLAP = auto()
    """Some are stored under other boundaries: a sealed frame never does that, so a board is at fault."""


class Ranges:
    """A set of disjoint ranges, kept sorted. Ranges that touch stay apart: a stored range is a stored frame."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges = sorted(ranges)

    def __iter__(self) -> Iterable[Range]:  # type: ignore[override]
        return iter(self._ranges)

    def add(self, start: int, end: int) -> None:
        """Adds a range that overlaps none of those here."""
        if not self._ranges or start >= self._ranges[-1][1]:
            self._ranges.append((start, end))  # the usual case: in order
        else:
            insort(self._ranges, (start, end))

    def remove(self, held: Range) -> None:
        """Removes one of the ranges."""
        self._ranges.remove(held)

    def touching(self, start: int, end: int) -> list[Range]:
        """The ranges that share a number with [start, end), in order."""
        at = bisect_right(self._ranges, start, key=_start)
        if at and self._ranges[at - 1][1] > start:
            at -= 1
        found: list[Range] = []
        while at < len(self._ranges) and self._ranges[at][0] < end:
            found.append(self._ranges[at])
            at += 1
        return found

    def gaps(self, start: int, end: int) -> list[Range]:
        """The parts of [start, end) that are in no range, in order."""
        free: list[Range] = []
        for low, high in self.touching(start, end):
            if low > start:
                free.append((start, low))
            start = max(start, high)
        if start < end:
            free.append((start, end))
        return free


def fit(stored: Ranges, start: int, end: int) -> Fit:
    """How [start, end) lies to the stored ranges."""
    touching = stored.touching(start, end)
    if not touching:
        return Fit.NEW
    return Fit.DUPLICATE if touching == [(start, end)] else Fit.OVERLAP


def first_gap(start: int, *sets: Ranges) -> int:
    """The lowest number from `start` on that is in none of the sets."""
    while True:
        end = start
        for ranges in sets:
            for low, high in ranges.touching(start, start + 1):
                if low <= start:
                    end = max(end, high)
        if end == start:
            return start
        start = end


def carve(held: Range, start: int, end: int) -> list[Range]:
    """What is left of a range when [start, end) is taken out of it."""
    low, high = held
    return [part for part in ((low, min(high, start)), (max(low, end), high)) if part[0] < part[1]]


def _start(held: Range) -> int:
    return held[0]

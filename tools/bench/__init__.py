"""Measurements beside what they are compared with, taken in the same run: `make bench`, or `make bench ARGS=name`.

A module in this folder is one table: the first line of its docstring is the title, `run() -> list[Row]` measures.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One measured value, and the value of something else measured the same way at the same time."""

    what: str
    value: float
    unit: str
    beside: str = ""
    """What it is compared with; empty when there is nothing to compare with."""
    other: float | None = None
    """The other's value, in the same unit."""
    aim: str = ""
    """What the ratio or the value should be, for the reader."""

    @property
    def ratio(self) -> float | None:
        """value / other, or None when there is nothing to divide by."""
        return self.value / self.other if self.other else None

"""Bodies of many frames of one shape decoded side by side: one lane a frame, one numpy operation for all lanes.

contract/delta.py decodes a frame in some 20 us for each column of 30 rows; at full load that is most of what ingest
does. Here the loop over columns and rows is the same, but each step is taken by a whole batch of frames, which makes it
several times faster from a hundred frames on. It takes what is common and leaves the rest: lanes with sparse columns,
with extreme numbers or with anything that is wrong come back as not good, and contract/delta.py then decodes them, or
says what is wrong with them. So there is one judge of what is malformed; tests/cloud/ingest/test_lanes.py holds the
two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.bits import UNARY
from contract.delta import LEVEL, LINE, LINEAR, MAX_PLAIN_BITS, PLAIN, SHIFTS, SMOOTH, SPARSE, TREND
from contract.wire import MAX_TIME_MS

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

# Beyond these, sums over a frame might leave int64: not good.
_MAX_NUMBER = 1 << 31
_MAX_STEP = 1 << 20
_INT32 = 0x7FFFFFFF
_MAX_TAKEN = 50  # bits at once; a window holds 57
_LEADING_ONES = np.array([8 - (255 - byte).bit_length() for byte in range(256)], dtype=np.int64)
_SHIFT_OF = np.array(SHIFTS, dtype=np.int64)
_WINDOW_BYTES = 8


class Decoded(NamedTuple):
    """`good` (lanes,); offsets int64 (lanes, rows); values int64 (lanes, rows, cols). Lanes not good hold anything."""

    good: Flags
    offsets: Ints
    values: Ints


class _Columns:
    """What was read of one column in every lane: predictor, ref, step (lanes,), residuals (lanes, count)."""

    def __init__(self, lanes: int, count: int) -> None:
        self.predictor = np.zeros(lanes, dtype=np.int64)
        self.ref = np.zeros(lanes, dtype=np.int64)
        self.step = np.ones(lanes, dtype=np.int64)
        self.residuals = np.zeros((lanes, count), dtype=np.int64)


def decode_bodies(bodies: Sequence[bytes], first_rows: Ints, rows: int) -> Decoded:
    """What contract.delta.decode_body makes of each body; first_rows is int64 (lanes, cols)."""
    lanes, cols = first_rows.shape
    offsets = np.zeros((lanes, rows), dtype=np.int64)
    values = np.empty((lanes, rows, cols), dtype=np.int64)
    values[:, 0, :] = first_rows
    reader = _Reader(bodies, rows)
    if rows > 1:
        # All columns are undone together: a step of numpy costs the same for one column and for all.
        read = [reader.column(rows - 1) for _ in range(1 + cols)]
        found = _undo(*(np.concatenate([getattr(column, name) for column in read]) for name in _FIELDS))
        found = found.reshape(1 + cols, lanes, rows - 1)
        offsets[:, 1:] = found[0]
        values[:, 1:, :] = first_rows[:, None, :] + found[1:].transpose(1, 2, 0)
    good = reader.finish()
    good &= (np.diff(offsets, axis=1) >= 0).all(axis=1) & (offsets[:, -1] <= MAX_TIME_MS)
    flat = values.reshape(lanes, -1)
    good &= (flat.min(axis=1) >= -_INT32 - 1) & (flat.max(axis=1) <= _INT32)
    return Decoded(good, offsets, values)


_FIELDS = ("predictor", "ref", "step", "residuals")


class _Reader:
    """A position in each body. A lane that reads nonsense goes on reading it, marked as not good."""

    def __init__(self, bodies: Sequence[bytes], rows: int) -> None:
        longest = max(map(len, bodies), default=0)
        # Beyond its end a lane reads zeros: at most 14 bits a row, until the end of the column.
        stride = longest + 2 * rows + 2 * _WINDOW_BYTES
        padded = b"".join([body.ljust(stride, b"\0") for body in bodies]) + bytes(_WINDOW_BYTES)
        flat = np.frombuffer(padded, dtype=np.uint8)
        # 64 bits from each byte on: one look-up gives the next 57 bits at any position.
        self._windows = np.zeros(len(flat) - _WINDOW_BYTES, dtype=np.uint64)
        for at in range(_WINDOW_BYTES):
            self._windows <<= np.uint64(8)
            self._windows |= flat[at : at + len(self._windows)]
        begins = 8 * stride * np.arange(len(bodies), dtype=np.int64)
        self._ends = begins + 8 * np.array([len(body) for body in bodies], dtype=np.int64)
        self._pos = begins
        self._good = np.ones(len(bodies), dtype=np.bool_)

    def column(self, count: int) -> _Columns:
        """The next column of every lane."""
        column = _Columns(len(self._pos), count)
        every = np.arange(len(self._pos))
        column.predictor = predictor = self._take(every, 3)
        coded = np.flatnonzero(predictor != LINE)
        k = np.full(len(every), -1, dtype=np.int64)
        if coded.size:
            stepped = coded[self._take(coded, 1) == 1]
            if stepped.size:
                column.step[stepped] = self._take_sized(stepped, 2, _MAX_STEP)
            k[coded] = self._take(coded, 4)
        referring = np.flatnonzero((predictor == LINE) | (predictor == LEVEL) | (predictor == TREND))
        if referring.size:
            number = self._take_sized(referring, 0, _MAX_NUMBER)
            column.ref[referring] = number >> 1 ^ -(number & 1)
        self._good[k == SPARSE] = False
        plain = np.flatnonzero(k == PLAIN)
        if plain.size:
            self._good[plain] &= (predictor[plain] == LEVEL) | (predictor[plain] == TREND)
            column.residuals[plain] = self._plain(plain, count)
        golomb = np.flatnonzero((k >= 0) & (k < SPARSE))
        if golomb.size:
            column.residuals[golomb] = self._golomb(golomb, k[golomb], count)
        np.minimum(self._pos, self._ends + 8, out=self._pos)  # so that what ran off one column stays within the lane
        return column

    def finish(self) -> Flags:
        """Which lanes are good: whole, and what is left is less than a byte, of zeros."""
        left = self._ends - self._pos
        rest = self._window(self._pos) >> np.uint64(56)
        return self._good & (left >= 0) & (left < 8) & (rest == 0)

    def _golomb(self, lanes: Index, k: Ints, count: int) -> Ints:
        """(lanes, count) signed residuals."""
        codes = np.empty((count, len(lanes)), dtype=np.int64)
        pos = self._pos[lanes]
        mask = ((1 << k) - 1).view(np.uint64)
        down, length = 63 - k, k + 1
        for at in range(count):
            window = self._window(pos)
            quotient = _LEADING_ONES.take((window >> np.uint64(56)).view(np.int64))
            low = (window >> (down - quotient).view(np.uint64)) & mask
            codes[at] = quotient << k | low.view(np.int64)
            pos += quotient
            pos += length
            long = np.flatnonzero(quotient >= UNARY)
            if long.size:
                codes[at, long], used, good = _long_codes(window[long], k[long])
                pos[long] += used - quotient[long] - length[long]
                self._good[lanes[long]] &= good
        self._pos[lanes] = pos
        return (codes >> 1 ^ -(codes & 1)).T

    def _plain(self, lanes: Index, count: int) -> Ints:
        """(lanes, count) residuals of a fixed width, never negative."""
        width = self._take(lanes, 6)
        self._good[lanes] &= width <= MAX_PLAIN_BITS
        width = np.minimum(width, MAX_PLAIN_BITS)
        residuals = np.empty((len(lanes), count), dtype=np.int64)
        ends = self._ends[lanes] + 8
        for at in range(count):
            residuals[:, at] = self._take(lanes, width)
            self._pos[lanes] = np.minimum(self._pos[lanes], ends)
        return residuals

    def _take_sized(self, lanes: Index, low: int, high: int) -> Ints:
        """A number with its length in front; lanes in which it is not low..high are not good."""
        width = self._take(lanes, 6)
        below = np.clip(width - 1, 0, _MAX_TAKEN - 1)
        number = np.where(width > 0, np.int64(1) << below | self._take(lanes, below), 0)
        self._good[lanes] &= (width <= _MAX_TAKEN) & (number >= low) & (number <= high)
        return np.minimum(number, high)

    def _take(self, lanes: Index, width: int | Ints) -> Ints:
        """The next `width` bits, at most 50."""
        down = np.asarray(63 - width, dtype=np.int64).view(np.uint64)
        taken = self._window(self._pos[lanes]) >> np.uint64(1) >> down
        self._pos[lanes] += width
        return taken.view(np.int64)

    def _window(self, pos: Ints) -> npt.NDArray[np.uint64]:
        """The next 57 bits at each position, at the top."""
        return self._windows.take(pos >> 3) << (pos & 7).view(np.uint64)


def _long_codes(window: npt.NDArray[np.uint64], k: Ints) -> tuple[Ints, Ints, Flags]:
    """(codes, bits used, good) of Golomb codes with a quotient of 4 or more."""
    tail = window << np.uint64(UNARY)
    ones = _LEADING_ONES.take((tail >> np.uint64(56)).view(np.int64))
    good = ones < 8  # longer ones are rare, and 57 bits need not hold them
    ones = np.minimum(ones, 7)
    rest = tail << (ones + 1).view(np.uint64)
    high = rest >> np.uint64(1) >> (63 - ones).view(np.uint64)
    low = (rest << ones.view(np.uint64)) >> np.uint64(1) >> (63 - k).view(np.uint64)
    quotient = (np.int64(1) << ones | high.view(np.int64)) + UNARY - 1
    return quotient << k | low.view(np.int64), UNARY + 2 * ones + 1 + k, good


def _undo(predictor: Ints, ref: Ints, step: Ints, residuals: Ints) -> Ints:
    """(columns, count) differences to the first values, from what the predictors missed."""
    found = residuals + ref[:, None]  # LEVEL, and the differences of all others; ref is 0 where there is none
    summed = (predictor != LEVEL) & ((predictor < SMOOTH) | (predictor == LINE))
    found[summed] = np.cumsum(found[summed], axis=1)
    linear = predictor == LINEAR
    found[linear] = np.cumsum(found[linear], axis=1)
    smooth = np.flatnonzero((predictor >= SMOOTH) & (predictor != LINE))
    if smooth.size:
        shift, missed = _SHIFT_OF[predictor[smooth]], residuals[smooth].T
        state: Any = np.zeros(len(smooth), dtype=np.int64)
        offsets = np.empty_like(missed)
        for at, e in enumerate(missed):
            offsets[at] = (state >> shift) + e
            state = state + e
        found[smooth] = offsets.T
    return found * step[:, None]

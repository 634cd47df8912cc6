"""The encoder of batches of readings; the format is in delta.py.

It works in one scratch of 4 bytes a row, without floats, and allocates nothing per row. Only residuals beyond 30 bits
cost a board's interpreter heap allocations.
"""

from array import array

from contract.bits import UNARY, BitWriter, bit_length, zigzag
from contract.delta import LAST, LEVEL, LINE, LINEAR, PLAIN, SHIFTS, SMOOTH, TREND
from contract.wire import BAD_RANGE, MAX_CHANNELS, MAX_ROWS, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_GAP_MS = 0xFFFFFFFF  # between two rows of one batch; whoever seals begins a new batch at a longer one
_MAX_K = 14  # greatest Golomb parameter


class Encoder:
    """Codes batches; owns the only working memory, 4 bytes for each of MAX_ROWS rows."""

    def __init__(self) -> None:
        self._residuals = array("I", bytes(4 * MAX_ROWS))
        # The column at hand, in units of _step but for the last two:
        self._step = 1  # greatest common divisor of all differences to the first value
        self._low = 0  # least and greatest difference to the first value
        self._high = 0
        self._low_gap = 0  # least and greatest difference from one value to the next
        self._high_gap = 0
        self._mean = 0  # of the differences to the first value
        self._slope = 0  # from the first value to the last, per row
        self._travel = 0  # sum of the absolute gaps

    def body(
        self,
        times: "Sequence[int]",
        values: "Sequence[int]",
        rows: int,
        cols: int,
        out: bytearray | memoryview,
        pos: int = 0,
    ) -> int:
        """Writes the body of a batch into `out` at `pos`, gives its end.

        `times` (rows,) ms, never falling, at most MAX_GAP_MS apart; `values` int32 (rows, cols), row by row.
        Raises WireError: BAD_RANGE for a batch outside these limits, BAD_SIZE when `out` is too small.
        """
        if not 1 <= rows <= MAX_ROWS or not 1 <= cols <= MAX_CHANNELS:
            raise WireError(BAD_RANGE, "%d rows of %d channels" % (rows, cols))
        for row in range(1, rows):
            if not 0 <= times[row] - times[row - 1] <= MAX_GAP_MS:
                raise WireError(BAD_RANGE, "time of row %d" % row)
        bits = BitWriter(out, pos)
        if rows > 1:
            self._column(bits, times, 0, 1, rows - 1)
            for channel in range(cols):
                self._column(bits, values, channel, cols, rows - 1)
        return bits.finish()

    def _column(self, bits: BitWriter, source: "Sequence[int]", start: int, stride: int, count: int) -> None:
        """Codes source[start], source[start + stride], ...: the first is known, `count` follow."""
        self._survey(source, start, stride, count)
        if self._low_gap == self._high_gap:
            bits.put(LINE, 3)
            bits.put_sized(zigzag(self._low_gap * self._step))
            return
        predictor = self._choose(source, start, stride, count)
        ref = self._mean if predictor == LEVEL else self._slope if predictor == TREND else 0
        k = -1
        cost = 1 << 29
        if self._predict(predictor, ref, source, start, stride, count):
            k = self._best_parameter(count)
            cost = self._cost(count, k) + (_sized_cost(ref) if predictor in (LEVEL, TREND) else 0)
        plain, low, width = LEVEL, self._low, bit_length(self._high - self._low)
        if bit_length(self._high_gap - self._low_gap) < width:
            plain, low, width = TREND, self._low_gap, bit_length(self._high_gap - self._low_gap)
        if 6 + _sized_cost(low) + count * width < cost:
            self._predict_plain(plain, low, source, start, stride, count)
            predictor, ref, k = plain, low, PLAIN
        bits.put(predictor, 3)
        if self._step > 1:
            bits.put(1, 1)
            bits.put_sized(self._step)
        else:
            bits.put(0, 1)
        bits.put(k, 4)
        if predictor in (LEVEL, TREND):
            bits.put_sized(zigzag(ref))
        if k == PLAIN:
            bits.put(width, 6)
            for index in range(count):
                bits.put(self._residuals[index], width)
        else:
            for index in range(count):
                bits.put_golomb(self._residuals[index], k)

    def _survey(self, source: "Sequence[int]", start: int, stride: int, count: int) -> None:
        """Measures the column."""
        first = source[start]
        last = first
        step = total = travel = low = high = low_gap = high_gap = 0
        for at in range(start + stride, start + (count + 1) * stride, stride):
            value = source[at]
            offset = value - first
            gap = value - last
            last = value
            if step != 1:
                step = _gcd(step, offset)
            total += offset
            travel += gap if gap >= 0 else -gap
            if at == start + stride:
                low = high = offset
                low_gap = high_gap = gap
                continue
            if offset < low:
                low = offset
            elif offset > high:
                high = offset
            if gap < low_gap:
                low_gap = gap
            elif gap > high_gap:
                high_gap = gap
        step = step or 1
        self._step = step
        self._low = low // step
        self._high = high // step
        self._low_gap = low_gap // step
        self._high_gap = high_gap // step
        self._mean = total // (count * step)
        self._slope = (last - first) // (count * step)
        self._travel = travel // step

    def _choose(self, source: "Sequence[int]", start: int, stride: int, count: int) -> int:
        """The predictor with the least sum of absolute residuals, each held to four times the mean gap.

        Held, because a jump costs bits by its logarithm and must not decide alone. On the series of the bench
        this is within 0.3 % of trying all of them.
        """
        first = source[start]
        step = self._step
        mean = self._mean
        slope = self._slope
        most = 4 * self._travel // count + 4
        before = last = half = quarter = eighth = 0
        level_sum = last_sum = trend_sum = linear_sum = half_sum = quarter_sum = eighth_sum = 0
        for at in range(start + stride, start + (count + 1) * stride, stride):
            r = (source[at] - first) // step
            level_sum += min(abs(r - mean), most)
            last_sum += min(abs(r - last), most)
            trend_sum += min(abs(r - last - slope), most)
            linear_sum += min(abs(r - 2 * last + before), most)
            e = r - (half >> 1)
            half += e
            half_sum += min(abs(e), most)
            e = r - (quarter >> 2)
            quarter += e
            quarter_sum += min(abs(e), most)
            e = r - (eighth >> 3)
            eighth += e
            eighth_sum += min(abs(e), most)
            before = last
            last = r
        # Some 12 bits for a reference are worth a factor of 2 ** (12 / count) in the residuals, about 1 + 9 / count.
        best = LAST
        least = last_sum * count
        for predictor, cost in (
            (SMOOTH, half_sum * count),
            (SMOOTH + 1, quarter_sum * count),
            (SMOOTH + 2, eighth_sum * count),
            (LINEAR, linear_sum * count),
            (TREND, trend_sum * (count + 9)),
            (LEVEL, level_sum * (count + 9)),
        ):
            if cost < least:
                best = predictor
                least = cost
        return best

    def _predict(self, predictor: int, ref: int, source: "Sequence[int]", start: int, stride: int, count: int) -> bool:
        """Fills the scratch with zigzag residuals; False when one is wider than 32 bits."""
        first = source[start]
        step = self._step
        shift = SHIFTS[predictor]
        state = before = 0
        for index in range(count):
            r = (source[start + (index + 1) * stride] - first) // step
            if predictor == LEVEL:
                e = r - ref
            elif predictor == LINEAR:
                e = r - 2 * state + before
                before = state
                state = r
            else:
                e = r - (state >> shift)
                state += e
                e -= ref
            z = zigzag(e)
            if z >> 32:
                return False
            self._residuals[index] = z
        return True

    def _predict_plain(
        self, predictor: int, low: int, source: "Sequence[int]", start: int, stride: int, count: int
    ) -> None:
        """Fills the scratch with what the column, or its gaps, lie above `low`."""
        last = first = source[start]
        for index in range(count):
            value = source[start + (index + 1) * stride]
            self._residuals[index] = (value - (first if predictor == LEVEL else last)) // self._step - low
            last = value

    def _best_parameter(self, count: int) -> int:
        """The Golomb parameter k that makes the residuals shortest, by going downhill from the mean."""
        total = 0
        for index in range(count):
            total += self._residuals[index]
        k = min(_MAX_K, max(0, bit_length(total // count) - 1))
        cost = self._cost(count, k)
        for direction in (-1, 1):
            while 0 <= k + direction <= _MAX_K:
                other = self._cost(count, k + direction)
                if other >= cost:
                    break
                k += direction
                cost = other
        return k

    def _cost(self, count: int, k: int) -> int:
        """Bits of the residuals under parameter k."""
        bits = count * (k + 1)
        for index in range(count):
            quotient = self._residuals[index] >> k
            bits += quotient if quotient < UNARY else 2 * bit_length(quotient - UNARY + 1) + UNARY - 2
        return bits


def _sized_cost(ref: int) -> int:
    """Bits of a signed reference as put_sized writes it."""
    return 6 + max(0, bit_length(zigzag(ref)) - 1)


def _gcd(a: int, b: int) -> int:
    """Greatest common divisor, of which 0 has every number (MicroPython's math has none)."""
    while b:
        a, b = b, a % b
    return a if a >= 0 else -a

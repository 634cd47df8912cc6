"""The encoder of batches of readings; the format is in delta.py.

It works in one scratch of 4 bytes a row, without floats, and allocates nothing per row as long as numbers fit an
interpreter's small integers: 30 bits on a board. (Reading an array("q") always makes a long integer on MicroPython.)
"""

from array import array

from contract.bits import MAX_K, UNARY, BitWriter, bit_length, golomb_bits, zigzag
from contract.delta import LAST, LEVEL, LINE, LINEAR, PLAIN, RUN_BITS, SHIFTS, SMOOTH, SPARSE, TREND
from contract.wire import BAD_RANGE, MAX_CHANNELS, MAX_ROWS, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Plan = tuple[int, int, int, int, int, int]  # bits, predictor, ref, k, width or k of runs, k between runs

MAX_GAP_MS = 0xFFFFFFFF  # between two rows of one batch; whoever seals begins a new batch at a longer one
_MAX_RUN_K = (1 << RUN_BITS) - 1
_NO_PLAN = (1 << 29, LAST, 0, 0, 0, 0)


class Encoder:
    """Codes batches of up to `max_rows` rows; owns the only working memory, 4 bytes a row."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._residuals = array("I", bytes(4 * max_rows))
        self._misses = [0] * len(SHIFTS)  # by predictor, see _choose
        # The column at hand: source[start] is known, then come `count` values, `stride` apart.
        self._source: "Sequence[int]" = ()
        self._start = 0
        self._stride = 0
        self._count = 0
        # What _survey finds about it, in units of _step but for the last:
        self._step = 1  # greatest common divisor of all differences to the first value
        self._low = 0  # least and greatest difference to the first value
        self._high = 0
        self._low_gap = 0  # least and greatest difference from one value to the next
        self._high_gap = 0
        self._mean = 0  # of the differences to the first value
        self._slope = 0  # from the first value to the last, per row
        self._travel = 0  # sum of the absolute gaps
        self._still = 0  # how many gaps are 0

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
        if not 1 <= rows <= len(self._residuals) or not 1 <= cols <= MAX_CHANNELS:
            raise WireError(BAD_RANGE, "%d rows of %d channels" % (rows, cols))
        for row in range(1, rows):
            if not 0 <= times[row] - times[row - 1] <= MAX_GAP_MS:
                raise WireError(BAD_RANGE, "time of row %d" % row)
        bits = BitWriter(out, pos)
        self._count = rows - 1
        if rows > 1:
            self._column(bits, times, 0, 1)
            for channel in range(cols):
                self._column(bits, values, channel, cols)
        return bits.finish()

    def _column(self, bits: BitWriter, source: "Sequence[int]", start: int, stride: int) -> None:
        """Codes one column in the shortest way found."""
        self._source = source
        self._start = start
        self._stride = stride
        self._survey()
        if self._low_gap == self._high_gap:
            bits.put(LINE, 3)
            bits.put_sized(zigzag(self._low_gap * self._step))
            return
        plan = min(self._plan_plain(), self._plan_sparse())
        golomb = self._plan_golomb()
        if golomb <= plan:
            plan = golomb  # whose residuals are in the scratch now
        else:
            self._predict(plan[1], plan[2], plan[3] == PLAIN)
        self._write(bits, plan)

    def _survey(self) -> None:
        """Measures the column."""
        source, stride, count = self._source, self._stride, self._count
        last = first = source[self._start]
        step = total = travel = still = 0
        low = high = low_gap = high_gap = source[self._start + stride] - first
        for index in range(1, count + 1):
            value = source[self._start + index * stride]
            offset = value - first
            gap = value - last
            last = value
            if gap == 0:
                still += 1
            if step != 1:
                step = _gcd(step, offset)
            total += offset
            travel += abs(gap)
            if offset < low:
                low = offset
            if offset > high:
                high = offset
            if gap < low_gap:
                low_gap = gap
            if gap > high_gap:
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
        self._still = still

    def _plan_golomb(self) -> "Plan":
        """Golomb codes of what the best predictor misses."""
        predictor = self._choose()
        ref = self._mean if predictor == LEVEL else self._slope if predictor == TREND else 0
        if not self._predict(predictor, ref, False):
            return _NO_PLAN
        total = 0
        for index in range(self._count):
            total += self._residuals[index]
        k, cost = _downhill(self._golomb_cost, total // self._count, MAX_K)
        return cost + _ref_cost(predictor, ref), predictor, ref, k, 0, 0

    def _plan_sparse(self) -> "Plan":
        """Runs of zeros and Golomb codes between them: for channels that stand still most of the time."""
        count = self._count
        if 3 * self._still < count or not self._predict(LAST, 0, False):
            return _NO_PLAN
        total = 0
        for index in range(count):
            total += self._residuals[index]
        moves = count - self._still
        run_k, run_cost = _downhill(self._run_cost, self._still // (moves + 1), _MAX_RUN_K)
        k, cost = _downhill(self._move_cost, total // moves, MAX_K)
        return RUN_BITS + 4 + run_cost + cost, LAST, 0, SPARSE, run_k, k

    def _plan_plain(self) -> "Plan":
        """Plain bits above the lowest value or the lowest gap: for what is uniform, and whatever else fails."""
        predictor, ref, width = LEVEL, self._low, bit_length(self._high - self._low)
        gap_width = bit_length(self._high_gap - self._low_gap)
        if gap_width < width:
            predictor, ref, width = TREND, self._low_gap, gap_width
        return 6 + self._count * width + _ref_cost(predictor, ref), predictor, ref, PLAIN, width, 0

    def _choose(self) -> int:
        """The predictor with the least sum of absolute residuals, each held to four times the mean gap.

        Held, because a jump costs bits by its logarithm and must not decide alone. On the series of the bench
        this is within 0.5 % of coding the column with each of them.
        """
        source, start, stride, count = self._source, self._start, self._stride, self._count
        first, step, mean, slope = source[start], self._step, self._mean, self._slope
        most = 4 * self._travel // count + 4
        least = -most
        before = last = half = quarter = eighth = 0
        level_miss = last_miss = trend_miss = linear_miss = half_miss = quarter_miss = eighth_miss = 0
        # The hottest loop of the encoder: comparisons, because one call of abs() or min() costs more than all of them.
        for index in range(1, count + 1):
            r = (source[start + index * stride] - first) // step
            e = r - mean
            level_miss += e if 0 <= e < most else -e if least < e < 0 else most
            e = r - last
            last_miss += e if 0 <= e < most else -e if least < e < 0 else most
            e -= slope
            trend_miss += e if 0 <= e < most else -e if least < e < 0 else most
            e = r - 2 * last + before
            linear_miss += e if 0 <= e < most else -e if least < e < 0 else most
            e = r - (half >> 1)
            half += e
            half_miss += e if 0 <= e < most else -e if least < e < 0 else most
            e = r - (quarter >> 2)
            quarter += e
            quarter_miss += e if 0 <= e < most else -e if least < e < 0 else most
            e = r - (eighth >> 3)
            eighth += e
            eighth_miss += e if 0 <= e < most else -e if least < e < 0 else most
            before = last
            last = r
        # The 12 bits or so of a reference are worth a factor of 2 ** (12 / count) in the misses, about 1 + 9 / count.
        misses = self._misses
        misses[LEVEL] = level_miss + 9 * level_miss // count
        misses[LAST] = last_miss
        misses[TREND] = trend_miss + 9 * trend_miss // count
        misses[LINEAR] = linear_miss
        misses[SMOOTH] = half_miss
        misses[SMOOTH + 1] = quarter_miss
        misses[SMOOTH + 2] = eighth_miss
        best = LAST
        for predictor in range(LINE):
            if misses[predictor] < misses[best]:
                best = predictor
        return best

    def _predict(self, predictor: int, ref: int, plain: bool) -> bool:
        """Fills the scratch with residuals, as zigzag or plain; False when one is wider than 32 bits."""
        source, start, stride = self._source, self._start, self._stride
        first, step = source[start], self._step
        shift = SHIFTS[predictor]
        state = before = 0
        for index in range(self._count):
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
            z = e if plain else zigzag(e)
            if z >> 32:
                return False
            self._residuals[index] = z
        return True

    def _golomb_cost(self, k: int) -> int:
        """Bits of all residuals under this parameter."""
        residuals = self._residuals
        bits = self._count * (k + 1)
        for index in range(self._count):
            quotient = residuals[index] >> k
            bits += quotient if quotient < UNARY else golomb_bits(quotient, 0) - 1
        return bits

    def _move_cost(self, k: int) -> int:
        """Bits of the residuals that are not 0."""
        bits = 0
        for index in range(self._count):
            z = self._residuals[index]
            if z:
                bits += golomb_bits(z - 1, k)
        return bits

    def _run_cost(self, k: int) -> int:
        """Bits of the lengths of the runs of zeros."""
        bits = run = 0
        for index in range(self._count):
            if self._residuals[index]:
                bits += golomb_bits(run, k)
                run = 0
            else:
                run += 1
        return bits + golomb_bits(run, k) if run else bits

    def _write(self, bits: BitWriter, plan: "Plan") -> None:
        """Writes the header of the column and the residuals in the scratch."""
        _, predictor, ref, k, extra, move_k = plan
        bits.put(predictor, 3)
        if self._step > 1:
            bits.put(1, 1)
            bits.put_sized(self._step)
        else:
            bits.put(0, 1)
        bits.put(k, 4)
        if predictor in (LEVEL, TREND):
            bits.put_sized(zigzag(ref))
        residuals = self._residuals
        if k == PLAIN:
            bits.put(extra, 6)
            for index in range(self._count):
                bits.put(residuals[index], extra)
        elif k == SPARSE:
            bits.put(extra, RUN_BITS)
            bits.put(move_k, 4)
            self._put_sparse(bits, extra, move_k)
        else:
            for index in range(self._count):
                bits.put_golomb(residuals[index], k)

    def _put_sparse(self, bits: BitWriter, run_k: int, k: int) -> None:
        run = 0
        for index in range(self._count):
            z = self._residuals[index]
            if z:
                bits.put_golomb(run, run_k)
                bits.put_golomb(z - 1, k)
                run = 0
            else:
                run += 1
        if run:
            bits.put_golomb(run, run_k)


def _downhill(cost: "Callable[[int], int]", mean: int, most: int) -> "tuple[int, int]":
    """(k, its cost): the parameter of least cost, going downhill from the one that suits numbers of this mean."""
    k = min(most, max(0, bit_length(mean) - 1))
    least = cost(k)
    for direction in (-1, 1):
        while 0 <= k + direction <= most:
            other = cost(k + direction)
            if other >= least:
                break
            k += direction
            least = other
    return k, least


def _ref_cost(predictor: int, ref: int) -> int:
    """Bits of the reference, for predictors that have one."""
    return 6 + max(0, bit_length(zigzag(ref)) - 1) if predictor in (LEVEL, TREND) else 0


def _gcd(a: int, b: int) -> int:
    """Greatest common divisor, of which 0 has every number (MicroPython's math has none)."""
    while b:
        a, b = b, a % b
    return abs(a)

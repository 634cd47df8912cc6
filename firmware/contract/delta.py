"""Batches of readings as bits: the format, and its decoder. The encoder is in delta_encoder.py.

A batch is `rows` rows of `cols` int32 channels and one time per row. It becomes two byte strings: `first`, the first
row, either as it is (key form) or as differences to a base row that both sides have; and `body`, everything else,
relative to the first row. Only `first` depends on the base, so one form is turned into the other without touching
`body`, and a frame keeps its boundaries and its body for life.

In `body` each column, the times first, is a bit string: which predictor, a common step, then what the prediction
missed. That is Golomb-Rice codes whose tail grows as Exp-Golomb (one jump costs some 30 bits and spoils nothing), or
runs of zeros with something between them, or plain bits. Every bit is described in section 6 of PROTOCOL.md; why these
predictors is in DESIGN.md beside it.

The decoder believes nothing: every malformed input is WireError(BAD_BODY), in time and memory bounded by
rows times cols.
"""

from array import array

from contract.bits import MAX_K, BitReader, put_varint, take_varint, unzigzag, zigzag
from contract.wire import BAD_BODY, BAD_RANGE, MAX_CHANNELS, MAX_ROWS, MAX_TIME_MS, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Buffer = bytes | bytearray | memoryview

# Predictors: 3 bits in front of every column. r is the column relative to its first value, in steps.
LEVEL = 0  # r = ref + e
LAST = 1  # r = last r + e
TREND = 2  # r = last r + ref + e
LINEAR = 3  # r = 2 * last r - the one before + e
SMOOTH = 4  # 4, 5, 6: r = running mean (weight 1/2, 1/4, 1/8 for the last r) + e
LINE = 7  # r = last r + ref, no residuals at all

SHIFTS = (0, 0, 0, 0, 1, 2, 3, 0)  # of the running mean, by predictor; a shift of 0 is the last value itself
# In place of the Golomb parameter:
SPARSE = 14  # residuals as runs of zeros and what lies between them
PLAIN = 15  # residuals as plain bits
RUN_BITS = 3  # of the Golomb parameter of the runs
MAX_PLAIN_BITS = 32
_INT32 = 0x7FFFFFFF


def first_row(
    values: "Sequence[int]", base: "Sequence[int] | None", cols: int, out: bytearray | memoryview, pos: int = 0
) -> int:
    """Writes `first`: values[:cols] as differences to the row `base`, or as they are; gives its end."""
    for channel in range(cols):
        value = values[channel]
        pos = put_varint(out, pos, zigzag(value if base is None else value - base[channel]))
    return pos


def decode_first(first: "Buffer", base: "Sequence[int] | None", cols: int) -> "array[int]":
    """The first row, int32 (cols,); raises WireError(BAD_BODY)."""
    row = array("i", bytes(4 * cols))
    pos = 0
    for channel in range(cols):
        number, pos = take_varint(first, pos, len(first))
        value = unzigzag(number) + (0 if base is None else base[channel])
        if not -_INT32 - 1 <= value <= _INT32:
            raise WireError(BAD_BODY, "first value of channel %d" % channel)
        row[channel] = value
    if pos != len(first):
        raise WireError(BAD_BODY, "bytes after the first row")
    return row


def decode_body(body: "Buffer", row: "Sequence[int]", rows: int) -> "tuple[array[int], array[int]]":
    """(offsets, values) of a batch with first row `row`.

    offsets: int64 (rows,), ms after the first row; values: int32 (rows, cols), row by row. Raises
    WireError(BAD_BODY) for every body that no encoder makes room for: cut, with bytes or bits left over, with
    values beyond int32, or times that fall.
    """
    cols = len(row)
    values = array("i", bytes(4 * rows * cols))
    offsets = array("q", bytes(8 * rows))
    reader = BitReader(body)
    if rows > 1:
        _store_times(offsets, _column(reader, rows - 1))
    for channel in range(cols):
        first = row[channel]
        values[channel] = first
        if rows > 1:
            column = _column(reader, rows - 1)
            if min(column) + first < -_INT32 - 1 or max(column) + first > _INT32:
                raise WireError(BAD_BODY, "channel %d leaves int32" % channel)
            at = channel
            for offset in column:
                at += cols
                values[at] = first + offset
    reader.finish()
    return offsets, values


def decode(
    rows: int, cols: int, first: "Buffer", body: "Buffer", base: "Sequence[int] | None" = None
) -> "tuple[array[int], array[int]]":
    """(offsets, values) of a whole batch, see decode_body; `base` is the row that `first` is a difference to."""
    if not 1 <= rows <= MAX_ROWS or not 1 <= cols <= MAX_CHANNELS:
        raise WireError(BAD_RANGE, "%d rows of %d channels" % (rows, cols))
    return decode_body(body, decode_first(first, base, cols), rows)


def extremes(values: "Sequence[int]", cols: int) -> "tuple[list[int], list[int]]":
    """(lowest, highest) value of each channel of int32 (rows, cols)."""
    columns = list(zip(*[values[at : at + cols] for at in range(0, len(values), cols)]))
    return [min(column) for column in columns], [max(column) for column in columns]


def _store_times(offsets: "array[int]", column: "list[int]") -> None:
    last = 0
    for index in range(len(column)):
        offset = column[index]
        if not last <= offset <= MAX_TIME_MS:
            raise WireError(BAD_BODY, "time of row %d" % (index + 1))
        offsets[index + 1] = last = offset


def _column(reader: BitReader, count: int) -> "list[int]":
    """The next column: `count` differences to its first value."""
    predictor = reader.take(3)
    if predictor == LINE:
        slope = unzigzag(reader.take_sized())
        reader.check_end()
        return [slope * (index + 1) for index in range(count)]
    step = 1
    if reader.take(1):
        step = reader.take_sized()
        if step < 2:
            raise WireError(BAD_BODY, "a step of %d" % step)
    k = reader.take(4)
    ref = unzigzag(reader.take_sized()) if predictor in (LEVEL, TREND) else 0
    if k == PLAIN:
        if predictor not in (LEVEL, TREND):
            raise WireError(BAD_BODY, "plain residuals without a reference")
        width = reader.take(6)
        if width > MAX_PLAIN_BITS:
            raise WireError(BAD_BODY, "residuals of %d bits" % width)
        residuals = [reader.take(width) for _ in range(count)]
    elif k == SPARSE:
        residuals = _sparse(reader, count)
    else:
        residuals = reader.golomb(count, k)
    reader.check_end()
    return _undo(predictor, ref, step, residuals)


def _sparse(reader: BitReader, count: int) -> "list[int]":
    """`count` residuals, most of them 0."""
    run_k = reader.take(RUN_BITS)
    k = reader.take(4)
    if k > MAX_K:
        raise WireError(BAD_BODY, "a Golomb parameter of %d" % k)
    residuals = [0] * count
    at = reader.take_golomb(run_k)
    while at < count:
        residuals[at] = unzigzag(reader.take_golomb(k) + 1)
        at += 1
        if at < count:
            at += reader.take_golomb(run_k)
    if at > count:
        raise WireError(BAD_BODY, "a run of zeros beyond the last row")
    return residuals


def _undo(predictor: int, ref: int, step: int, residuals: "list[int]") -> "list[int]":
    """The differences to the first value, from what the predictor missed."""
    offsets: "list[int]" = []
    shift = SHIFTS[predictor]
    state = before = 0
    for e in residuals:
        if predictor == LEVEL:
            r = ref + e
        elif predictor == LINEAR:
            r = 2 * state - before + e
            before = state
            state = r
        else:
            e += ref
            r = (state >> shift) + e
            state += e
        offsets.append(r * step)
    return offsets

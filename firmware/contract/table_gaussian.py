"""The table blob of a Gaussian: a squared Mahalanobis distance and its limit, in integers from feature to decision.

Runs on MicroPython and CPython, touches no file. Behind the header of every table blob (table.py), little-endian:

    16  f32  threshold; the window is anomalous when the score is above
    20  u8   exponent, 0 to 126: the score is the distance * 2 ** -exponent
    21  u8   0
    22  u16  0
    24  u64  limit: threshold * 2 ** exponent, rounded down, below 2**62
    32  i32  of each feature: its mean in its steps, within +-2**30
    ..  u8   of each feature: loss, 0 to 18 bits
    ..  u8   of each feature: fraction, 0 to 15: its step is 2 ** -fraction
    ..  i16  the factor F, the lower triangle of n x n column by column: n * (n + 1) / 2

A feature x loses its lowest bits and stays at the ends of int16; d is how many steps it then lies from the mean:

    d[i] = (min(max(x[i] >> loss[i], -32767), 32766) << fraction[i]) - mean[i]
    y[j] = sum of F[i, j] * d[i] over i from j on
    distance = sum of y[j] ** 2, anomalous when above the limit

The distance is an integer: it is above threshold * 2 ** exponent exactly when it is above that rounded down. So the
decision is that of exact arithmetic on parameters and threshold; a tie is not anomalous. The ranges alone keep 64 bits
from overflowing, for a scorer that has no longer integers: |d| < 2**31, so |y| <= 128 * 2**15 * 2**31 = 2**53; a y of
2**31 or more is past every limit by itself, and until one is met, or the sum is past the limit, the sum stays below
2**63.
"""

import struct

from contract.table import GAUSSIAN, HEADER_BYTES, TableError, crc_of, read_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contract.table import Buffer

_in_c: "Callable[[Buffer, Sequence[int]], float] | None"
try:  # C that a firmware may have built in (native/table_module.c)
    from ew_table import gaussian as _in_c  # pyright: ignore
except ImportError:
    _in_c = None

GAUSSIAN_HEADER = "<fBBHQ"  # at HEADER_BYTES
MEANS_AT = 32

MAX_EXPONENT = 126
MAX_LIMIT = (1 << 62) - 1
MAX_MEAN = 1 << 30
MAX_LOSS = 18
MAX_FRACTION = 15
HIGHEST = 32766
LOWEST = -32767

# What a score may take of the heap for a moment. Beyond a chip's 31 bits products and sums are objects: 107 bytes for
# both at most on rv32imc, 23 where windows are as in training.
_SPARE_BYTES = 256
_TERM_BYTES = 128


class Gaussian:
    """A Gaussian's blob, read where it lies and ready to score; beside it, n_features integers."""

    def __init__(self, data: "Buffer") -> None:
        """Reads the header, whose size, threshold and limit must agree; parameters go unread. Raises TableError."""
        n = self.n_features = read_header(data, GAUSSIAN)
        size = MEANS_AT + 6 * n + n * (n + 1)
        if len(data) != size:
            raise TableError("%d bytes, not %d" % (len(data), size))
        self.threshold, self.exponent, zero, zeros, self.limit = struct.unpack_from(GAUSSIAN_HEADER, data, HEADER_BYTES)
        if zero or zeros or self.exponent > MAX_EXPONENT or self.limit > MAX_LIMIT:
            raise TableError("exponent or limit")
        if self.limit != limit_of(struct.unpack_from("<I", data, HEADER_BYTES)[0], self.exponent):
            raise TableError("limit")
        self.spare_bytes = _SPARE_BYTES + _TERM_BYTES * n * (n + 1) // 2
        self._data = data
        self._steps = [0] * n
        self._unit = 2.0**-self.exponent
        self._above = _next_float(self.threshold)

    def check(self) -> None:
        """Reads every byte: CRC, and the range of each parameter that has one. Raises TableError."""
        data = self._data
        if crc_of(data) != struct.unpack_from("<I", data, 12)[0]:
            raise TableError("CRC")
        at = MEANS_AT + 4 * self.n_features
        for index in range(self.n_features):
            mean = struct.unpack_from("<i", data, MEANS_AT + 4 * index)[0]
            if not -MAX_MEAN <= mean <= MAX_MEAN:
                raise TableError("mean %d" % index)
            if data[at + index] > MAX_LOSS or data[at + self.n_features + index] > MAX_FRACTION:
                raise TableError("loss or fraction %d" % index)

    def distance(self, features: "Sequence[int]") -> int:
        """The distance of n_features integers, each within int32; anomalous when above `limit`."""
        data, steps, n = self._data, self._steps, self.n_features
        at = MEANS_AT + 4 * n
        for i in range(n):
            x = features[i] >> data[at]
            x = HIGHEST if x > HIGHEST else LOWEST if x < LOWEST else x
            steps[i] = (x << data[at + n]) - struct.unpack_from("<i", data, MEANS_AT + 4 * i)[0]
            at += 1
        at += n
        total = 0
        for j in range(n):
            y = 0
            for i in range(j, n):
                y += (((data[at] | data[at + 1] << 8) ^ 0x8000) - 0x8000) * steps[i]
                at += 2
            total += y * y
        return total

    def score(self, features: "Sequence[int]") -> float:
        """The distance as a float that is on its side of the threshold in single precision too.

        features: array('i') where C scores, which takes nothing from the heap but the float.
        """
        if _in_c:
            return _in_c(self._data, features)
        distance = self.distance(features)
        score = distance * self._unit
        return max(score, self._above) if distance > self.limit else min(score, self.threshold)


def limit_of(bits: int, exponent: int) -> int:
    """A float32, by its bits, times 2 ** exponent, rounded down; raises TableError for one below 0 or not finite."""
    if bits >= 0x7F800000:
        raise TableError("threshold")
    mantissa, power = bits & 0x7FFFFF, bits >> 23
    if power:
        mantissa |= 0x800000
        power -= 1
    shift = power - 149 + exponent
    return mantissa << shift if shift >= 0 else mantissa >> -shift


def _next_float(number: float) -> float:
    """The float32 above one that is not below 0."""
    return struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", number))[0] + 1))[0]

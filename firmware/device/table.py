"""Scores a table blob where it lies: contract/table.py says what its bytes mean, this what becomes of them.

The trees are walked by the first of these that the firmware has: `ew_table`, C that was built in
(native/table_module.c); table_viper.py, machine code that mpy-cross made for this chip; table_plain.py, for ports
without machine code. All three decide alike: they add up the same integers, and near the limit the sum of doubles is
made of integers as well, since floats are single on most boards.

A blob in a ROM file system (vfs.VfsRom: a mapped partition of a board, a mapped file here) is read in place: memoryview
of the open file is its memory. Other file systems give no addresses; there it is read once, into one buffer.
"""

import struct
import sys
from array import array

from micropython import const

from contract import table

try:
    import ew_table  # pyright: ignore[reportMissingImports]
except ImportError:
    ew_table = None
    try:
        from device.table_viper import walk
    except (ImportError, ValueError, SyntaxError):  # ValueError: machine code of another chip
        from device.table_plain import walk

_POINT = const(112)  # doubles as integers in units of 2**-112: leaf values have no lower bit (table.LEAST_EXPONENT)
_MANTISSA = const(53)
# The sum of doubles makes some 60 bytes of integers for each tree, which the next collection takes back.
_DOUBT_BYTES = const(128)
_WIDE = 32 if sys.maxsize >> 32 else 0


class Forest:
    """A forest's blob, ready to score. `data`: bytes-like; raises table.TableError when its header is not sound.

    Every byte is read by check() alone: score() trusts a blob that passed, and whose digest holds since.
    """

    def __init__(self, data: "memoryview | bytearray") -> None:
        facts = table.Forest(data)
        if ew_table is None and _misaligned(data):
            facts.data = data = bytearray(data)
        self.n_features = facts.n_features
        self.threshold = facts.threshold
        self.check = facts.check
        self.spare_bytes = 256 + _DOUBT_BYTES * facts.trees  # of heap that one score may take for a moment
        self._data = data
        self._facts = facts
        self._limit = facts.limit_units
        self._open = facts.trees // 2 + 1
        self._scale = facts.scale / (1 << facts.fraction)
        self._above = _next_float(facts.threshold)
        self._shifted = array("i", [0] * (facts.n_features + 1))
        if ew_table is not None and not _misaligned(data):
            self.score = self._built_in

    def score(self, features: "array") -> float:
        """The score of `features`, array('i') of n_features: above the threshold exactly when scikit-learn's is."""
        facts = self._facts
        units = walk(self._data, 0, self._shifted, features, facts.units_at, facts.trees_at, facts.bias_at, _WIDE)
        anomalous = units > self._limit
        if -self._open <= units - self._limit <= self._open:
            anomalous = self._precise(features)
        score = units * self._scale
        if facts.shape == table.EXP2:
            score = 2.0**score
        if anomalous != (score > self.threshold):
            return self._above if anomalous else self.threshold
        return score

    def _built_in(self, features: "array") -> float:
        return ew_table.score(self._data, features)

    def _precise(self, features: "array") -> bool:
        """The decision by the sum of doubles, each addition rounded as IEEE 754 does: to 53 bits, half to even."""
        facts = self._facts
        total = 0
        at = facts.trees_at
        for _ in range(facts.trees):
            leaf = walk(self._data, 0, self._shifted, features, 0, at, facts.bias_at, _WIDE)
            total = _rounded(total + _double(self._data, table.FOREST_BYTES + 8 * leaf))
            at += self._data[at] | self._data[at + 1] << 8
        return total > _double(self._data, table.LIMIT_AT)


def _misaligned(data: "memoryview | bytearray") -> bool:
    import uctypes

    return uctypes.addressof(data) % 4 != 0


def _next_float(number: float) -> float:
    """The float32 above one."""
    bits = struct.unpack("<i", struct.pack("<f", number))[0]
    bits = 1 if number == 0 else bits + 1 if bits > 0 else bits - 1
    return struct.unpack("<f", struct.pack("<i", bits))[0]


def _double(data: "memoryview | bytearray", at: int) -> int:
    """A double in units of 2**-112, rounded down."""
    bits = int.from_bytes(data[at : at + 8], "little")
    exponent = bits >> 52 & 0x7FF
    mantissa = bits & 0xFFFFFFFFFFFFF
    if exponent:
        mantissa |= 1 << 52
    else:
        exponent = 1
    if bits >> 63:
        mantissa = -mantissa
    shift = exponent - 1075 + _POINT
    return mantissa << shift if shift >= 0 else mantissa >> -shift


def _rounded(total: int) -> int:
    """To 53 significant bits, half to even."""
    size = -total if total < 0 else total
    drop = len(bin(size)) - 2 - _MANTISSA
    if drop <= 0:
        return total
    half = 1 << drop - 1
    rest = size & (2 * half - 1)
    size >>= drop
    if rest > half or (rest == half and size & 1):
        size += 1
    size <<= drop
    return -size if total < 0 else size

"""Scores a table blob where it lies: contract/table.py says what its bytes mean, this what becomes of them.

The first of these that the firmware has scores: `ew_table`, C that was built in (native/table_module.c);
table_viper.py, machine code that mpy-cross made for this chip; table_plain.py, for ports without machine code. All
decide alike: they add up the same integers, and near the limit the sum of doubles is made of integers as well, since
floats are single on most boards.

A blob in a ROM file system (vfs.VfsRom: a mapped partition of a board, a mapped file here) is read in place: memoryview
of the open file is its memory. Other file systems give no addresses; there it is read once, into one buffer.
"""

import struct
import sys
from array import array
from math import exp

import uctypes
from micropython import const

from contract import table
from device.table_plain import leaves

try:
    import ew_table  # pyright: ignore[reportMissingImports]
except ImportError:
    ew_table = None
    try:
        from device.table_viper import scorer
    except (ImportError, ValueError, SyntaxError):  # ValueError: machine code of another chip
        from device.table_plain import scorer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_POINT = const(112)  # doubles as integers in units of 2**-112: leaf values have no lower bit (table.LEAST_EXPONENT)
_MANTISSA = const(53)
# The sum of doubles makes some 60 bytes of integers for each tree, which the next collection takes back.
_DOUBT_BYTES = const(128)
_LN2 = 0.6931471805599453
_POWER_STEPS = 2.0**-20
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
        self.score = _scorer(facts, data) if ew_table is None or _misaligned(data) else _built_in(data)


def _built_in(data: "memoryview | bytearray") -> "Callable[[array], float]":
    return lambda features: ew_table.score(data, features)


def _scorer(facts: table.Forest, data: "memoryview | bytearray") -> "Callable[[array], float]":
    """score(features: array('i')) -> float: above the threshold exactly when scikit-learn's score is."""
    scale = facts.scale / (1 << facts.fraction)
    power = None
    if facts.shape == table.EXP2:
        scale *= _LN2

        def power(units: int) -> float:
            return exp(units * scale)  # a fifth of what 2 ** x takes without a float unit

    # In doubt is what units, half of one off for each tree, leave open, and what floats could round to the other side:
    # eight steps of one for the product, and as much for the power.
    doubt = facts.trees // 2 + 1 + (abs(facts.limit_units) >> 21) + int(min(_POWER_STEPS / scale, 1 << 28))
    at = uctypes.addressof(data)
    # What table_viper and table_plain read; then room for features and their biases.
    plan = array("i", [_WIDE, _int32(at), _int32(at >> _WIDE) if _WIDE else 0])
    plan.extend(array("i", (facts.trees_at, facts.units_at, facts.bias_at, facts.limit_units - doubt, 2 * doubt + 1)))
    plan.extend(array("i", [0] * facts.n_features))

    def in_doubt(features: "array") -> float:
        """The score by the sum of doubles, each addition rounded as IEEE 754 does: to 53 bits, half to even."""
        units = total = 0
        for leaf in leaves(data, facts.trees_at, facts.bias_at, features):
            units += struct.unpack_from("<i", data, facts.units_at + 4 * leaf)[0]
            total = _rounded(total + _double(data, table.FOREST_BYTES + 8 * leaf))
        anomalous = total > _double(data, table.LIMIT_AT)
        score = power(units) if power else units * scale
        if anomalous == (score > facts.threshold):
            return score
        return _next_float(facts.threshold) if anomalous else facts.threshold

    return scorer(data, plan, scale, power, in_doubt)


def _int32(word: int) -> int:
    """The low 32 bits of a word, signed."""
    return (word & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


def _misaligned(data: "memoryview | bytearray") -> bool:
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

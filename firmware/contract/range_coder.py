"""An adaptive binary range decoder, small enough for a board: 24 bits of state, so that every number is a small one.

After G. N. N. Martin's range coder, with the bit-wise binarization of LZMA (I. Pavlov's SDK specification). A context
is a 16-bit word: 12 bits of probability that the bit is 0, and how often it was used, up to 15, in the low 4: the
first bits teach most, as in Krichevsky and Trofimov's estimator. The encoder is cloud/models/range_encoder.py.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from typing import Any

FRESH = 2048 << 4  # an even chance, never used
FULL = 0xFFFFFF
LEAST = 0x10000
_STEPS = (10, 6, 4, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1)  # by use: sixteenths to go towards what came


def learned(word: int, bit: int) -> int:
    """The context after a bit."""
    used = word & 15
    chance = word >> 4
    step = _STEPS[used]
    chance = chance - (chance * step >> 4) if bit else chance + ((4096 - chance) * step >> 4)
    return max(32, min(4064, chance)) << 4 | min(15, used + 1)


class Decoder:
    """Reads bits from the next `limit` bytes of a binary file, or from all that follow; beyond its end are zeros."""

    def __init__(self, source: "Any", limit: int = 0xFFFFFF) -> None:
        self._source = source
        self._left = limit
        self._range = FULL
        self._code = self._next() << 16 | self._next() << 8 | self._next()

    def _next(self) -> int:
        if self._left == 0:
            return 0
        self._left -= 1
        data = self._source.read(1)
        return data[0] if data else 0

    def bit(self, contexts: "array[int]", at: int) -> int:
        """A bit whose probability is in a context."""
        word = contexts[at]
        bound = (self._range >> 12) * (word >> 4)
        if self._code < bound:
            self._range = bound
            bit = 0
        else:
            self._code -= bound
            self._range -= bound
            bit = 1
        contexts[at] = learned(word, bit)
        while self._range < LEAST:
            self._range <<= 8
            self._code = self._code << 8 | self._next()
        return bit

    def even(self, count: int) -> int:
        """`count` bits, each as likely 0 as 1."""
        value = 0
        for _ in range(count):
            half = self._range >> 1
            value <<= 1
            if self._code < half:
                self._range = half
            else:
                self._code -= half
                self._range -= half
                value |= 1
            while self._range < LEAST:
                self._range <<= 8
                self._code = self._code << 8 | self._next()
        return value

    def tree(self, contexts: "array[int]", at: int, bits: int) -> int:
        """A number of `bits` bits, highest first; its 2 ** bits contexts begin at `at`."""
        node = 1
        for _ in range(bits):
            node = node << 1 | self.bit(contexts, at + node)
        return node - (1 << bits)

"""The other half of contract/range_coder.py: writes what its Decoder reads."""

from array import array

from contract.range_coder import FULL, LEAST, learned


class Encoder:
    """Same calls as the decoder's, with the value to write."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._low = 0
        self._range = FULL

    def bit(self, contexts: "array[int]", at: int, bit: int) -> None:
        word = contexts[at]
        self._take((self._range >> 12) * (word >> 4), bit)
        contexts[at] = learned(word, bit)

    def even(self, count: int, value: int) -> None:
        for place in range(count - 1, -1, -1):
            self._take(self._range >> 1, value >> place & 1)

    def tree(self, contexts: "array[int]", at: int, bits: int, value: int) -> None:
        node = 1
        for place in range(bits - 1, -1, -1):
            bit = value >> place & 1
            self.bit(contexts, at + node, bit)
            node = node << 1 | bit

    def finish(self) -> bytes:
        """All that was written; zeros at the end are left out, as the decoder reads zeros there."""
        end = self._low + self._range
        for kept in range(4):
            unit = 1 << 8 * (3 - kept)
            value = -(-self._low // unit) * unit
            if value < end:
                self._low = value
                self._carry()
                self._out += self._low.to_bytes(3, "big")
                break
        return bytes(self._out.rstrip(b"\0"))

    def _take(self, bound: int, bit: int) -> None:
        if bit:
            self._low += bound
            self._range -= bound
            self._carry()
        else:
            self._range = bound
        while self._range < LEAST:
            self._out.append(self._low >> 16)
            self._low = self._low << 8 & FULL
            self._range <<= 8

    def _carry(self) -> None:
        if self._low > FULL:
            self._low &= FULL
            at = len(self._out) - 1
            while self._out[at] == 0xFF:
                self._out[at] = 0
                at -= 1
            self._out[at] += 1

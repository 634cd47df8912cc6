"""Numbers as bits and as bytes: what batches of readings are made of, for writing and for reading.

Writers raise WireError(BAD_SIZE) at the end of the caller's buffer, readers WireError(BAD_BODY) for what no writer
makes. The codes are described in section 6 of PROTOCOL.md.
"""

from contract.wire import BAD_BODY, BAD_SIZE, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

MAX_K = 13  # greatest Golomb parameter
UNARY = 4  # Golomb quotients below are unary; from here on the quotient grows as Exp-Golomb
_MAX_TAIL = 36  # bits of a quotient: no residual of 48-bit times or int32 channels needs more
_MAX_SIZED = 50
_LEADING_ONES = (0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4)  # of four bits


class BitWriter:
    """Writes bits, highest first, into `buf` from `pos` on."""

    def __init__(self, buf: bytearray | memoryview, pos: int) -> None:
        self.buf = buf
        self.pos = pos
        self.acc = 0
        self.count = 0

    def put(self, value: int, width: int) -> None:
        """The low `width` bits of `value`; at most 22 bits at once keep the accumulator a small integer."""
        while width > 22:
            width -= 16
            self.put(value >> width & 0xFFFF, 16)
        acc = self.acc << width | value & (1 << width) - 1
        count = self.count + width
        while count >= 8:
            count -= 8
            if self.pos >= len(self.buf):
                raise WireError(BAD_SIZE, "%d bytes do not hold the batch" % len(self.buf))
            self.buf[self.pos] = acc >> count
            self.pos += 1
            acc &= (1 << count) - 1
        self.acc = acc
        self.count = count

    def put_sized(self, value: int) -> None:
        """A number >= 0: its length in 6 bits, then its bits below the highest."""
        width = bit_length(value)
        self.put(width, 6)
        if width > 1:
            self.put(value, width - 1)

    def put_golomb(self, z: int, k: int) -> None:
        """A number >= 0 of at most 32 bits, as its quotient by 2**k and its low k bits; k is at most MAX_K."""
        quotient = z >> k
        if quotient < UNARY:
            self.put((1 << quotient + 1) - 2 << k | z & (1 << k) - 1, quotient + 1 + k)
            return
        tail = quotient - UNARY + 1
        width = bit_length(tail)
        self.put((1 << UNARY) - 1, UNARY)
        self.put((1 << width) - 2, width)
        self.put(tail, width - 1)
        self.put(z, k)

    def finish(self) -> int:
        """Fills the last byte with zeros and gives the end."""
        if self.count:
            self.put(0, 8 - self.count)
        return self.pos


def golomb_bits(z: int, k: int) -> int:
    """How many bits BitWriter.put_golomb writes."""
    quotient = z >> k
    return k + 1 + (quotient if quotient < UNARY else UNARY - 2 + 2 * bit_length(quotient - UNARY + 1))


class BitReader:
    """Reads the columns of a body. Beyond its end lie zeros, and having read them is found out afterwards."""

    def __init__(self, body: "Buffer") -> None:
        self.body = body
        self.pos: int = 0
        self.acc = 0
        self.count = 0

    def take(self, width: int) -> int:
        """The next `width` bits."""
        while self.count < width:
            self.acc = self.acc << 8 | (self.body[self.pos] if self.pos < len(self.body) else 0)
            self.pos += 1
            self.count += 8
        self.count -= width
        value = self.acc >> self.count
        self.acc &= (1 << self.count) - 1
        return value

    def take_sized(self) -> int:
        """What BitWriter.put_sized wrote."""
        width = self.take(6)
        if width > _MAX_SIZED:
            raise WireError(BAD_BODY, "a number of %d bits" % width)
        return 1 << width - 1 | self.take(width - 1) if width else 0

    def take_golomb(self, k: int) -> int:
        """What BitWriter.put_golomb wrote."""
        quotient = 0
        while quotient < UNARY and self.take(1):
            quotient += 1
        if quotient == UNARY:
            quotient = self._tail()
        return quotient << k | self.take(k)

    def golomb(self, count: int, k: int) -> "list[int]":
        """`count` times unzigzag(take_golomb(k)), with the state in locals: this loop is most of a decoder's time."""
        body = self.body
        end = len(body)
        pos, acc, bits = self.pos, self.acc, self.count
        mask = (1 << k) - 1
        residuals: "list[int]" = []
        for _ in range(count):
            while bits < k + UNARY:
                acc = acc << 8 | (body[pos] if pos < end else 0)
                pos += 1
                bits += 8
            quotient = _LEADING_ONES[acc >> bits - UNARY]
            if quotient < UNARY:
                bits -= quotient + 1 + k
                z = quotient << k | acc >> bits & mask
                acc &= (1 << bits) - 1
            else:
                bits -= UNARY
                self.pos, self.acc, self.count = pos, acc & (1 << bits) - 1, bits
                z = self._tail() << k | self.take(k)
                pos, acc, bits = self.pos, self.acc, self.count
            residuals.append(z >> 1 ^ -(z & 1))
        self.pos, self.acc, self.count = pos, acc, bits
        return residuals

    def _tail(self) -> int:
        """A quotient of UNARY or more, after its four ones."""
        width = 1
        while self.take(1):
            width += 1
            if width > _MAX_TAIL:
                raise WireError(BAD_BODY, "residual too wide")
        return (1 << width - 1 | self.take(width - 1)) + UNARY - 1

    def check_end(self) -> None:
        if 8 * self.pos - self.count > 8 * len(self.body):
            raise WireError(BAD_BODY, "cut")

    def finish(self) -> None:
        """What is left must be less than a byte, and zeros."""
        left = 8 * len(self.body) - (8 * self.pos - self.count)
        if not 0 <= left < 8 or self.acc:
            raise WireError(BAD_BODY, "%d bits after the last column" % left)


def put_varint(buf: bytearray | memoryview, pos: int, number: int) -> int:
    """Writes a number >= 0, seven bits a byte, lowest first, all but the last byte marked; gives its end."""
    while True:
        if pos >= len(buf):
            raise WireError(BAD_SIZE, "%d bytes do not hold the row" % len(buf))
        if number < 128:
            buf[pos] = number
            return pos + 1
        buf[pos] = number & 127 | 128
        number >>= 7
        pos += 1


def take_varint(buf: "Buffer", pos: int, end: int) -> "tuple[int, int]":
    """(number, its end), at most 49 bits; raises WireError(BAD_BODY) for a cut, long or padded one."""
    number = shift = 0
    while pos < end and shift < 49:
        byte = buf[pos]
        pos += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                break
            return number, pos
        shift += 7
    raise WireError(BAD_BODY, "varint at %d" % pos)


def zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(number: int) -> int:
    return number >> 1 ^ -(number & 1)


def bit_length(number: int) -> int:
    """Bits of a number >= 0 (MicroPython integers have no bit_length)."""
    width = 0
    while number > 255:
        number >>= 8
        width += 8
    while number:
        number >>= 1
        width += 1
    return width

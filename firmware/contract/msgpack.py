"""The msgpack subset of the contract: Packer writes into a caller's buffer, Reader takes a frame apart in place.

Subset: nil, bool, integers of 64 bits, float 32 and 64, str (strict UTF-8), bin, array, map with str keys that
occur once. No extension types. Integers, lengths and counts are written in their shortest form, so the bytes equal
those of the `msgpack` package. Every declared length and count is held against the bytes that are really there, and
against the reader's item budget, before anything is allocated. Everything here raises WireError and nothing else.

Source: github.com/msgpack/msgpack/blob/master/spec.md
"""

import struct

from contract.wire import BAD_CUT, BAD_DEPTH, BAD_RANGE, BAD_SIZE, BAD_TRAILING, BAD_TYPE, MAX_DEPTH, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Packable = (
        None
        | bool
        | int
        | float
        | str
        | bytes
        | bytearray
        | memoryview
        | Sequence["Packable"]
        | Mapping[str, "Packable"]
    )

DEFAULT_MAX_ITEMS = 512  # values and map keys of one message, all levels together

# What a type byte announces (Reader.peek)
NIL = 0
BOOL = 1
INT = 2
FLOAT = 3
STR = 4
BIN = 5
ARRAY = 6
MAP = 7
_TYPE_NAMES = ("nil", "bool", "int", "float", "str", "bin", "array", "map")

# Type of each byte 0xc0..0xdf; None is outside the subset (0xc1 and the extension types).
_HIGH_TYPES = (
    (NIL, None, BOOL, BOOL, BIN, BIN, BIN, None, None, None, FLOAT, FLOAT)
    + (INT,) * 8
    + (None, None, None, None, None, STR, STR, STR, ARRAY, ARRAY, MAP, MAP)
)
_INT_FORMATS = (">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q")  # 0xcc..0xd3
_LENGTH_FORMATS = (">B", ">H", ">I")
_ANY = 0xFFFFFFFF  # the greatest length there is
_MIN_INT = -(1 << 63)
_MAX_INT = (1 << 64) - 1


class Packer:
    """Appends values to `buf` from `pos` on; `pos` is the end of what was written.

    A value that does not fit raises WireError(BAD_SIZE) and leaves `pos` before that value. The buffer belongs to
    the caller and is never grown.
    """

    def __init__(self, buf: bytearray | memoryview, pos: int = 0) -> None:
        self.buf = buf
        self.pos = pos

    def _reserve(self, n_bytes: int) -> int:
        start = self.pos
        if start + n_bytes > len(self.buf):
            raise WireError(BAD_SIZE, "%d bytes do not hold the message" % len(self.buf))
        self.pos = start + n_bytes
        return start

    def _byte(self, value: int) -> None:
        self.buf[self._reserve(1)] = value

    def put_nil(self) -> None:
        """nil."""
        self._byte(0xC0)

    def put_bool(self, value: bool) -> None:
        """true or false."""
        self._byte(0xC3 if value else 0xC2)

    def put_int(self, value: int) -> None:
        """An integer of -2**63 to 2**64 - 1 in its shortest form; WireError(BAD_RANGE) outside."""
        if 0 <= value < 128:
            self._byte(value)
        elif -32 <= value < 0:
            self._byte(value + 256)
        elif value >= 0:
            self._put_wide(value, 0xCC, 0)
        else:
            self._put_wide(-1 - value, 0xD0, 1)

    def _put_wide(self, magnitude: int, first_tag: int, sign_bits: int) -> None:
        """`magnitude` is the value, or -1 - value for negative ones, whose sign takes one bit of the width."""
        for index in range(4):
            width = 1 << index
            if magnitude >> (8 * width - sign_bits) == 0:
                pos = self._reserve(1 + width)
                self.buf[pos] = first_tag + index
                value = -1 - magnitude if sign_bits else magnitude
                struct.pack_into(_INT_FORMATS[index + 4 * sign_bits], self.buf, pos + 1, value)
                return
        raise WireError(BAD_RANGE, "integer wider than 64 bits")

    def put_f32(self, value: float) -> None:
        """A float rounded to single precision; what is beyond its range becomes infinite."""
        pos = self._reserve(5)
        self.buf[pos] = 0xCA
        try:
            struct.pack_into(">f", self.buf, pos + 1, value)
        except OverflowError:  # CPython only; MicroPython writes the infinity itself
            struct.pack_into(">f", self.buf, pos + 1, float("inf") if value > 0 else float("-inf"))

    def put_f64(self, value: float) -> None:
        """A float in double precision (a board with single precision sends what it has)."""
        pos = self._reserve(9)
        self.buf[pos] = 0xCB
        struct.pack_into(">d", self.buf, pos + 1, value)

    def put_bin(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Bytes, with a length of 8, 16 or 32 bits."""
        pos = self.put_bin_head(len(data))
        self.buf[pos : pos + len(data)] = data

    def put_str(self, text: str) -> None:
        """Text as UTF-8; WireError(BAD_TYPE) for text that has none, such as lone surrogates."""
        try:
            data = text.encode()
        except UnicodeError:
            raise WireError(BAD_TYPE, "text is not UTF-8")
        check_utf8(data)  # MicroPython encodes lone surrogates without a word
        if len(data) < 32:
            self._byte(0xA0 | len(data))
            pos = self._reserve(len(data))
        else:
            pos = self._put_length(len(data), 0xD9)
        self.buf[pos : pos + len(data)] = data

    def put_bin_head(self, size: int) -> int:
        """The head of a bin of `size` bytes; gives where the caller has to write them."""
        return self._put_length(size, 0xC4)

    def _put_length(self, size: int, first_tag: int) -> int:
        """Head and room of `size` bytes; gives where the bytes begin."""
        index = 0 if size < 256 else 1 if size < 65536 else 2
        start = 1 + (1 << index)
        pos = self._reserve(start + size)
        self.buf[pos] = first_tag + index
        struct.pack_into(_LENGTH_FORMATS[index], self.buf, pos + 1, size)
        return pos + start

    def put_array(self, count: int) -> None:
        """The head of an array; `count` values follow."""
        self._put_head(count, 0x90, 0xDC)

    def put_map(self, count: int) -> None:
        """The head of a map; `count` pairs of key and value follow."""
        self._put_head(count, 0x80, 0xDE)

    def _put_head(self, count: int, fix_tag: int, first_tag: int) -> None:
        if count < 16:
            self._byte(fix_tag | count)
        else:
            index = 1 if count < 65536 else 2
            pos = self._reserve(1 + (1 << index))
            self.buf[pos] = first_tag + index - 1
            struct.pack_into(_LENGTH_FORMATS[index], self.buf, pos + 1, count)

    def put(self, value: "Packable", max_depth: int = MAX_DEPTH) -> None:
        """Any value of the subset: None, bool, int, float (as float 64), str, bytes-like, list, tuple, dict.

        Map keys are written in sorted order, because MicroPython keeps no insertion order and a signature
        needs one order. Raises WireError(BAD_TYPE) for anything else and WireError(BAD_DEPTH) beyond `max_depth`.
        """
        if value is None:
            self.put_nil()
        elif value is True or value is False:
            self.put_bool(value)
        elif isinstance(value, int):
            self.put_int(value)
        elif isinstance(value, float):
            self.put_f64(value)
        elif isinstance(value, str):
            self.put_str(value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self.put_bin(value)
        elif max_depth <= 0:
            raise WireError(BAD_DEPTH, "more than %d levels" % MAX_DEPTH)
        elif isinstance(value, (list, tuple)):
            self._put_items(value, max_depth - 1)
        elif isinstance(value, dict):
            self._put_dict(value, max_depth - 1)
        else:
            raise WireError(BAD_TYPE, "%s cannot be packed" % type(value).__name__)

    def _put_items(self, items: "Sequence[Packable]", max_depth: int) -> None:
        self.put_array(len(items))
        for item in items:
            self.put(item, max_depth)

    def _put_dict(self, mapping: "Mapping[str, Packable]", max_depth: int) -> None:
        self.put_map(len(mapping))
        for key in mapping:
            if not isinstance(key, str):
                raise WireError(BAD_TYPE, "map keys are text")
        for key in sorted(mapping):
            self.put_str(key)
            self.put(mapping[key], max_depth)

    def view(self, start: int = 0) -> memoryview:
        """What was written from `start` on, not copied: it changes when the buffer is written again."""
        return memoryview(self.buf)[start : self.pos]


class Reader:
    """Takes the values of `buf[:end]` one after the other; `pos` is the next byte.

    `items` is the budget of values and map keys the whole frame may hold.
    """

    def __init__(self, buf: bytes | bytearray | memoryview, max_items: int = DEFAULT_MAX_ITEMS) -> None:
        self.buf = memoryview(buf)
        self.end = len(buf)
        self.pos = 0
        self.items = max_items

    def peek(self) -> int:
        """The type of the next value (NIL to MAP), without taking it."""
        if self.pos >= self.end:
            raise WireError(BAD_CUT, "at byte %d" % self.pos)
        tag = self.buf[self.pos]
        if tag < 0x80 or tag >= 0xE0:
            return INT
        if tag < 0x90:
            return MAP
        if tag < 0xA0:
            return ARRAY
        if tag < 0xC0:
            return STR
        kind = _HIGH_TYPES[tag - 0xC0]
        if kind is None:
            raise WireError(BAD_TYPE, "type byte 0x%02x at %d" % (tag, self.pos))
        return kind

    def _expect(self, kind: int) -> int:
        """Takes the type byte of a value that must be `kind`."""
        found = self.peek()
        if found != kind:
            raise WireError(BAD_TYPE, "%s at byte %d, not %s" % (_TYPE_NAMES[found], self.pos, _TYPE_NAMES[kind]))
        self.items -= 1
        if self.items < 0:
            raise WireError(BAD_SIZE, "too many items")
        tag = self.buf[self.pos]
        self.pos += 1
        return tag

    def _advance(self, n_bytes: int) -> int:
        """Moves over `n_bytes` that must be there and gives where they begin."""
        start = self.pos
        if n_bytes > self.end - start:
            raise WireError(BAD_CUT, "%d bytes at %d" % (n_bytes, start))
        self.pos = start + n_bytes
        return start

    def _length(self, index: int) -> int:
        return struct.unpack_from(_LENGTH_FORMATS[index], self.buf, self._advance(1 << index))[0]

    def take_nil(self) -> bool:
        """Takes a nil if the next value is one; says whether it was."""
        if self.peek() != NIL:
            return False
        self._expect(NIL)
        return True

    def take_bool(self) -> bool:
        """A bool."""
        return self._expect(BOOL) == 0xC3

    def take_int(self, low: int, high: int) -> int:
        """An integer of `low` to `high`, in any width; WireError(BAD_RANGE) outside."""
        tag = self._expect(INT)
        if tag < 0x80:
            value = tag
        elif tag >= 0xE0:
            value = tag - 256
        else:
            index = tag - 0xCC
            value = struct.unpack_from(_INT_FORMATS[index], self.buf, self._advance(1 << (index & 3)))[0]
        if not low <= value <= high:
            raise WireError(BAD_RANGE, "%d is not in %d..%d" % (value, low, high))
        return value

    def take_float(self) -> float:
        """A float of either width; an integer is taken for the float it equals, as many packers write 1 for 1.0."""
        if self.peek() == INT:
            return float(self.take_int(_MIN_INT, _MAX_INT))
        if self._expect(FLOAT) == 0xCA:
            return struct.unpack_from(">f", self.buf, self._advance(4))[0]
        return struct.unpack_from(">d", self.buf, self._advance(8))[0]

    def take_bin(self, low: int, high: int) -> memoryview:
        """Bytes, `low` to `high` of them, as a view into the frame (not copied)."""
        return self._take_bytes(self._length(self._expect(BIN) - 0xC4), low, high)

    def take_str(self, low: int, high: int) -> str:
        """Text of `low` to `high` characters, in strict UTF-8."""
        tag = self._expect(STR)
        size = tag & 31 if tag < 0xC0 else self._length(tag - 0xD9)
        view = self._take_bytes(size, low, 4 * high)  # no character has more than four bytes
        check_utf8(view)
        text = str(view, "utf-8")
        if not low <= len(text) <= high:
            raise WireError(BAD_SIZE, "%d characters, not %d..%d" % (len(text), low, high))
        return text

    def _take_bytes(self, size: int, low: int, high: int) -> memoryview:
        if not low <= size <= high:
            raise WireError(BAD_SIZE, "%d bytes, not %d..%d" % (size, low, high))
        start = self._advance(size)
        return self.buf[start : start + size]

    def take_array(self, low: int, high: int) -> int:
        """The head of an array of `low` to `high` values; gives their count."""
        tag = self._expect(ARRAY)
        return self._count(tag & 15 if tag < 0xC0 else self._length(tag - 0xDB), 1, low, high)

    def take_map(self, low: int, high: int) -> int:
        """The head of a map of `low` to `high` pairs; gives their count."""
        tag = self._expect(MAP)
        return self._count(tag & 15 if tag < 0xC0 else self._length(tag - 0xDD), 2, low, high)

    def _count(self, count: int, values_each: int, low: int, high: int) -> int:
        """`count`, after checking it against the limits, the bytes left and the item budget."""
        if not low <= count <= high:
            raise WireError(BAD_SIZE, "%d items, not %d..%d" % (count, low, high))
        if count * values_each > self.end - self.pos:  # every value takes at least one byte
            raise WireError(BAD_CUT, "%d items announced at %d" % (count, self.pos))
        if count * values_each > self.items:
            raise WireError(BAD_SIZE, "too many items")
        return count

    def take(self, max_depth: int = MAX_DEPTH) -> "Any":
        """The next value, whatever it is, as None, bool, int, float, str, bytes (copied), list or dict."""
        kind = self.peek()
        if kind == INT:
            return self.take_int(_MIN_INT, _MAX_INT)
        if kind == STR:
            return self.take_str(0, _ANY)
        if kind == BIN:
            return bytes(self.take_bin(0, _ANY))
        if kind == FLOAT:
            return self.take_float()
        if kind == BOOL:
            return self.take_bool()
        if kind == NIL:
            self._expect(NIL)
            return None
        if max_depth <= 0:
            raise WireError(BAD_DEPTH, "at byte %d" % self.pos)
        if kind == ARRAY:
            return [self.take(max_depth - 1) for _ in range(self.take_array(0, _ANY))]
        result: "dict[str, Any]" = {}
        for _ in range(self.take_map(0, _ANY)):
            key = self.take_str(0, _ANY)
            if key in result:
                raise WireError(BAD_TYPE, "key %s twice" % key)
            result[key] = self.take(max_depth - 1)
        return result

    def skip(self, max_depth: int = MAX_DEPTH) -> None:
        """Moves over the next value with the same checks as take, but makes nothing of it."""
        kind = self.peek()
        if kind in (ARRAY, MAP):
            if max_depth <= 0:
                raise WireError(BAD_DEPTH, "at byte %d" % self.pos)
            count = self.take_array(0, _ANY) if kind == ARRAY else 2 * self.take_map(0, _ANY)
            for _ in range(count):
                self.skip(max_depth - 1)
        elif kind == BIN:
            self.take_bin(0, _ANY)
        else:
            self.take(0)

    def finish(self) -> None:
        """Raises WireError(BAD_TRAILING) unless every byte was taken."""
        if self.pos != self.end:
            raise WireError(BAD_TRAILING, "%d bytes" % (self.end - self.pos))


def check_utf8(data: bytes | memoryview) -> None:
    """Raises WireError(BAD_TYPE) unless `data` is well-formed UTF-8 (Unicode 15, table 3-7).

    CPython's decoder does this itself; MicroPython's lets surrogates, overlong forms and code points above
    U+10FFFF through, and the two sides must refuse the same frames.
    """
    n_bytes = len(data)
    pos = 0
    while pos < n_bytes:
        lead = data[pos]
        pos += 1
        if lead < 0x80:
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            raise WireError(BAD_TYPE, "text is not UTF-8")
        for _ in range(more):
            if pos >= n_bytes or not low <= data[pos] <= high:
                raise WireError(BAD_TYPE, "text is not UTF-8")
            low = 0x80
            high = 0xBF
            pos += 1


def pack_into(buf: bytearray | memoryview, pos: int, value: "Packable", max_depth: int = MAX_DEPTH) -> int:
    """Writes one value of the subset into `buf` at `pos` and gives the position after it (see Packer.put)."""
    packer = Packer(buf, pos)
    packer.put(value, max_depth)
    return packer.pos


def unpack(
    buf: bytes | bytearray | memoryview, max_depth: int = MAX_DEPTH, max_items: int = DEFAULT_MAX_ITEMS
) -> "Any":
    """The one value that `buf` holds (see Reader.take); bytes after it are WireError(BAD_TRAILING)."""
    reader = Reader(buf, max_items)
    value = reader.take(max_depth)
    reader.finish()
    return value

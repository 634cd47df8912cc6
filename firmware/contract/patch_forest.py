"""The patch of a forest's table blob (table.py): trees that stay, new trees, and what a calibration changes.

Runs on MicroPython and CPython. Trees are known by their content, so what stays costs nothing, and all that follows
from the trees (their digests, the units of the leaf values) is worked out and not sent. Numbers are LEB128.

    mask (6 bytes), a bit per byte of the blob's first 48, then the bytes that are not those of the base
    number of leaf values that are not those of the base; for each: its distance from the one before, its 8 bytes
    number of biases that are not those of the base; for each: feature, distance (zigzag): a sensor calibrated anew
    number of runs of trees; for each: count * 2, then the first one's index in the base; or count * 2 + 1: new trees
    if any is new: bytes of the largest, then the new trees, range coded (range_coder.py)

A new tree is told node by node, in preorder. Of a node: whether it is a leaf, given its depth; of a leaf: whether its
value is the last or the last but one at this depth, else the value's index; of an inner node its feature, and its bound
as a difference to the feature's last one: how many bits it has, given the feature, then the bits. Skips follow from the
shape. What one tree taught the coder serves the next: trees of a forest resemble each other.

Memory: that of patch.py, one tree, and 4 bytes for each feature; see ram_bytes().
"""

import struct
from array import array
from hashlib import sha256

from contract import table
from contract.patch import CONTEXTS, PatchError
from contract.range_coder import FRESH, Decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contract.patch import Write

MAX_RAM_BYTES = 1664  # of one tree, contexts and features: with what else lives then, 2 kB
DEPTHS = 16  # depths with counts of their own
CLASS_BITS = 5  # a bound's difference has at most 31 bits
GROUPS = 4  # of features that share the counts of their bounds' lengths
_VALUE_TREE_BITS = 6  # of a leaf value's index that have counts of their own
_PIECE_BYTES = 64


class Layout:
    """Where the contexts of a forest lie."""

    def __init__(self, n_features: int, values: int) -> None:
        self.feature_bits = _bits(n_features - 1)
        self.value_bits = _bits(values - 1)
        self.value_tree_bits = min(self.value_bits, _VALUE_TREE_BITS)
        self.leaf_at = 0
        self.again_at = DEPTHS  # two for each depth
        self.value_at = 3 * DEPTHS
        self.feature_at = self.value_at + (1 << self.value_tree_bits)
        self.class_at = self.feature_at + (1 << self.feature_bits)
        self.count = self.class_at + (GROUPS << CLASS_BITS)


def ram_bytes(n_features: int, tree_bytes: int) -> int:
    """What new trees of up to `tree_bytes` take to decode."""
    return 2 * CONTEXTS + 4 * n_features + 4 * DEPTHS + tree_bytes


def apply(stream: "Any", base: "Any", write: "Write", contexts: "array[int]", trees: "Any", digests: "Any") -> None:
    """Writes the blob that a patch makes of the one at base.payload_at; raises PatchError, EOFError.

    base, write, contexts: as in patch.apply; trees, digests: empty files to write to and, after seek(0), to read again:
    for new trees and for their digests.
    """
    header = bytearray(table.FOREST_BYTES)
    base.read_at(base.payload_at, header)
    old = _Facts(header)
    mask = int.from_bytes(_take(stream, 6), "little")
    for place in range(table.FOREST_BYTES):
        if mask >> place & 1:
            header[place] = _take(stream, 1)[0]
    new = _Facts(header)
    if new.n_features != old.n_features:
        raise PatchError("%d features" % new.n_features)
    write(memoryview(header))
    values_at = stream.tell()
    _each_value(stream, base, old, new, write)
    stream.seek(values_at)
    _each_value(stream, base, old, new, _Units(write, new.fraction).write)
    _write_biases(stream, base, write, old)
    runs = _read_runs(stream, old, new)
    if any(start < 0 for _, start in runs):
        largest = number(stream)
        if ram_bytes(new.n_features, largest) > MAX_RAM_BYTES:
            raise PatchError("trees of %d bytes" % largest)
        _grow(Grower(stream, new.n_features, new.values, contexts), bytearray(largest), runs, trees, digests)
    digests.seek(0)
    for count, start in runs:
        if start < 0:
            _copy(digests, write, count * table.DIGEST_BYTES)
        else:
            _copy_base(base, write, old.digests_at + start * table.DIGEST_BYTES, count * table.DIGEST_BYTES)
    trees.seek(0)
    for count, start in runs:
        if start < 0:
            for _ in range(count):
                size = _take(trees, 2)
                write(memoryview(size))
                _copy(trees, write, (size[0] | size[1] << 8) - 2)
        else:
            at = old.tree_start(base, 0, old.trees_at, start)
            _copy_base(base, write, at, old.tree_start(base, start, at, start + count) - at)
    write(memoryview(bytes(2)))


def _grow(grower: "Grower", tree: bytearray, runs: "list[tuple[int, int]]", trees: "Any", digests: "Any") -> None:
    """Reads the new trees into files."""
    view = memoryview(tree)
    for count, start in runs:
        for _ in range(count if start < 0 else 0):
            size = grower.grow(tree)
            digests.write(sha256(view[:size]).digest()[: table.DIGEST_BYTES])
            trees.write(view[:size])


class _Facts:
    """What the header of a forest's blob says; offsets in its bytes."""

    def __init__(self, header: bytearray) -> None:
        _, kind, _, self.n_features, _, _ = struct.unpack_from(table.HEADER, header)
        self.trees, self.values = struct.unpack_from("<HH", header, table.HEADER_BYTES)
        self.fraction = header[21]
        self.bias_at = table.FOREST_BYTES + 12 * self.values
        self.digests_at = self.bias_at + 4 * self.n_features
        self.trees_at = self.digests_at + table.DIGEST_BYTES * self.trees
        if (
            bytes(header[:4]) != table.MAGIC
            or kind != table.FOREST
            or not 1 <= self.n_features <= table.MAX_FEATURES
            or not 1 <= self.trees <= table.MAX_TREES
            or not 1 <= self.values <= table.MAX_VALUES
            or self.fraction > table.MAX_FRACTION
        ):
            raise PatchError("no forest")

    def tree_start(self, base: "Any", index: int, at: int, wanted: int) -> int:
        """Where a tree of the base begins, going on from tree `index` at byte `at` of its payload."""
        size = bytearray(2)
        while index < wanted:
            base.read_at(base.payload_at + at, size)
            at += size[0] | size[1] << 8
            index += 1
        return at


def _each_value(stream: "Any", base: "Any", old: _Facts, new: _Facts, take: "Any") -> None:
    """Hands the 8 bytes of each leaf value of the new blob to take()."""
    raw = bytearray(8)
    left = number(stream)
    changed = number(stream) if left else -1
    for index in range(new.values):
        if index == changed:
            raw[:] = _take(stream, 8)
            left -= 1
            changed = index + 1 + number(stream) if left else -1
        elif index < old.values:
            base.read_at(base.payload_at + table.FOREST_BYTES + 8 * index, raw)
        else:
            raise PatchError("leaf value %d" % index)
        take(raw)
    if left:
        raise PatchError("leaf values behind the last")


class _Units:
    """Writes the units of the values it is given."""

    def __init__(self, write: "Write", fraction: int) -> None:
        self._write = write
        self._fraction = fraction

    def write(self, raw: bytearray) -> None:
        self._write(memoryview(struct.pack("<i", units(raw, self._fraction))))


def units(raw: "bytes | bytearray", fraction: int) -> int:
    """A double times 2 ** fraction, rounded to the nearest integer, halves to the even one: in integers, since a board
    has no doubles."""
    bits = int.from_bytes(raw, "little")
    exponent = bits >> 52 & 0x7FF
    mantissa = bits & 0xFFFFFFFFFFFFF
    if exponent:
        mantissa |= 1 << 52
    shift = 1075 - max(exponent, 1) - fraction
    if shift > 0:
        shift = min(shift, 60)
        half = 1 << (shift - 1)
        rest = mantissa & ((1 << shift) - 1)
        mantissa >>= shift
        if rest > half or (rest == half and mantissa & 1):
            mantissa += 1
    else:
        mantissa <<= min(-shift, 40)
    if mantissa > table.MAX_SUM:
        raise PatchError("a leaf value in units")
    return -mantissa if bits >> 63 else mantissa


def _write_biases(stream: "Any", base: "Any", write: "Write", old: _Facts) -> None:
    raw = bytearray(4)
    left = number(stream)
    changed = number(stream) if left else -1
    for feature in range(old.n_features):
        base.read_at(base.payload_at + old.bias_at + 4 * feature, raw)
        if feature == changed:
            bias = struct.unpack("<i", raw)[0] + signed(stream)
            if not -table.MAX_BIAS <= bias <= table.MAX_BIAS:
                raise PatchError("the bias of feature %d" % feature)
            struct.pack_into("<i", raw, 0, bias)
            left -= 1
            changed = number(stream) if left else -1
        write(memoryview(raw))
    if left:
        raise PatchError("biases out of order")


def _read_runs(stream: "Any", old: _Facts, new: _Facts) -> "list[tuple[int, int]]":
    """[(trees, index of the first in the base, or -1 for new ones)]"""
    runs: "list[tuple[int, int]]" = []
    total = 0
    for _ in range(number(stream)):
        head = number(stream)
        start = -1 if head & 1 else number(stream)
        total += head >> 1
        if head < 2 or total > new.trees or (start >= 0 and start + (head >> 1) > old.trees):
            raise PatchError("runs of trees")
        runs.append((head >> 1, start))
    if total != new.trees:
        raise PatchError("%d of %d trees" % (total, new.trees))
    return runs


class Grower:
    """Reads new trees, one after the other."""

    def __init__(self, stream: "Any", n_features: int, values: int, contexts: "array[int]") -> None:
        self.layout = layout = Layout(n_features, values)
        self._source = Decoder(stream)
        self._n_features = n_features
        self._values = values
        self._contexts = contexts
        for at in range(layout.count):
            contexts[at] = FRESH
        self._bounds = array("i", [0] * n_features)
        self._recent = array("H", [0] * (2 * DEPTHS))

    def grow(self, tree: bytearray) -> int:
        """Writes the next tree into `tree`; returns its bytes. Raises PatchError where it does not fit."""
        open_at: "list[int]" = []  # where inner nodes begin whose left child is being read; -1: the right one is
        end = _put(tree, 0, bytes(2))
        while True:
            depth = len(open_at)
            if self._source.bit(self._contexts, self.layout.leaf_at + min(depth, DEPTHS - 1)):
                end = _put(tree, end, _leaf(self._value(depth)))
                while open_at and open_at[-1] < 0:
                    open_at.pop()
                if not open_at:
                    if end > 0xFFFF:
                        raise PatchError("a tree too large")
                    struct.pack_into("<H", tree, 0, end)
                    return end
                end = _close(tree, open_at[-1], end)
                open_at[-1] = -1
            else:
                if depth > 2 * table.MAX_LEFTS:
                    raise PatchError("a tree too deep")
                open_at.append(end)
                feature = self._source.tree(self._contexts, self.layout.feature_at, self.layout.feature_bits)
                if feature >= self._n_features:
                    raise PatchError("feature %d" % feature)
                end = _put(tree, end, _inner(feature, self._bound(feature)))

    def _value(self, depth: int) -> int:
        layout, source = self.layout, self._source
        depth = min(depth, DEPTHS - 1)
        last = 2 * depth
        if not source.bit(self._contexts, layout.again_at + last):
            return self._recent[last]
        if not source.bit(self._contexts, layout.again_at + last + 1):
            value = self._recent[last + 1]
        else:
            value = source.tree(self._contexts, layout.value_at, layout.value_tree_bits)
            rest = layout.value_bits - layout.value_tree_bits
            value = value << rest | source.even(rest)
            if value >= self._values:
                raise PatchError("leaf value %d" % value)
        self._recent[last + 1] = self._recent[last]
        self._recent[last] = value
        return value

    def _bound(self, feature: int) -> int:
        group = self.layout.class_at + ((feature % GROUPS) << CLASS_BITS)
        bits = self._source.tree(self._contexts, group, CLASS_BITS)
        folded = (1 << bits | self._source.even(bits)) - 1
        bound = self._bounds[feature] + (-(folded >> 1) - 1 if folded & 1 else folded >> 1)
        if not -0x80000000 <= bound <= 0x7FFFFFFF:
            raise PatchError("a bound")
        self._bounds[feature] = bound
        return bound


def _leaf(value: int) -> bytes:
    return struct.pack("<H", value) if value < table.FAR_LEAF else struct.pack("<HH", table.FAR_LEAF, value)


def _inner(feature: int, bound: int) -> bytes:
    """An inner node whose skip is not known yet."""
    if 0 <= bound <= 0xFFFF:
        return struct.pack("<BBH", 0, feature + 1, bound)
    return struct.pack("<BBiH", table.WIDE | feature, 0, bound, 0)


def _close(tree: bytearray, at: int, end: int) -> int:
    """Writes the skip of the inner node at `at`, whose left child ends at `end`; returns the end, which a skip that
    takes a wide node moves."""
    if tree[at + 1] == 0:
        struct.pack_into("<H", tree, at + 6, (end - at - 8) // 2)
        return end
    skip = (end - at - 4) // 2
    if skip <= 0xFF:
        tree[at] = skip
        return end
    if end + 4 > len(tree):
        raise PatchError("a tree larger than was said")
    for place in range(end - 1, at + 3, -1):
        tree[place + 4] = tree[place]
    bound = tree[at + 2] | tree[at + 3] << 8
    struct.pack_into("<BBiH", tree, at, table.WIDE | tree[at + 1] - 1, 0, bound, skip)
    return end + 4


def _put(tree: bytearray, end: int, data: bytes) -> int:
    if end + len(data) > len(tree):
        raise PatchError("a tree larger than was said")
    tree[end : end + len(data)] = data
    return end + len(data)


def _copy(source: "Any", write: "Write", count: int) -> None:
    while count:
        data = _take(source, min(count, _PIECE_BYTES))
        write(memoryview(data))
        count -= len(data)


def _copy_base(base: "Any", write: "Write", at: int, count: int) -> None:
    """Bytes of the base's payload."""
    buffer = memoryview(bytearray(_PIECE_BYTES))
    while count:
        n = min(count, _PIECE_BYTES)
        base.read_at(base.payload_at + at, buffer[:n])
        write(buffer[:n])
        at += n
        count -= n


def _take(stream: "Any", count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def number(stream: "Any") -> int:
    """A LEB128 number of at most 32 bits."""
    value = 0
    for shift in range(0, 35, 7):
        byte = _take(stream, 1)[0]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value
    raise PatchError("a number without end")


def signed(stream: "Any") -> int:
    """A LEB128 number whose lowest bit is its sign."""
    value = number(stream)
    return -(value >> 1) - 1 if value & 1 else value >> 1


def _bits(highest: int) -> int:
    bits = 0
    while highest >> bits:
        bits += 1
    return bits

"""The table blob: a model as data, for any board, scored without a copy and without a C compiler.

Runs on MicroPython and CPython, touches no file. All integers are little-endian; n bytes at `offset`:

    0   magic "EWT1"
    4   u8   kind: 1 forest
    5   u8   0
    6   u16  n_features, 1 to 128
    8   u32  size of the blob in bytes
    12  u32  CRC-32 (binascii.crc32) of bytes 0 to 11, then of bytes 16 to the end

A forest goes on, so that a new threshold changes nothing behind byte 48:

    16  u16  trees, 1 to 1024
    18  u16  values, 1 to 16384: distinct leaf values
    20  u8   shape of the score: 0 sum * scale, 1 2 ** (sum * scale)
    21  u8   fraction, 0 to 20: a unit is 2 ** -fraction
    22  u16  0
    24  f32  scale
    28  f32  threshold; the window is anomalous when the score is above
    32  f64  limit: ... which is when the sum of the leaf values is above this, summed in double, tree after tree
    40  i32  limit in units, rounded down
    44  u32  words: halfwords of all trees together
    48  f64  value of each leaf value
    ..  i32  units of each leaf value: the value in units, rounded to nearest; trees * |units| <= 2**30
    ..  10 bytes per tree: u16 halfwords of the tree, then the first 8 bytes of the SHA-256 of the tree's bytes
    ..  the trees, one after the other, nothing behind them

A tree is a run of halfwords that holds no place outside itself: the same tree has the same bytes, and the same digest,
wherever it lies and in whichever blob, as long as the leaf values it names keep their index (model_export/table.py
keeps them from one version to the next). Nodes come in preorder, the left child behind its parent:

    0fff ffff ssss ssss, i16 cut                    inner node: feature f (7 bits), skip s (8 bits)
    10ss ssss sfff ffff, u16 low, i16 high          ... with a cut of 32 bits, high * 65536 + low; skip s (7 bits)
    1000 0000 0fff ffff, u16 low, i16 high, u16 s   ... and a skip of 16 bits
    11vv vvvv vvvv vvvv                             leaf: index of its value

x[feature] < cut goes left, which is on; else right, which is `skip` halfwords further on. Cuts lie within +-2**30, the
features within +-(2**30 - 1). No path goes left more than 64 times.

Leaf values are summed as int32 units. Each is off by half a unit at most, so the sum of n trees is off by n / 2: where
it lies further than that from the limit it decides, and else the sum of the doubles does (native/forest.h).
"""

import struct
from binascii import crc32
from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

MAGIC = b"EWT1"
FOREST = 1
HEADER_BYTES = 16
FOREST_BYTES = 48
TREE_BYTES = 10
DIGEST_BYTES = 8
HEADER = "<4sBBHII"
FOREST_HEADER = "<HHBBHffdiI"  # at HEADER_BYTES

LINEAR = 0
EXP2 = 1

MAX_FEATURES = 128
MAX_TREES = 1024
MAX_VALUES = 16384
MAX_FRACTION = 20
MAX_LEFTS = 64
MAX_CUT = 1 << 30
MAX_SUM = 1 << 30

LEAF = 0xC000  # the two highest bits of a leaf
WIDE = 0x8000  # ... and of an inner node with a cut of 32 bits


class TableError(Exception):
    """Bytes that are no table blob; the argument says which of its facts is wrong."""


class Forest:
    """The facts of a blob of kind FOREST, and where its parts begin, in bytes."""

    def __init__(self, data: "Buffer") -> None:
        """Reads the header and holds every length against the others; the trees go unread. Raises TableError."""
        self.n_features = _header(data, FOREST)
        if len(data) < FOREST_BYTES:
            raise TableError("%d bytes of forest header" % len(data))
        (
            self.trees,
            self.values,
            self.shape,
            self.fraction,
            zero,
            self.scale,
            self.threshold,
            self.limit,
            self.limit_units,
            self.words,
        ) = struct.unpack_from(FOREST_HEADER, data, HEADER_BYTES)
        if not 1 <= self.trees <= MAX_TREES:
            raise TableError("%d trees" % self.trees)
        if not 1 <= self.values <= MAX_VALUES:
            raise TableError("%d leaf values" % self.values)
        if self.shape > EXP2 or self.fraction > MAX_FRACTION or zero:
            raise TableError("shape or fraction")
        for number in (self.scale, self.threshold, self.limit):
            if number - number != 0:  # infinite or NaN
                raise TableError("a number of the header is not finite")
        self.units_at = FOREST_BYTES + 8 * self.values
        self.table_at = self.units_at + 4 * self.values
        self.trees_at = self.table_at + TREE_BYTES * self.trees
        if self.trees_at + 2 * self.words != len(data):
            raise TableError("%d bytes, not %d" % (len(data), self.trees_at + 2 * self.words))
        self.data = data

    def tree_words(self, index: int) -> int:
        """Halfwords of a tree, as the table says."""
        at = self.table_at + TREE_BYTES * index
        return self.data[at] | self.data[at + 1] << 8

    def tree_digest(self, index: int) -> bytes:
        """The first 8 bytes of the SHA-256 of a tree, as the table says."""
        at = self.table_at + TREE_BYTES * index + 2
        return bytes(self.data[at : at + DIGEST_BYTES])

    def tree_start(self, index: int) -> int:
        """Where a tree begins, in bytes."""
        return self.trees_at + 2 * sum(self.tree_words(i) for i in range(index))

    def check(self) -> None:
        """Reads every byte: CRC, leaf values, digest and nodes of each tree. Raises TableError.

        What passes cannot lead a walker out of its tree, past the features or past the leaf values.
        """
        view = memoryview(self.data)
        if crc32(view[HEADER_BYTES:], crc32(view[: HEADER_BYTES - 4])) != struct.unpack_from("<I", view, 12)[0]:
            raise TableError("CRC")
        self._check_values()
        at = self.trees_at
        for index in range(self.trees):
            end = at + 2 * self.tree_words(index)
            if end > len(view):
                raise TableError("tree %d ends behind the blob" % index)
            if sha256(view[at:end]).digest()[:DIGEST_BYTES] != self.tree_digest(index):
                raise TableError("tree %d: digest" % index)
            check_tree(view[at:end], self.n_features, self.values)
            at = end
        if at != len(view):
            raise TableError("%d bytes behind the trees" % (len(view) - at))

    def _check_values(self) -> None:
        highest = MAX_SUM // self.trees
        for index in range(self.values):
            value = struct.unpack_from("<d", self.data, FOREST_BYTES + 8 * index)[0]
            units = struct.unpack_from("<i", self.data, self.units_at + 4 * index)[0]
            if value - value != 0 or not -highest <= units <= highest:
                raise TableError("leaf value %d" % index)
        if not -MAX_SUM <= self.limit_units <= MAX_SUM:
            raise TableError("limit")


def _header(data: "Buffer", kind: int) -> int:
    if len(data) < HEADER_BYTES:
        raise TableError("%d bytes of header" % len(data))
    magic, found, zero, n_features, size, _ = struct.unpack_from(HEADER, data, 0)
    if magic != MAGIC or zero:
        raise TableError("magic")
    if found != kind:
        raise TableError("kind %d" % found)
    if not 1 <= n_features <= MAX_FEATURES:
        raise TableError("%d features" % n_features)
    if size != len(data):
        raise TableError("%d bytes, not %d" % (len(data), size))
    return n_features


def seal(data: bytearray) -> None:
    """Writes size and CRC of a complete blob into its header."""
    struct.pack_into("<I", data, 8, len(data))
    view = memoryview(data)
    struct.pack_into("<I", data, 12, crc32(view[HEADER_BYTES:], crc32(view[: HEADER_BYTES - 4])))


def check_tree(tree: "Buffer", n_features: int, values: int) -> None:
    """Raises TableError unless `tree` is one whole tree in preorder, with features below n_features, leaf values below
    `values` and cuts within +-MAX_CUT. Positions are in halfwords."""
    rights: "list[int]" = []
    end = len(tree) // 2
    at = 0
    while at < end:
        word = tree[2 * at] | tree[2 * at + 1] << 8
        if word & LEAF == LEAF:
            if word & 0x3FFF >= values:
                raise TableError("leaf value %d" % (word & 0x3FFF))
            at += 1
            if (rights.pop() if rights else end) != at:
                raise TableError("a right child is not where its parent says")
            continue
        feature, skip, at = _inner(tree, at, end, word)
        if feature >= n_features:
            raise TableError("feature %d" % feature)
        if skip < 1 or at + skip >= end or len(rights) == MAX_LEFTS:
            raise TableError("skip, or too often left")
        rights.append(at + skip)
    if rights or not end:
        raise TableError("a tree without an end")


def _inner(tree: "Buffer", at: int, end: int, word: int) -> "tuple[int, int, int]":
    """(feature, skip, position of the left child) of an inner node."""
    if not word & WIDE:
        return word >> 8 & 0x7F, word & 0xFF, at + 2
    skip = word >> 7 & 0x7F
    size = 3 if skip else 4
    if at + size > end:
        raise TableError("a node behind the tree")
    cut = struct.unpack_from("<i", tree, 2 * at + 2)[0]
    if not -MAX_CUT <= cut <= MAX_CUT:
        raise TableError("cut")
    if size == 4:
        skip = tree[2 * at + 6] | tree[2 * at + 7] << 8
    return word & 0x7F, skip, at + size

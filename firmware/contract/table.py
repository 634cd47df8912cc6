"""The table blob: a model as data, for any board, scored without a copy and without a C compiler.

Runs on MicroPython and CPython, touches no file. All integers are little-endian; n bytes at `offset`:

    0   magic "EWT1"
    4   u8   kind: 1 forest, 2 Gaussian (table_gaussian.py)
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
    24  f32  scale, from 2**-60 to below 2**30
    28  f32  threshold; the window is anomalous when the score is above
    32  f64  limit: ... which is when the sum of the leaf values is above this, summed in double, tree after tree
    40  i32  limit in units, rounded down
    44  u32  bytes of all trees together, with what ends them
    48  f64  of each leaf value: the value, 0 or of a magnitude from 2**-60 to below 2**30
    ..  i32  of each leaf value: the value in units, rounded to nearest; trees * |units| <= 2**30
    ..  i32  of each feature: its bias, within +-2**30
    ..  8 bytes per tree: the first of the SHA-256 of the tree's bytes
    ..  the trees, one after the other, and a u16 0 behind the last

A tree is a run of halfwords that holds no place outside itself: the same tree has the same bytes, and the same digest,
wherever it lies and in whichever blob, as long as biases and the indices of leaf values stay (model_export/table.py
keeps them from one version to the next). It begins with a u16, its own length in bytes, and goes on with its nodes in
preorder, the left child behind its parent. The first two bytes of a node say what it is:

    low, high of the first u16
    s       f + 1 >= 1   u16 c                                  inner node: feature f, skip s, bound c
    80h + f 0            u16 low, u16 high of c, u16 s          inner node with a bound of 32 bits, signed
    v < 7Fh 0                                                   leaf: index v of its value
    7Fh     0            u16 v                                  leaf with an index from 127 on

x[f] + bias[f] <= c goes left, which is on; else right, which is s halfwords further on. Features lie within
+-(2**30 - 1), so sums stay within 32 bits. No path goes left more than 64 times.

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
GAUSSIAN = 2
HEADER_BYTES = 16
FOREST_BYTES = 48
DIGEST_BYTES = 8
HEADER = "<4sBBHII"
LIMIT_AT = 32
FOREST_HEADER = "<HHBBHffdiI"  # at HEADER_BYTES

LINEAR = 0
EXP2 = 1

MAX_FEATURES = 128
MAX_TREES = 1024
MAX_VALUES = 16384
MAX_FRACTION = 20
MAX_LEFTS = 64
MAX_BIAS = 1 << 30
MAX_SUM = 1 << 30
LEAST_EXPONENT = 1023 - 60  # of a leaf value, as a double holds it
MOST_EXPONENT = 1023 + 29

FAR_LEAF = 0x7F  # first u16 of a leaf whose index follows
WIDE = 0x80  # ... of an inner node with a bound of 32 bits, its feature added


class TableError(Exception):
    """Bytes that are no table blob; the argument says which of its facts is wrong."""


class Forest:
    """The facts of a blob of kind FOREST, and where its parts begin, in bytes."""

    def __init__(self, data: "Buffer") -> None:
        """Reads the header and holds every length against the others; the trees go unread. Raises TableError."""
        self.n_features = read_header(data, FOREST)
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
            self.forest_bytes,
        ) = struct.unpack_from(FOREST_HEADER, data, HEADER_BYTES)
        if not 1 <= self.trees <= MAX_TREES:
            raise TableError("%d trees" % self.trees)
        if not 1 <= self.values <= MAX_VALUES:
            raise TableError("%d leaf values" % self.values)
        if self.shape > EXP2 or self.fraction > MAX_FRACTION or zero:
            raise TableError("shape or fraction")
        if not 2.0**-60 <= self.scale < 2.0**30:
            raise TableError("scale")
        for number in (self.threshold, self.limit):
            if number - number != 0:  # infinite or NaN
                raise TableError("a number of the header is not finite")
        self.units_at = FOREST_BYTES + 8 * self.values
        self.bias_at = self.units_at + 4 * self.values
        self.digests_at = self.bias_at + 4 * self.n_features
        self.trees_at = self.digests_at + DIGEST_BYTES * self.trees
        if self.trees_at + self.forest_bytes != len(data):
            raise TableError("%d bytes, not %d" % (len(data), self.trees_at + self.forest_bytes))
        self.data = data

    def tree_digest(self, index: int) -> bytes:
        """The first 8 bytes of the SHA-256 of a tree, as the blob says."""
        at = self.digests_at + DIGEST_BYTES * index
        return bytes(self.data[at : at + DIGEST_BYTES])

    def spans(self) -> "list[tuple[int, int]]":
        """(start, end) in bytes of each tree, by the lengths the trees begin with. Raises TableError for one that ends
        behind the blob, or a forest that does not end where it should."""
        found: "list[tuple[int, int]]" = []
        at = self.trees_at
        last = len(self.data) - 2
        for _ in range(self.trees):
            size = self.data[at] | self.data[at + 1] << 8
            if size < 4 or size & 1 or at + size > last:
                raise TableError("tree %d: %d bytes" % (len(found), size))
            found.append((at, at + size))
            at += size
        if at != last or self.data[at] or self.data[at + 1]:
            raise TableError("%d bytes behind the trees" % (last - at))
        return found

    def check(self) -> None:
        """Reads every byte: CRC, leaf values, digest and nodes of each tree. Raises TableError.

        What passes cannot lead a walker out of its tree, past the features or past the leaf values.
        """
        view = memoryview(self.data)
        if crc_of(view) != struct.unpack_from("<I", view, 12)[0]:
            raise TableError("CRC")
        self._check_numbers()
        for index, (start, end) in enumerate(self.spans()):
            if sha256(view[start:end]).digest()[:DIGEST_BYTES] != self.tree_digest(index):
                raise TableError("tree %d: digest" % index)
            check_tree(view[start:end], self.n_features, self.values)

    def _check_numbers(self) -> None:
        highest = MAX_SUM // self.trees
        for index in range(self.values):
            low, high = struct.unpack_from("<II", self.data, FOREST_BYTES + 8 * index)
            units = struct.unpack_from("<i", self.data, self.units_at + 4 * index)[0]
            known = LEAST_EXPONENT <= high >> 20 & 0x7FF <= MOST_EXPONENT or low | high << 1 == 0
            if not known or not -highest <= units <= highest:
                raise TableError("leaf value %d" % index)
        for index in range(self.n_features):
            bias = struct.unpack_from("<i", self.data, self.bias_at + 4 * index)[0]
            if not -MAX_BIAS <= bias <= MAX_BIAS:
                raise TableError("bias %d" % index)
        if not -MAX_SUM <= self.limit_units <= MAX_SUM:
            raise TableError("limit")


def kind_of(data: "Buffer") -> int:
    """Which kind of blob it says it is; 0 when it is too short to say. Its reader checks the rest."""
    return data[4] if len(data) > 4 else 0


def read_header(data: "Buffer", kind: int) -> int:
    """n_features of a blob of `kind`; raises TableError when the header is another's, or the size is not the blob's."""
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
    struct.pack_into("<I", data, 12, crc_of(data))


def crc_of(data: "Buffer") -> int:
    """The CRC-32 that belongs into the header of a blob."""
    view = memoryview(data)
    return crc32(view[HEADER_BYTES:], crc32(view[: HEADER_BYTES - 4]))


def check_tree(tree: "Buffer", n_features: int, values: int) -> None:
    """Raises TableError unless `tree`, of even length, is one whole tree in preorder, with features below n_features
    and leaf values below `values`. Positions are in halfwords."""
    rights: "list[int]" = []
    end = len(tree) // 2
    at = 1
    while at < end:
        low, high = tree[2 * at], tree[2 * at + 1]
        size = 2 if high or low == FAR_LEAF else 4 if low >= WIDE else 1
        if at + size > end:
            raise TableError("a node behind the tree")
        if not high and low <= FAR_LEAF:
            index = low if size == 1 else tree[2 * at + 2] | tree[2 * at + 3] << 8
            if index >= values:
                raise TableError("leaf value %d" % index)
            at += size
            if (rights.pop() if rights else end) != at:
                raise TableError("a right child is not where its parent says")
            continue
        feature = high - 1 if high else low - WIDE
        skip = low if high else tree[2 * at + 6] | tree[2 * at + 7] << 8
        at += size
        if feature >= n_features:
            raise TableError("feature %d" % feature)
        if skip < 1 or at + skip >= end or len(rights) == MAX_LEFTS:
            raise TableError("skip, or too often left")
        rights.append(at + skip)
    if rights or end < 2:
        raise TableError("a tree without an end")

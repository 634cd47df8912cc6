"""The table blob: a forest is read as its description says, and nothing else is read at all."""

import struct
from hashlib import sha256

from contract import table
from contract.table import TableError

# x[0] < 5 ? (x[1] < -70000 ? v0 : v1) : v2
_STUMP = struct.pack("<HhHiHHH", 0 << 8 | 5, 5, table.WIDE | 1 << 7 | 1, -70000, 0xC000, 0xC001, 0xC002)
_LEAF = struct.pack("<H", 0xC001)


def forest(trees=(_STUMP, _LEAF), values=(-1.5, 0.25, 2.0), **lies):
    words = sum(len(tree) for tree in trees) // 2
    header = struct.pack(
        table.FOREST_HEADER, len(trees), len(values), 0, lies.get("fraction", 2), 0, 0.5, 1.0, 2.0, 8, words
    )
    data = bytearray(struct.pack(table.HEADER, table.MAGIC, table.FOREST, 0, lies.get("n_features", 2), 0, 0) + header)
    for value in values:
        data += struct.pack("<d", value)
    for value in values:
        data += struct.pack("<i", lies["units"] if "units" in lies else int(value * 4))
    for tree in trees:
        data += struct.pack("<H", len(tree) // 2) + sha256(tree).digest()[:8]
    for tree in trees:
        data += tree
    table.seal(data)
    return data


def _lefts(times):
    inner = b"".join(struct.pack("<Hh", 3 * left + 1, 0) for left in reversed(range(times)))
    return inner + _LEAF * (times + 1)


def _refused(data, word):
    try:
        table.Forest(data).check()
    except TableError as error:
        assert word in str(error), "refused for %r, not for %r" % (str(error), word)
        return
    raise AssertionError("not refused: " + word)


def test_a_forest_says_what_it_is():
    read = table.Forest(forest())
    read.check()
    assert (read.n_features, read.trees, read.values, read.shape, read.fraction) == (2, 2, 3, table.LINEAR, 2)
    assert (read.scale, read.threshold, read.limit, read.limit_units) == (0.5, 1.0, 2.0, 8)
    assert [read.tree_words(i) for i in (0, 1)] == [8, 1]
    assert [read.tree_start(i) - read.trees_at for i in (0, 1)] == [0, 16]
    assert read.tree_digest(0) == sha256(_STUMP).digest()[:8]


def test_every_flipped_bit_is_refused():
    data = forest()
    for index in range(len(data)):
        for bit in range(8):
            data[index] ^= 1 << bit
            _refused(data, "")
            data[index] ^= 1 << bit
    table.Forest(data).check()


def test_every_truncation_and_every_appended_byte_is_refused():
    data = forest()
    for size in range(len(data)):
        _refused(data[:size], "")
    _refused(data + b"\0", "")


def test_a_length_that_lies_is_refused_though_the_crc_is_right():
    for at, form in ((4, "<B"), (6, "<H"), (8, "<I"), (16, "<H"), (18, "<H"), (44, "<I"), (84, "<H"), (94, "<H")):
        true = struct.unpack_from(form, forest(), at)[0]
        for lie in (0, 1, 2, 3, 4, 5, 9, 16, 127, 129, 255, 256, 1025, 16385, 65535, 0x7FFFFFFF, 0xFFFFFFFF):
            if lie == true or lie >= 1 << 8 * struct.calcsize(form) or (at == 6 and 2 <= lie <= 128):
                continue
            data = forest()
            table.seal(data)
            struct.pack_into(form, data, at, lie)
            if at != 8:
                size = struct.unpack_from("<I", data, 8)[0]
                table.seal(data)
                assert struct.unpack_from("<I", data, 8)[0] == size
            _refused(data, "")


def test_a_tree_that_is_no_tree_is_refused_though_its_digest_is_right():
    node = struct.pack("<Hh", 1, 0)
    for tree, word in (
        (b"", "without an end"),
        (node, "skip"),
        (node + _LEAF, "skip"),
        (node + _LEAF + _LEAF + _LEAF, "right child"),
        (_LEAF + _LEAF, "right child"),
        (struct.pack("<Hh", 0, 0) + _LEAF + _LEAF, "skip"),
        (struct.pack("<Hh", 2 << 8 | 1, 0) + _LEAF + _LEAF, "feature"),
        (struct.pack("<Hh", 2, 0) + _LEAF + _LEAF, "skip"),
        (struct.pack("<Hh", 2, 0) + _LEAF + _LEAF + _LEAF, "right child"),
        (struct.pack("<H", 0xC003), "leaf value 3"),
        (struct.pack("<Hi", 0x8080, (1 << 30) + 1) + _LEAF + _LEAF, "cut"),
        (struct.pack("<Hi", 0x8000, 0), "behind the tree"),
        (struct.pack("<HiH", 0x8000, 0, 0) + _LEAF + _LEAF, "skip"),
        (_lefts(65), "too often left"),
    ):
        _refused(forest((tree, _LEAF)), word)


def test_numbers_that_are_none_are_refused():
    for values, word in (((float("inf"), 1.0), "leaf value 0"), ((1.0, float("nan")), "leaf value 1")):
        _refused(forest((_LEAF,), values, units=1), word)
    _refused(forest((_LEAF, _LEAF), (1.0, 2.0), units=(1 << 29) + 1), "leaf value 0")
    _refused(forest(n_features=0), "0 features")
    _refused(forest(n_features=129), "129 features")
    _refused(forest(fraction=21), "shape or fraction")


def test_paths_may_be_long():
    table.Forest(forest((_lefts(64),))).check()
    rights = b"".join(struct.pack("<Hh", 1, 0) + _LEAF for _ in range(500)) + _LEAF
    table.Forest(forest((rights,))).check()

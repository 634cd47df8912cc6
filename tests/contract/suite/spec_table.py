"""The table blob: a forest is read as its description says, and nothing else is read at all."""

import struct
from hashlib import sha256

from contract import table
from contract.table import TableError


def _tree(nodes):
    return struct.pack("<H", len(nodes) + 2) + nodes


def _node(skip, feature=0, bound=0):
    return struct.pack("<BBH", skip, feature + 1, bound)


_ONE = struct.pack("<H", 1)
# x[0] <= 4 ? (x[1] <= -70000 ? v0 : v1) : v2
_STUMP = _tree(_node(6, 0, 4) + struct.pack("<BBiHHHH", table.WIDE | 1, 0, -70000, 1, 0, 1, 2))
_LEAF = _tree(_ONE)


def forest(trees=(_STUMP, _LEAF), values=(-1.5, 0.25, 2.0), **lies):
    size = sum(len(tree) for tree in trees) + 2
    header = struct.pack(
        table.FOREST_HEADER,
        len(trees),
        len(values),
        0,
        lies.get("fraction", 2),
        0,
        lies.get("scale", 0.5),
        1.0,
        2.0,
        8,
        size,
    )
    data = bytearray(struct.pack(table.HEADER, table.MAGIC, table.FOREST, 0, lies.get("n_features", 2), 0, 0) + header)
    for value in values:
        data += struct.pack("<d", value)
    for value in values:
        data += struct.pack("<i", lies["units"] if "units" in lies else int(value * 4))
    for _ in range(max(lies.get("n_features", 2), 0)):
        data += struct.pack("<i", lies.get("bias", 0))
    for tree in trees:
        data += sha256(tree).digest()[:8]
    for tree in trees:
        data += tree
    data += bytes(2)
    table.seal(data)
    return data


def _lefts(times):
    return _tree(b"".join(_node(3 * left + 1) for left in reversed(range(times))) + _ONE * (times + 1))


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
    assert [(start - read.trees_at, end - read.trees_at) for start, end in read.spans()] == [(0, 20), (20, 24)]
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
    data = forest()
    facts = table.Forest(data)
    lengths = ((4, "<B"), (6, "<H"), (8, "<I"), (16, "<H"), (18, "<H"), (44, "<I"))
    for at, form in lengths + ((facts.trees_at, "<H"), (facts.trees_at + 20, "<H"), (len(data) - 2, "<H")):
        true = struct.unpack_from(form, forest(), at)[0]
        for lie in (0, 1, 2, 3, 4, 5, 9, 16, 127, 129, 255, 256, 1025, 16385, 65535, 0x7FFFFFFF, 0xFFFFFFFF):
            if lie == true or lie >= 1 << 8 * struct.calcsize(form):
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
    for nodes, word in (
        (b"", "0: 2 bytes"),
        (_node(1), "skip"),
        (_node(1) + _ONE, "skip"),
        (_node(1) + _ONE + _ONE + _ONE, "right child"),
        (_ONE + _ONE, "right child"),
        (_node(0) + _ONE + _ONE, "skip"),
        (_node(1, 2) + _ONE + _ONE, "feature"),
        (_node(2) + _ONE + _ONE, "skip"),
        (_node(2) + _ONE + _ONE + _ONE, "right child"),
        (struct.pack("<H", 3), "leaf value 3"),
        (struct.pack("<HH", 0x7F, 3), "leaf value 3"),
        (struct.pack("<H", 0x7F), "behind the tree"),
        (b"\0\1", "behind the tree"),
        (struct.pack("<HiH", 0x80, 0, 1)[:6], "behind the tree"),
        (struct.pack("<HiH", 0x80, 0, 0) + _ONE + _ONE, "skip"),
        (struct.pack("<HiH", 0x82, 0, 1) + _ONE + _ONE, "feature"),
        (_lefts(65)[2:], "too often left"),
    ):
        tree = _tree(nodes)
        _refused(forest((tree, _LEAF)), word)


def test_numbers_that_are_none_are_refused():
    for values, word in (((float("inf"), 1.0), "leaf value 0"), ((1.0, float("nan")), "leaf value 1")):
        _refused(forest((_LEAF,), values, units=1), word)
    _refused(forest((_LEAF, _LEAF), (1.0, 2.0), units=(1 << 29) + 1), "leaf value 0")
    _refused(forest(n_features=0), "0 features")
    _refused(forest(n_features=129), "129 features")
    _refused(forest(fraction=21), "shape or fraction")
    _refused(forest(bias=(1 << 30) + 1), "bias 0")
    for scale in (0.0, -0.5, 2.0**-61, 2.0**30, float("inf"), float("nan")):
        _refused(forest(scale=scale), "scale")
    for scale in (2.0**-60, 2.0**29):
        table.Forest(forest(scale=scale)).check()


def test_paths_may_be_long():
    table.Forest(forest((_lefts(64),))).check()
    table.Forest(forest((_tree((_node(1) + _ONE) * 500 + _ONE),))).check()

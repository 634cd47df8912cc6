"""Scores a table blob in plain bytecode, for ports that run no machine code, and near the limit on all."""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator


def scorer(
    data: "bytearray | memoryview",
    plan: "array",
    scale: float,
    power: "Callable[[int], float] | None",
    in_doubt: "Callable[[array], float]",
) -> "Callable[[array], float]":
    """See table_viper.scorer."""
    trees_at, units_at, bias_at, least, count = plan[3:8]

    def score(features: "array") -> float:
        units = 0
        for leaf in leaves(data, trees_at, bias_at, features):
            units += struct.unpack_from("<i", data, units_at + 4 * leaf)[0]
        if 0 <= units - least < count:
            return in_doubt(features)
        return power(units) if power else units * scale

    return score


def leaves(data: "bytearray | memoryview", tree: int, bias_at: int, features: "array") -> "Iterator[int]":
    """The leaf that `features` ends in, of each tree from the one at `tree` on."""
    shifted = [0]
    for i in range(len(features)):
        shifted.append(features[i] + struct.unpack_from("<i", data, bias_at + 4 * i)[0])
    size = data[tree] | data[tree + 1] << 8
    while size:
        yield _leaf(data, tree + 2, shifted)
        tree += size
        size = data[tree] | data[tree + 1] << 8


def _leaf(data: "bytearray | memoryview", node: int, shifted: "list[int]") -> int:
    while True:
        high = data[node + 1]
        while high:
            if shifted[high] > data[node + 2] | data[node + 3] << 8:
                node += data[node] << 1
            node += 4
            high = data[node + 1]
        low = data[node]
        if low < 0x7F:
            return low
        if low == 0x7F:
            return data[node + 2] | data[node + 3] << 8
        bound, skip = struct.unpack_from("<iH", data, node + 2)
        if shifted[low - 0x7F] > bound:
            node += 2 * skip
        node += 8

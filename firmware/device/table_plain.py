"""Walks the trees of a table blob in plain bytecode, for ports that run no machine code: what table_viper.py does."""

import struct


def walk(
    data: "bytearray | memoryview",
    v: int,
    shifted: "object",
    features: "object",
    values_at: int,
    tree: int,
    bias_at: int,
    wide: int,  # noqa: ARG001
) -> int:
    """See table_viper.walk; v and wide are of no use here."""
    for v in range(len(features)):
        shifted[v + 1] = features[v] + struct.unpack_from("<i", data, bias_at + 4 * v)[0]
    total = 0
    size = data[tree] | data[tree + 1] << 8
    while size:
        v = _leaf(data, tree + 2, shifted)
        if values_at == 0:
            return v
        total += struct.unpack_from("<i", data, values_at + 4 * v)[0]
        tree += size
        size = data[tree] | data[tree + 1] << 8
    return total


def _leaf(data: "bytearray | memoryview", node: int, shifted: "object") -> int:
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

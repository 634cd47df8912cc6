"""Walks the trees of a table blob in machine code that mpy-cross makes, no C compiler needed.

Written for what the viper emitter makes of each line; instructions counted on rv32imc (`make bench ARGS=inference`).
Only the first two locals live in registers there, so the arguments that come first are the ones that each node needs.
A viper integer is a machine word, and loads of ptr32 are not extended: where words have 64 bits, `wide` does that.
"""

# ruff: noqa: F821 - the pointer types of viper are no names of Python

import micropython


@micropython.viper
def walk(
    node: ptr8, v: int, shifted: ptr32, features: ptr32, values_at: int, tree: int, bias_at: int, wide: int
) -> int:
    """The sum of the units of the leaves that `features` ends in; with values_at 0 the leaf of the first tree.

    node: the blob, checked and at a multiple of 4; v: 0; shifted: room for n_features + 1 int32; values_at, tree,
    bias_at: where units, trees (or one tree) and biases begin in the blob; wide: 32 where a word has 64 bits, else 0.
    """
    values = ptr32(int(node) + values_at)
    bias = ptr32(int(node) + bias_at)
    tree += int(node)
    n_features = node[6]
    while v < n_features:
        # Never below 0: bounds of 16 bits are not, and 0 decides as less would.
        if (features[v] + bias[v]) << wide < 0:
            shifted[v + 1] = 0
        else:
            shifted[v + 1] = features[v] + bias[v]
        v += 1
    total = 0
    while ptr16(tree)[0]:
        node = ptr8(tree + 2)
        while True:
            while node[1]:
                v = shifted[node[1]]
                if ptr16(node)[1] < v:
                    node = ptr8((node[0] << 1) + int(node))
                node = ptr8(int(node) + 4)
            v = node[0]
            if v < 0x7F:
                break
            if v == 0x7F:
                v = ptr16(node)[1]
                break
            v -= 0x80
            if (ptr16(node)[1] | ptr16(node)[2] << 16) << wide < (features[v] + bias[v]) << wide:
                node = ptr8((ptr16(node)[3] << 1) + int(node))
            node = ptr8(int(node) + 8)
        if values_at == 0:
            return v
        total += values[v]
        tree += ptr16(tree)[0]
    return total << wide >> wide

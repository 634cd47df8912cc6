"""Scores a table blob in machine code that mpy-cross makes, no C compiler needed.

Written for what the viper emitter makes of each line; instructions counted on rv32imc (`make bench ARGS=inference`).
Only the first two locals live in registers there, so the arguments that come first are the ones that each node needs.
An argument that is a buffer costs 80 instructions, a step of bytecode 20, a closure of more than four variables 500.
A viper integer is a machine word, and loads of ptr32 are not extended: where words have 64 bits, `wide` does that.
"""

# ruff: noqa: F821 - the pointer types of viper are no names of Python

import micropython
from micropython import const

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

_IN_DOUBT = const(0x3FFFFFFF)  # a sum that is just this is decided the long way too


def scorer(
    data: "bytearray | memoryview",  # noqa: ARG001 - the plan says where it lies, and in_doubt keeps it there
    plan: "array",
    scale: float,
    power: "Callable[[int], float] | None",
    in_doubt: "Callable[[array], float]",
) -> "Callable[[array], float]":
    """A function of `features`, array('i'): scale times the sum of units, or power of it, or what in_doubt(features) is
    where the sum does not decide. data: the blob, checked and at a multiple of 4; plan: see table.py."""
    walk = _walk

    @micropython.viper
    def linear(features):  # noqa: ANN001, ANN202 - types mean machine types here
        units = walk(plan, features)
        if int(units) == _IN_DOUBT:
            return in_doubt(features)
        return units * scale

    def raised(features: "array") -> float:  # the power alone costs more than bytecode
        units = walk(plan, features)
        return in_doubt(features) if units == _IN_DOUBT else power(units)

    return raised if power else linear


@micropython.viper
def _walk(node: ptr8, shifted: ptr32) -> int:
    """The sum of the units of the leaves that features end in, or _IN_DOUBT. node: the plan; shifted: the features."""
    plan = ptr32(node)
    features = shifted
    wide = plan[0]
    node = ptr8(plan[1] | plan[2] << wide)
    tree = int(node) + plan[3]
    values = ptr32(int(node) + plan[4])
    bias = ptr32(int(node) + plan[5])
    shifted = ptr32(int(plan) + 32)
    total = 0
    v = int(node[6])
    while v:
        v -= 1
        total = features[v] + bias[v]
        if wide and total << wide < 0:  # bounds of 16 bits are not below 0, and 0 decides as less would
            total = 0
        shifted[v] = total
    shifted = ptr32(int(plan) + 28)
    total = 0
    while ptr16(tree)[0]:
        node = ptr8(tree + 2)
        while True:
            while node[1]:
                if ptr16(node)[1] < shifted[node[1]]:
                    node = ptr8((node[0] << 1) + int(node))
                node = ptr8(int(node) + 4)
            v = int(node[0])
            if v < 0x7F:
                break
            if v == 0x7F:
                v = ptr16(node)[1]
                break
            v -= 0x80
            if (ptr16(node)[1] | ptr16(node)[2] << 16) << wide < (features[v] + bias[v]) << wide:
                node = ptr8((ptr16(node)[3] << 1) + int(node))
            node = ptr8(int(node) + 8)
        total = values[v] + total
        tree = ptr16(tree)[0] + tree
    total = total << wide >> wide
    v = total - (plan[6] << wide >> wide)
    if v >= 0 and v < plan[7]:
        return _IN_DOUBT
    return total

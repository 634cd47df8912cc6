"""What the suite needs on both runtimes; there is no pytest on MicroPython."""

import json

from contract.wire import BAD_NAMES, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HERE = __file__.rsplit("/", 1)[0]


def refused(code, function, *arguments):
    """Fails unless the call raises WireError with this code."""
    try:
        result = function(*arguments)
    except WireError as error:
        assert error.code == code, "refused as %r (%s), not as %r" % (str(error), error.detail, BAD_NAMES[code])
        return
    raise AssertionError("not refused: %r" % (result,))


def vectors(name: str) -> "Any":
    """The golden vectors of tests/vectors/<name>.json."""
    with open(_HERE + "/../../vectors/" + name + ".json") as file:
        return json.load(file)


def unhex(text):
    """Bytes of a hex string, which may have spaces."""
    return bytes.fromhex(text.replace(" ", ""))


class Random:
    """The same numbers on both runtimes and on every machine: a linear congruential generator of 31 bits."""

    def __init__(self, seed):
        self._state = seed & 0x7FFFFFFF

    def below(self, bound):
        """An integer of 0 to bound - 1; bound is at most 65536."""
        self._state = (self._state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self._state >> 8) % bound

    def bits(self):
        """23 bits at once: an integer of 0 to 2**23 - 1."""
        self._state = (self._state * 1103515245 + 12345) & 0x7FFFFFFF
        return self._state >> 8

    def pick(self, items: "Any") -> "Any":
        """One of the items."""
        return items[self.below(len(items))]

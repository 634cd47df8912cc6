"""Commands of the cloud (DO), each done at most once.

The number of the last one is on flash before it is done: a command that comes again, after a power loss too, is passed
over, and one that a cut kept from being done is lost, as a command that nobody hears is. Numbers rise.
"""

import struct

from contract import policy
from contract.wire import BAD_CODE, BAD_RANGE, VERB_RAW_WINDOW, WireError
from device.files import Files
from device.records import Record


def obey(parts: object, number: int, verb: str, args: list) -> None:
    """Do one command. Raises WireError for one this firmware does not know or whose arguments are out of bounds.

    raw-window [n]: record the next n windows, 1 to policy.MAX_RAW_WINDOWS, by default 1, sample by sample. It takes
    nothing from an earlier one, or from an event, that has more windows left.
    """
    record = Record(Files, parts.board.root + "/command")
    last = record.load()
    if last is not None and number <= struct.unpack("<I", last)[0]:
        return
    record.store(struct.pack("<I", number))
    if verb != VERB_RAW_WINDOW:
        raise WireError(BAD_CODE, verb)
    windows = args[0] if args else 1
    if not isinstance(windows, int) or not 1 <= windows <= policy.MAX_RAW_WINDOWS:
        raise WireError(BAD_RANGE, "raw-window %r" % (windows,))
    parts.state.raw_windows = max(windows, parts.state.raw_windows)

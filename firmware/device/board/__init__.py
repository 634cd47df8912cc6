"""What differs between the boards the firmware runs on. Every board module has ROOT, CHIP and a class Board with the
same methods; main.py picks one. The contract of each method is in firmware/DESIGN.md "Board".
"""

import os
import sys

# now_ms() of a board whose power has just come. Not 0, so that a clock that is set back leaves every moment remembered
# in RTC memory positive, whatever the jump: 69 years.
CLOCK_START_MS = 1 << 41

_MPY = getattr(sys.implementation, "_mpy", 0)
_ARCHS = (
    "",
    "x86",
    "x64",
    "armv6",
    "armv6m",
    "armv7m",
    "armv7em",
    "armv7emsp",
    "armv7emdp",
    "xtensa",
    "xtensawin",
    "rv32imc",
    "rv64imc",
)

ARCH = _ARCHS[_MPY >> 10 & 0x3F] if len(_ARCHS) > _MPY >> 10 & 0x3F else ""  # "": loads no native module
ABI = (_MPY & 0xFF) * 256 + (_MPY >> 8 & 3)  # .mpy version and native sub-version, 6.3 is 1539


def free_flash(root: str) -> int:
    """Bytes free on the file system that holds `root`."""
    stat = os.statvfs(root or "/")
    return stat[1] * stat[3]

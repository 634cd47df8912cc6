"""The chip's `esp32` module: wake sources and the ULP's loader, with the refusals of MicroPython's ESP32 port.

`armed` is what would end a sleep. Touch and ULP exclude EXT0, as in ports/esp32/modesp32.c.
"""

import struct

from machine import mem32

WAKEUP_ALL_LOW = False
WAKEUP_ANY_HIGH = True
_MEMORY = 0x50000000

armed = {}
ulp = {"periods": {}, "running": None}


def wake_on_ext1(pins, level):
    armed["ext1"] = ([pin.number for pin in pins], level)


def wake_on_touch(on):
    armed["touch"] = on


def wake_on_ulp(on):
    armed["ulp"] = on


def add_wake_on_gpio():
    """MicroPython 1.27 and later on a C3 or C6."""

    def wake_on_gpio(pins, level):
        armed["gpio"] = ([pin.number for pin in pins], level)

    globals()["wake_on_gpio"] = wake_on_gpio


class ULP:
    RESERVE_MEM = 2040

    def set_wakeup_period(self, index, period_us):
        if not 0 <= index < 5:
            raise OSError(258)  # ESP_ERR_INVALID_ARG
        ulp["periods"][index] = period_us

    def load_binary(self, address, binary):
        magic, text_at, text, data, bss = struct.unpack_from("<4sHHHH", binary, 0)
        if magic != b"ulp\0" or text_at + text + data != len(binary) or text + data + bss > self.RESERVE_MEM:
            raise OSError(260)  # ESP_ERR_INVALID_SIZE
        for at in range(0, text + data, 4):
            mem32[_MEMORY + 4 * address + at] = struct.unpack_from("<I", binary, text_at + at)[0]
        for at in range(text + data, text + data + bss, 4):
            mem32[_MEMORY + 4 * address + at] = 0

    def run(self, entry):
        ulp["running"] = entry

"""What device/board/esp32.py and the drivers use of the chip's `machine`, kept as a chip keeps it.

RTC memory survives deep sleep, and so does RTC slow memory (mem32 from 0x50000000). `chip` is the world: `i2c` has the
chips on the bus by address (chips.py), `volts` what is at a pin in uV, `levels` the level of a pin. Time is real, plus
what pass_ms() lets go by.
"""

import time

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = range(1, 6)
EXT0_WAKE, EXT1_WAKE, TIMER_WAKE, TOUCHPAD_WAKE, ULP_WAKE = range(2, 7)
_ENODEV = 19

chip = {
    "reset": PWRON_RESET,
    "wake": 0,
    "memory": b"",
    "volts": {35: 1_950_000},
    "levels": {},
    "i2c": {},
    "onewire": None,
    "touch": {},
    "fed": 0,
    "asked_ms": None,
    "passed_ms": 0,
}


def pass_ms(ms):
    """Let time go by for everything on the board, as in deep sleep."""
    chip["passed_ms"] += ms


def now_ms():
    return time.ticks_ms() + chip["passed_ms"]


class Asleep(BaseException):
    """Deep sleep: the program ends here."""


def reset_cause():
    return chip["reset"]


def wake_reason():
    return chip["wake"]


def deepsleep(sleep_ms):
    chip["asked_ms"] = sleep_ms
    raise Asleep


class _Words:
    """Registers and RTC slow memory, 32 bits each, 0 until written."""

    def __init__(self):
        self.words = {}

    def __getitem__(self, address):
        if address % 4:
            raise ValueError("address is not aligned")
        return self.words.get(address, 0)

    def __setitem__(self, address, value):
        if address % 4:
            raise ValueError("address is not aligned")
        self.words[address] = value & 0xFFFFFFFF


mem32 = _Words()


class RTC:
    def datetime(self, fields):
        """(year, month, day, weekday, hour, minute, second, microsecond), as ports/esp32/machine_rtc.c takes them."""
        chip["datetime"] = fields

    def memory(self, data=None):
        if data is None:
            return chip["memory"]
        if len(data) > 2048:
            raise ValueError("buffer too long")
        chip["memory"] = bytes(data)
        return None


class WDT:
    def __init__(self, timeout):
        chip["watchdog_ms"] = timeout

    def feed(self):
        chip["fed"] += 1


class Pin:
    IN = 1

    def __init__(self, number, mode=None):
        self.number = number

    def value(self):
        return chip["levels"].get(self.number, 0)


class ADC:
    ATTN_11DB = 3

    def __init__(self, pin, atten):
        self._pin = pin.number
        if atten != self.ATTN_11DB:
            raise ValueError("1.95 V is out of range")

    def read_uv(self):
        return chip["volts"][self._pin]


class TouchPad:
    def __init__(self, pin):
        self._pin = pin.number

    def config(self, threshold):
        chip["touch"][self._pin] = threshold


class I2C:
    """Masters one bus; a chip that is not there, or not ready, does not acknowledge."""

    def __init__(self, number, scl, sda, freq):
        if freq > 400000:
            raise ValueError("the sensors here know the fast mode at most")

    def _device(self, address):
        device = chip["i2c"].get(address)
        if device is None:
            raise OSError(_ENODEV)
        return device

    def readfrom_mem_into(self, address, register, buf):
        device = self._device(address)
        for at in range(len(buf)):
            buf[at] = device.read(register, at)

    def writeto_mem(self, address, register, buf):
        device = self._device(address)
        for at, value in enumerate(buf):
            device.write(register + at, value)

    def writeto(self, address, buf):
        self._device(address).command(bytes(buf))

    def readfrom_into(self, address, buf):
        answer = self._device(address).answer()
        if answer is None:
            raise OSError(_ENODEV)
        buf[:] = answer[: len(buf)]

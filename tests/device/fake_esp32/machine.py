"""What device/board/esp32.py uses of the chip's `machine`, kept as a chip keeps it: RTC memory survives deep sleep."""

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = range(1, 6)
EXT0_WAKE, EXT1_WAKE, TIMER_WAKE, TOUCHPAD_WAKE, ULP_WAKE = range(2, 7)

chip = {"reset": PWRON_RESET, "wake": 0, "memory": b"", "volts": {35: 1_950_000}, "fed": 0, "asked_ms": None}


class Asleep(BaseException):
    """Deep sleep: the program ends here."""


def reset_cause():
    return chip["reset"]


def wake_reason():
    return chip["wake"]


def deepsleep(sleep_ms):
    chip["asked_ms"] = sleep_ms
    raise Asleep


class RTC:
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
    def __init__(self, number):
        self.number = number


class ADC:
    ATTN_11DB = 3

    def __init__(self, pin, atten):
        self._pin = pin.number
        if atten != self.ATTN_11DB:
            raise ValueError("1.95 V is out of range")

    def read_uv(self):
        return chip["volts"][self._pin]

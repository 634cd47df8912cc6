"""The board as processes and files: one process per wake, started again by tools/simulate.py (or by hand).

All state is in the directory named by EDGEWISE_BOARD_DIR:
    flash/     the board's flash, ROOT
    rtc.bin    RTC memory; without it the board starts cold
    wake.json  written by deep_sleep: {"n": sleeps so far, "clock_ms": RTC clock, "sleep_ms": asked for, "armed": how
               the wake line was armed}. Whoever starts the next wake may add "cause" (a WAKE_* code) and "slept_ms"
               when it was not the timer, all of it
    sim.json   what the world is like, every key optional: {"battery_mv", "rssi", "radio": bool, "outages":
               [[from_ms, to_ms]..] since power-on, "dns": [ip, port], "seed": int, "line": bool, the wake line is
               active}. As on a chip, a line that is armed for the level it has ends the sleep at once.

The clock is virtual: it runs in real time while the board is awake, and deep sleep adds what was slept, however soon
the supervisor starts the next process. Times on the wire are therefore the same at any speed and under any load.
"""

import json
import os
import random
import sys
import time

from micropython import const

from contract.wire import FAULT_RADIO, WAKE_COLD, WAKE_PIN, WAKE_TIMER
from device.board import ABI, ARCH, CLOCK_START_MS, free_flash
from device.errors import LinkError
from device.wakes import ARM_ACTIVE, ARM_NONE

_DIR = os.getenv("EDGEWISE_BOARD_DIR")
if not _DIR:
    raise SystemExit("EDGEWISE_BOARD_DIR is not set: name the directory of a board made by `tools/provision.py`")
ROOT = _DIR + "/flash"
CHIP = "host"
_RADIO_FAIL_MS = const(3000)  # what an association that fails takes on an ESP32


class Board:
    """See firmware/DESIGN.md "Board"."""

    root = ROOT
    arch = ARCH
    abi = ABI

    def __init__(self, _wifi: "dict | None", _pins: "dict | None" = None, _wake: "dict | None" = None) -> None:
        self._sim = _read_json("/sim.json")
        self._rtc_mode = "wb"
        wake = _read_json("/wake.json")
        self._sleeps = wake.get("n", 0)
        self._armed = ARM_NONE
        self._cause = wake.get("cause", WAKE_TIMER) if wake else WAKE_COLD
        self.woke_ms = wake.get("clock_ms", CLOCK_START_MS) + wake.get("slept_ms", wake.get("sleep_ms", 0))
        self._start_ticks = time.ticks_ms()
        random.seed(self._sim.get("seed", 0) * 1000003 + self._sleeps)

    def wake_cause(self) -> int:
        return self._cause

    def rtc_read_into(self, buf: bytearray) -> int:
        try:
            with open(_DIR + "/rtc.bin", "rb") as file:
                # Write over what is there: a chip does not empty its memory first, and a kill would come between.
                self._rtc_mode = "r+b"
                return file.readinto(buf)
        except OSError:
            return 0

    def rtc_write(self, buf: bytes) -> None:
        with open(_DIR + "/rtc.bin", self._rtc_mode) as file:
            file.write(buf)
        self._rtc_mode = "r+b"

    def now_ms(self) -> int:
        return self.woke_ms + time.ticks_diff(time.ticks_ms(), self._start_ticks)

    def deep_sleep(self, sleep_ms: int) -> None:
        wake = {"n": self._sleeps + 1, "clock_ms": self.now_ms(), "sleep_ms": sleep_ms, "armed": self._armed}
        if self._armed and (self._armed == ARM_ACTIVE) == self.line_active():
            wake["cause"] = WAKE_PIN
            wake["sleep_ms"] = wake["slept_ms"] = 0
        with open(_DIR + "/wake.new", "w") as file:
            json.dump(wake, file)
        os.rename(_DIR + "/wake.new", _DIR + "/wake.json")
        sys.exit(0)

    def linger(self, _error: Exception) -> None:
        """Nothing to do: its log is a file."""

    def line_active(self) -> bool:
        return self._sim.get("line", False)

    def arm_line(self, how: int) -> None:
        self._armed = how

    def battery_mv(self) -> int:
        return self._sim.get("battery_mv", 4000)

    def radio_up(self, until: int, cache: bytes) -> bytes:
        now_ms = self.now_ms() - CLOCK_START_MS
        out = any(begin <= now_ms < end for begin, end in self._sim.get("outages", ()))
        if out or not self._sim.get("radio", True):
            self.woke_ms += _RADIO_FAIL_MS
            raise LinkError(FAULT_RADIO, "no access point")
        return cache

    def radio_down(self) -> None:
        pass

    def set_date(self, _date: tuple) -> None:
        """Nothing to do: this machine knows the time."""

    def rssi(self) -> int:
        return self._sim.get("rssi", -60)

    def dns_server(self) -> tuple:
        if "dns" in self._sim:
            return tuple(self._sim["dns"])
        with open("/etc/resolv.conf") as file:
            for line in file:
                if line.startswith("nameserver "):
                    return line.split()[1], 53
        raise LinkError(FAULT_RADIO, "no name server")

    def free_flash(self) -> int:
        return free_flash(ROOT)

    def random16(self) -> int:
        """Repeatable: the same world and the same wake draw the same numbers."""
        return random.getrandbits(16)

    def watchdog_feed(self) -> None:
        """Nothing to do: the supervisor kills a wake that takes too long, and starts it with WAKE_WATCHDOG."""


def _read_json(name: str) -> dict:
    try:
        with open(_DIR + name) as file:
            return json.loads(file.read())
    except OSError:
        return {}

"""The board as it is on a desk: an ESP32, S2, S3, C3 or C6 under stock MicroPython. Pins come from main.py."""

import os
import struct
import sys
import time

import esp32
import machine
import network
from micropython import const

from contract.wire import (
    FAULT_RADIO,
    WAKE_BROWNOUT,
    WAKE_COLD,
    WAKE_PIN,
    WAKE_SOFT,
    WAKE_TIMER,
    WAKE_TOUCH,
    WAKE_ULP,
    WAKE_WATCHDOG,
)
from device.board import ABI, ARCH, CLOCK_START_MS, free_flash
from device.errors import ConfigError, LinkError
from device.wakes import ARM_NONE, ARM_RELEASE

ROOT = ""
_LINGER_S = const(10)  # a chip's own USB port takes a second to come up
_DESK_MS = const(3000)
_WATCHDOG_MS = const(60000)  # over the longest time between two feeds, a session's one silent wait
_DNS_PORT = const(53)
_CACHE = (
    "<B6s4sB4s4sI"  # rtc_layout's radio_cache: channel, BSSID, address, prefix, gateway, name server, lease end in s
)
_LEASE_S = const(12 * 3600)  # then DHCP is asked again, so that a router may count on its leases


def chip_of(machine: str) -> str:
    """The chip in a `sys.implementation._machine`, whose last word names the module: ESP32-C3FH4, ESP32-PICO-D4, ..."""
    name = machine.split()[-1].replace("-", "")
    return name[:7] if name[5:6] in "CHPS" and name[6:7].isdigit() else "ESP32"


CHIP = chip_of(sys.implementation._machine)  # "ESP32", "ESP32S2", "ESP32S3", "ESP32C3" or "ESP32C6"

# MicroPython reports a brown-out as a cold start (1.23 and later) or a watchdog (earlier). The chip's register tells:
# where it is, and which bits (ESP-IDF's rtc_cntl_reg.h and lp_clkrst_reg.h); the codes are the same on each (TRM,
# "Reset"). The detector resets the chip, or has ESP-IDF restart it by software (esp_system/port/brownout.c).
_RESET_STATE = {
    "ESP32": (0x3FF48034, 0x3F),
    "ESP32S2": (0x3F408038, 0x3F),
    "ESP32S3": (0x60008038, 0x3F),
    "ESP32C3": (0x60008038, 0x3F),
    "ESP32C6": (0x600B0410, 0x1F),
}
_BROWN_OUT = const(15)
_RESTARTED = (3, 12)  # of the core, of its CPU: no cold start, so what MicroPython calls one was a brown-out

_RESETS = {
    machine.WDT_RESET: WAKE_WATCHDOG,
    machine.HARD_RESET: WAKE_SOFT,  # machine.reset() and a panic of native code alike
    machine.SOFT_RESET: WAKE_SOFT,
}
_WAKES = {  # by esp_sleep_source_t; which of them have a name in `machine` depends on the chip
    2: WAKE_PIN,  # EXT0
    3: WAKE_PIN,  # EXT1
    4: WAKE_TIMER,
    5: WAKE_TOUCH,
    6: WAKE_ULP,
    7: WAKE_PIN,  # GPIO: a C3 or C6 by esp32.wake_on_gpio
}
_ADC1_CHANNELS = {36: 0, 37: 1, 38: 2, 39: 3, 32: 4, 33: 5, 34: 6, 35: 7}  # of an ESP32 (datasheet, "Pin Overview")


class Board:
    """See firmware/DESIGN.md "Board".

    pins: by role, see main.py; None or left out: the board has no such thing. wake: what may end a sleep besides the
    timer: {"line": "high" or "low", its active level; "touch": threshold; "ulp": True}, each may be left out.
    """

    root = ROOT
    arch = ARCH
    abi = ABI

    def __init__(self, wifi: "dict | None", pins: "dict | None" = None, wake: "dict | None" = None) -> None:
        self._wifi = wifi
        self._pins = pins or {}
        self._wake = wake or {}
        self._wlan = None
        self._dated = False  # the RTC has a date that TLS needs
        # The RTC timer goes on through deep sleep and starts at 0 with the power; ticks_ms starts at 0 with every wake.
        # Read once: whatever happens to the RTC during a wake does not make its records jump.
        self.woke_ms = CLOCK_START_MS + time.time_ns() // 1000000
        self._start_ticks = time.ticks_ms()
        self._watchdog = machine.WDT(timeout=_WATCHDOG_MS)
        battery = self._pins.get("battery")
        # 11 dB attenuation: 2.45 V full scale, enough for half of a lithium cell's 4.2 V
        self._battery = None if battery is None else machine.ADC(machine.Pin(battery), atten=machine.ADC.ATTN_11DB)
        line = self._wake.get("line")
        self._line = machine.Pin(self._pin("wake"), machine.Pin.IN) if line else None
        self._high = line == "high"
        if line and CHIP == "ESP32C3" and not hasattr(esp32, "wake_on_gpio"):
            raise ConfigError("wake_line needs a MicroPython with esp32.wake_on_gpio on a C3: 1.27 or later")
        if self._wake.get("touch") and self._pin("touch") and CHIP != "ESP32":
            raise ConfigError("MicroPython sets no threshold for touch on " + CHIP)

    def wake_cause(self) -> int:
        cause = machine.reset_cause()
        if CHIP in _RESET_STATE:
            place, mask = _RESET_STATE[CHIP]
            state = machine.mem32[place] & mask
            if state == _BROWN_OUT or (cause == machine.PWRON_RESET and state in _RESTARTED):
                return WAKE_BROWNOUT
        if cause == machine.DEEPSLEEP_RESET:
            return _WAKES.get(machine.wake_reason(), WAKE_TIMER)
        return _RESETS.get(cause, WAKE_COLD)

    def rtc_read_into(self, buf: bytearray) -> int:
        data = machine.RTC().memory()
        size = min(len(data), len(buf))
        buf[:size] = data[:size]
        return size

    def rtc_write(self, buf: bytes) -> None:
        machine.RTC().memory(buf)

    def now_ms(self) -> int:
        return self.woke_ms + time.ticks_diff(time.ticks_ms(), self._start_ticks)

    def deep_sleep(self, sleep_ms: int) -> None:
        if self.wake_cause() == WAKE_COLD:
            # Asleep it has no serial line, and a wake may be short: now whoever has just pressed reset gets hold of it.
            time.sleep_ms(_DESK_MS)
            sleep_ms = max(1, sleep_ms - _DESK_MS)
        try:
            self._arm()
        except Exception as error:  # noqa: BLE001 - whatever became of that: by the timer it wakes
            sys.print_exception(error)
        machine.deepsleep(sleep_ms)

    def linger(self, error: Exception) -> None:
        """After a reset somebody may be at the board: stay awake, for the serial line to be read and interrupted."""
        if machine.reset_cause() != machine.DEEPSLEEP_RESET:
            for _ in range(_LINGER_S):
                time.sleep(1)
                sys.print_exception(error)

    def _arm(self) -> None:
        if self._wake.get("ulp"):
            from device.board.ulp_watch import hand_over_adc

            hand_over_adc()
            esp32.wake_on_ulp(True)
        if self._wake.get("touch"):
            machine.TouchPad(machine.Pin(self._pin("touch"))).config(self._wake["touch"])
            esp32.wake_on_touch(True)

    def line_active(self) -> "bool | None":
        return None if self._line is None else bool(self._line.value()) == self._high

    def arm_line(self, how: int) -> None:
        """Level-triggered, by EXT1; a C3 has GPIO wake-up alone. EXT0 would keep touch and ULP from waking."""
        if how == ARM_NONE or self._line is None:
            return
        level = esp32.WAKEUP_ANY_HIGH if self._high != (how == ARM_RELEASE) else esp32.WAKEUP_ALL_LOW
        if CHIP != "ESP32C3":
            esp32.wake_on_ext1((self._line,), level)
        else:
            esp32.wake_on_gpio((self._line,), level)

    def i2c(self) -> object:
        """The bus of the sensors, fast mode."""
        return machine.I2C(0, scl=machine.Pin(self._pin("scl")), sda=machine.Pin(self._pin("sda")), freq=400000)

    def adc(self) -> object:
        return machine.ADC(machine.Pin(self._pin("adc")), atten=machine.ADC.ATTN_11DB)

    def onewire(self) -> object:
        from onewire import OneWire  # frozen into every ESP32 image

        return OneWire(machine.Pin(self._pin("onewire")))

    def ulp(self) -> object:
        """The coprocessor on the channel of the pin `adc`."""
        pin = self._pin("adc")
        if CHIP != "ESP32" or pin not in _ADC1_CHANNELS:
            raise ConfigError("sensor.driver ulp needs an ESP32 and a pin of its ADC1, not pin %d of %s" % (pin, CHIP))
        from device.board.ulp_watch import Ulp

        self.adc()  # sets up pad and attenuation
        return Ulp(_ADC1_CHANNELS[pin], machine.reset_cause() == machine.DEEPSLEEP_RESET)

    def _pin(self, role: str) -> int:
        number = self._pins.get(role)
        if number is None:
            raise ConfigError("main.py names no pin for %s on %s" % (role, CHIP))
        return number

    def battery_mv(self) -> int:
        if self._battery is None:
            return 0
        return self._battery.read_uv() * self._pins.get("battery_divider", 2) // 1000

    def radio_up(self, until: int, cache: bytes) -> bytes:
        try:
            return self._associate(until, cache)
        except (OSError, RuntimeError) as error:  # how the port says what ESP-IDF answers (network_common.c)
            raise LinkError(FAULT_RADIO, str(error))

    def _associate(self, until: int, cache: bytes) -> bytes:
        wlan = network.WLAN(network.STA_IF)
        self._wlan = wlan
        wlan.active(True)
        channel, bssid, address, prefix, gateway, dns, lease_end_s = struct.unpack(_CACHE, cache)
        now_s = self.now_ms() // 1000
        if channel and lease_end_s - _LEASE_S <= now_s < lease_end_s:
            # Half the time for the short way: no scan of all channels, no DHCP (774 ms in place of 1,626 ms on an S3).
            half_ms = time.ticks_diff(until, time.ticks_ms()) // 2
            wlan.ifconfig((_dotted(address), _netmask(prefix), _dotted(gateway), _dotted(dns)))
            self._connect(wlan, bssid, channel)
            if self._wait(wlan, time.ticks_add(time.ticks_ms(), half_ms)):
                return cache
            wlan.disconnect()
            wlan.ifconfig("dhcp")
        bssid, channel = self._strongest(wlan)
        self._connect(wlan, bssid, channel)
        if not self._wait(wlan, until):
            raise LinkError(FAULT_RADIO, "status %d" % wlan.status())
        address, netmask, gateway, dns = [_packed(text) for text in wlan.ifconfig()]
        return struct.pack(_CACHE, channel, bssid, address, _prefix(netmask), gateway, dns, now_s + _LEASE_S)

    def set_date(self, date: tuple) -> None:
        _set_rtc(date, 0)
        self._dated = True

    def radio_down(self) -> None:
        if self._dated:
            # The RTC is what the next wake counts from. A reset before this line is a jump that clock.py compensates.
            rtc_ms = self.now_ms() - CLOCK_START_MS
            _set_rtc(time.gmtime(rtc_ms // 1000), rtc_ms % 1000 * 1000)
            self._dated = False
        if self._wlan is not None:
            self._wlan.active(False)
            self._wlan = None

    def rssi(self) -> int:
        try:
            return self._wlan.status("rssi")
        except OSError:  # the access point has just gone
            return 0

    def dns_server(self) -> tuple:
        return self._wlan.ifconfig()[3], _DNS_PORT

    def free_flash(self) -> int:
        return free_flash(ROOT)

    def random16(self) -> int:
        return int.from_bytes(os.urandom(2), "big")

    def watchdog_feed(self) -> None:
        self._watchdog.feed()

    def _strongest(self, wlan: object) -> tuple:
        """(bssid, channel) of the strongest access point of our network."""
        name = self._wifi["ssid"].encode()
        best = None
        for ssid, bssid, channel, rssi, _, _ in wlan.scan():
            if ssid == name and (best is None or rssi > best[0]):
                best = (rssi, bssid, channel)
        if best is None:
            raise LinkError(FAULT_RADIO, "no access point of " + self._wifi["ssid"])
        return best[1:]

    def _connect(self, wlan: object, bssid: bytes, channel: int) -> None:
        try:
            wlan.connect(self._wifi["ssid"], self._wifi["password"], bssid=bssid, channel=channel)
        except TypeError:
            # Stock MicroPython has no channel= yet; with it the scan of the other channels is spared.
            wlan.connect(self._wifi["ssid"], self._wifi["password"], bssid=bssid)

    def _wait(self, wlan: object, until: int) -> bool:
        while not wlan.isconnected():
            if time.ticks_diff(until, time.ticks_ms()) <= 0:
                return False
            time.sleep_ms(10)
        return True


def _set_rtc(date: tuple, us: int) -> None:
    machine.RTC().datetime((date[0], date[1], date[2], 0, date[3], date[4], date[5], us))


def _packed(dotted: str) -> bytes:
    return bytes([int(part) for part in dotted.split(".")])


def _dotted(packed: bytes) -> str:
    return ".".join([str(byte) for byte in packed])


def _prefix(netmask: bytes) -> int:
    return bin(int.from_bytes(netmask, "big")).count("1")


def _netmask(prefix: int) -> str:
    return _dotted((0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF).to_bytes(4, "big"))

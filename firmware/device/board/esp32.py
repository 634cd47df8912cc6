"""The board as it is on a desk: an ESP32, S2, S3, C3 or C6 under stock MicroPython. Pins come from main.py."""

import os
import struct
import time

import machine
import network
from micropython import const

from contract.wire import (
    FAULT_RADIO,
    WAKE_COLD,
    WAKE_PIN,
    WAKE_SOFT,
    WAKE_TIMER,
    WAKE_TOUCH,
    WAKE_ULP,
    WAKE_WATCHDOG,
)
from device.board import ABI, ARCH, CLOCK_START_MS, free_flash
from device.errors import LinkError

ROOT = ""
_WATCHDOG_MS = const(60000)  # over the longest time between two feeds, a session's one silent wait
_DNS_PORT = const(53)
_CACHE = (
    "<B6s4sB4s4sI"  # rtc_layout's radio_cache: channel, BSSID, address, prefix, gateway, name server, lease end in s
)
_LEASE_S = const(12 * 3600)  # then DHCP is asked again, so that a router may count on its leases

_RESETS = {
    machine.WDT_RESET: WAKE_WATCHDOG,  # MicroPython reports a brown-out as this too
    machine.SOFT_RESET: WAKE_SOFT,
}
_WAKES = {
    machine.TIMER_WAKE: WAKE_TIMER,
    machine.EXT0_WAKE: WAKE_PIN,
    machine.EXT1_WAKE: WAKE_PIN,
    machine.TOUCHPAD_WAKE: WAKE_TOUCH,
    machine.ULP_WAKE: WAKE_ULP,
}


class Board:
    """See firmware/DESIGN.md "Board". battery_pin: an ADC pin behind a divider of `battery_divider` to 1, or None."""

    root = ROOT
    arch = ARCH
    abi = ABI

    def __init__(self, wifi: dict, battery_pin: int | None = None, battery_divider: int = 2) -> None:
        self._wifi = wifi
        self._wlan = None
        # The RTC timer goes on through deep sleep and starts at 0 with the power; ticks_ms starts at 0 with every wake.
        # Read once: whatever happens to the RTC during a wake does not make its records jump.
        self.woke_ms = CLOCK_START_MS + time.time_ns() // 1000000
        self._start_ticks = time.ticks_ms()
        self._watchdog = machine.WDT(timeout=_WATCHDOG_MS)
        self._battery_divider = battery_divider
        # 11 dB attenuation: 2.45 V full scale, enough for half of a lithium cell's 4.2 V
        self._battery = (
            None if battery_pin is None else machine.ADC(machine.Pin(battery_pin), atten=machine.ADC.ATTN_11DB)
        )

    def wake_cause(self) -> int:
        cause = machine.reset_cause()
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
        machine.deepsleep(sleep_ms)

    def line_active(self) -> None:
        return None

    def arm_line(self, how: int) -> None:
        pass

    def battery_mv(self) -> int:
        if self._battery is None:
            return 0
        return self._battery.read_uv() * self._battery_divider // 1000

    def radio_up(self, until: int, cache: bytes) -> bytes:
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

    def radio_down(self) -> None:
        if self._wlan is not None:
            self._wlan.active(False)
            self._wlan = None

    def rssi(self) -> int:
        return self._wlan.status("rssi")

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


def _packed(dotted: str) -> bytes:
    return bytes([int(part) for part in dotted.split(".")])


def _dotted(packed: bytes) -> str:
    return ".".join([str(byte) for byte in packed])


def _prefix(netmask: bytes) -> int:
    return bin(int.from_bytes(netmask, "big")).count("1")


def _netmask(prefix: int) -> str:
    return _dotted((0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF).to_bytes(4, "big"))

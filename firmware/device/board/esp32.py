"""The board as it is on a desk: an ESP32, S2, S3, C3 or C6 under stock MicroPython. Pins come from main.py."""

import json
import time

import machine
import network
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
from device.board import ABI, ARCH, free_flash
from device.errors import LinkError
from micropython import const

ROOT = ""
_WATCHDOG_MS = const(60000)  # over the longest time between two feeds, a session's one silent wait
_DNS_PORT = const(53)
_LEASE = "/wifi.json"  # what the last full association learned: {"bssid", "channel", "ifconfig", "taken_ms"}
_LEASE_MS = const(12 * 3600 * 1000)  # then DHCP is asked again, so that a router may count on its leases

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
        self._watchdog = machine.WDT(timeout=_WATCHDOG_MS)
        self._battery_divider = battery_divider
        # 11 dB attenuation: 2.45 V full scale, enough for half of a lithium cell's 4.2 V
        self._battery = None if battery_pin is None else machine.ADC(machine.Pin(battery_pin), atten=machine.ADC.ATTN_11DB)

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
        # The RTC timer: it goes on through deep sleep and starts at 0 with the power. ticks_ms restarts at every wake.
        return time.time_ns() // 1000000

    def deep_sleep(self, sleep_ms: int) -> None:
        machine.deepsleep(sleep_ms)

    def battery_mv(self) -> int:
        if self._battery is None:
            return 0
        return self._battery.read_uv() * self._battery_divider // 1000

    def radio_up(self, until: int) -> None:
        wlan = network.WLAN(network.STA_IF)
        self._wlan = wlan
        wlan.active(True)
        lease = _read_lease()
        if lease and 0 <= self.now_ms() - lease["taken_ms"] < _LEASE_MS:
            # Half the time for the short way: no scan of all channels, no DHCP (774 ms in place of 1,626 ms on an S3).
            half_ms = time.ticks_diff(until, time.ticks_ms()) // 2
            wlan.ifconfig(tuple(lease["ifconfig"]))
            self._connect(wlan, bytes(lease["bssid"]), lease["channel"])
            if self._wait(wlan, time.ticks_add(time.ticks_ms(), half_ms)):
                return
            wlan.disconnect()
            wlan.ifconfig("dhcp")
        bssid, channel = self._strongest(wlan)
        self._connect(wlan, bssid, channel)
        if not self._wait(wlan, until):
            raise LinkError(FAULT_RADIO, "status %d" % wlan.status())
        with open(_LEASE, "w") as file:
            json.dump(
                {"bssid": list(bssid), "channel": channel, "ifconfig": wlan.ifconfig(), "taken_ms": self.now_ms()}, file
            )

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


def _read_lease() -> dict | None:
    try:
        with open(_LEASE) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None

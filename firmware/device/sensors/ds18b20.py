"""Maxim DS18B20 thermometer, alone on its 1-Wire bus, with a supply of its own.

Commands, scratchpad and times: DS18B20 datasheet 19-7487 Rev 6. A conversion of 12 bits takes 750 ms, so a window of
more than a few samples is for fewer bits. On parasite power the chip cannot tell when it is done: not supported.
"""

import time

from micropython import const

from contract.sensing import CONVERSION_MS
from device.errors import SensorError
from device.sensors.common import Scale, burst

_SKIP_ROM = const(0xCC)
_CONVERT = const(0x44)
_READ = const(0xBE)
_WRITE = const(0x4E)
_TRIES = const(3)


class Sensor:
    """Channel temperature. bus: a onewire.OneWire, frozen into MicroPython's ESP32 images."""

    ends_at_wake = False

    def __init__(self, settings: dict, bus: object, features: object) -> None:
        self._bus = bus
        self._bits = settings["bits"]
        self.interval_ms = max(settings["spacing_ms"], CONVERSION_MS[self._bits])
        self._scale = Scale(features, 1000, 16)
        self._scratchpad = bytearray(9)
        config = self._bits - 9 << 5 | 0x1F  # figure 8
        if self._read()[4] != config:
            self._command(_WRITE)
            for byte in (0x4B, 0x46, config):  # alarm limits as they leave the factory
                self._bus.writebyte(byte)

    def take_into(self, _first: int, _elapsed_ms: "int | None", window: object) -> int:
        """See device/sensors/__init__.py."""
        rows = burst(window, 1, self.interval_ms, self._measure)
        self._scale.apply(window)
        return rows

    def _measure(self, window: object, at: int) -> None:
        self._command(_CONVERT)
        wait_ms = CONVERSION_MS[self._bits]
        end = time.ticks_add(time.ticks_ms(), wait_ms + wait_ms // 2)
        while not self._bus.readbit():
            if time.ticks_diff(end, time.ticks_ms()) < 0:
                raise SensorError("ds18b20: a conversion did not end; does it have a supply of its own?")
            time.sleep_ms(5)
        low, high = self._read()[:2]
        raw = high << 8 | low
        raw &= ~((1 << 12 - self._bits) - 1)  # below its resolution the bits are undefined (figure 2)
        window[at] = raw - 65536 if raw & 0x8000 else raw

    def _read(self) -> bytearray:
        for _ in range(_TRIES):
            self._command(_READ)
            self._bus.readinto(self._scratchpad)
            if self._bus.crc8(self._scratchpad) == 0 and any(self._scratchpad):
                return self._scratchpad
        raise SensorError("ds18b20: %d answers with a wrong CRC; shorten its wire, check its pull-up" % _TRIES)

    def _command(self, command: int) -> None:
        if not self._bus.reset():
            raise SensorError("ds18b20: nothing on the 1-Wire bus answers; check wiring and pull-up")
        self._bus.writebyte(_SKIP_ROM)
        self._bus.writebyte(command)

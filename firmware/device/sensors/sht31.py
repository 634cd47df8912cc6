"""Sensirion SHT31 thermometer and hygrometer over I2C, each value with its CRC.

Commands, times and formulas: Sensirion datasheet SHT3x-DIS, version 6. A window is taken while the board is awake.
"""

import time

from micropython import const

from device.errors import SensorError
from device.sensors.common import Scale, burst, silent

_MEASURE = b"\x24\x00"  # once, high repeatability, no clock stretching (table 9)
_MEASURE_MS = const(16)  # 15 at most (table 4); until then the chip does not acknowledge a read
_TRIES = const(3)


class Sensor:
    """Channels temperature, relative humidity."""

    ends_at_wake = False

    def __init__(self, settings: dict, i2c: object, features: object) -> None:
        self._i2c = i2c
        self._address = settings["address"]
        self.interval_ms = settings["spacing_ms"]
        self._scale = Scale(features, 1, 1)
        self._answer = bytearray(6)

    def take_into(self, _first: int, _elapsed_ms: "int | None", window: object) -> int:
        """See device/sensors/__init__.py."""
        rows = burst(window, 2, self.interval_ms, self._measure)
        self._scale.apply(window)
        return rows

    def _measure(self, window: object, at: int) -> None:
        for _ in range(_TRIES):
            try:
                self._i2c.writeto(self._address, _MEASURE)
                time.sleep_ms(_MEASURE_MS)
                self._i2c.readfrom_into(self._address, self._answer)
            except OSError as error:
                raise silent("sht31", self._address, error)
            answer = self._answer
            if crc8(answer[0], answer[1]) == answer[2] and crc8(answer[3], answer[4]) == answer[5]:
                # 4.13, in thousandths: -45 + 175 S / (2^16 - 1) and 100 S / (2^16 - 1)
                window[at] = (175000 * (answer[0] << 8 | answer[1]) + 32767) // 65535 - 45000
                window[at + 1] = (100000 * (answer[3] << 8 | answer[4]) + 32767) // 65535
                return
        raise SensorError("sht31: %d answers with a wrong CRC; shorten its wires" % _TRIES)


def crc8(high: int, low: int) -> int:
    """CRC-8 of two bytes, polynomial 0x31, initial value 0xFF (table 20): 0x92 of 0xBE, 0xEF."""
    crc = 0xFF
    for byte in (high, low):
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x131 if crc & 0x80 else 0)
    return crc

"""ST LIS3DH accelerometer over I2C: its FIFO fills while the board sleeps, motion pulls INT1.

Registers and tables: LIS3DH datasheet DocID17530 Rev 2, chapters 6 to 8. In stream mode the FIFO keeps the newest 32
samples, of 10 bits whatever the resolution (5.1), 4 mg a step at +-2 g; 4 uA at 10 Hz (table 11). INT1 is latched until
INT1_SRC is read, and high-passed, so gravity does not count as motion.
"""

import struct
import time

from micropython import const

from device.errors import SensorError
from device.sensors.common import Registers, Scale, fill

_WHO_AM_I = const(0x0F)  # 0x33
_ID = const(0x33)
_CTRL1 = const(0x20)  # 7:4 rate, 2:0 axes on (table 30, 31)
_CTRL2 = const(0x21)  # 0: high-pass for INT1 (table 33)
_CTRL3 = const(0x22)  # 6: INT1 is of interrupt 1 (table 37)
_CTRL4 = const(0x23)  # 7: block update, 5:4 range, 3: high resolution (table 39)
_CTRL5 = const(0x24)  # 6: FIFO on, 3: latch interrupt 1 (table 41)
_REFERENCE = const(0x26)  # reading it makes the present acceleration the high-pass filter's zero (8.12)
_OUT = const(0x28 | 0x80)  # bit 7 of the sub-address: it moves on with each byte (6.1.1)
_FIFO_CTRL = const(0x2E)  # 7:6 mode: 00 bypass, 10 stream (table 57, 58)
_FIFO_SRC = const(0x2F)  # 6: overrun, then all 32 are held; 4:0 samples held (table 60)
_INT1_CFG = const(0x30)  # any of XHIE, YHIE, ZHIE (table 62)
_INT1_SRC = const(0x31)
_INT1_THS = const(0x32)
_INT1_DURATION = const(0x33)
_RATES = {1: 1, 10: 2, 25: 3, 50: 4, 100: 5, 200: 6}  # table 31
_RANGES = {2: (0, 1, 16), 4: (1, 2, 32), 8: (2, 4, 62), 16: (3, 12, 186)}  # bits, mg/digit (table 4), mg/THS (8.22)
_DEPTH = const(32)


class Sensor:
    """Channels x, y, z."""

    ends_at_wake = False

    def __init__(self, settings: dict, i2c: object, features: object) -> None:
        self._registers = registers = Registers("lis3dh", i2c, settings["address"])
        found = registers.read(_WHO_AM_I)
        if found != _ID:
            raise SensorError("lis3dh: chip 0x%02x at 0x%02x is none (0x33)" % (found, settings["address"]))
        self.interval_ms = 1000 // settings["rate_hz"]
        range_bits, mg, threshold_mg = _RANGES[settings["range_g"]]
        self._scale = Scale(features, mg, 16)  # 12 bits, left in 16
        motion = settings["motion_mg"]
        on = 1 if motion else 0
        written = registers.settle(
            (
                (_FIFO_CTRL, 0x80),
                (_CTRL2, on),
                (_CTRL3, on << 6),
                (_CTRL4, 0x88 | range_bits << 4),
                (_CTRL5, 0x40 | on << 3),
                (_INT1_THS, max(1, motion // threshold_mg) if motion else 0),
                (_INT1_DURATION, 0),
                (_INT1_CFG, 0x2A * on),
                (_CTRL1, _RATES[settings["rate_hz"]] << 4 | 7),
            )
        )
        if written:
            # It was without power, or set up for something else: what its FIFO holds is not to be trusted.
            registers.write(_FIFO_CTRL, 0)
            registers.write(_FIFO_CTRL, 0x80)
            if motion:
                time.sleep_ms(self.interval_ms + 10)  # there is a first sample now, for the filter to start from
                registers.read(_REFERENCE)
        registers.read(_INT1_SRC)  # lets go of INT1
        self._sample = bytearray(6)

    def take_into(self, _first: int, _elapsed_ms: "int | None", window: object) -> int:
        """See device/sensors/__init__.py."""
        rows = fill("lis3dh", window, 3, self.interval_ms, self._held, self._pop)
        self._scale.apply(window)
        self._registers.read(_INT1_SRC)
        return rows

    def _held(self) -> int:
        source = self._registers.read(_FIFO_SRC)
        return _DEPTH if source & 0x40 else source & 0x1F

    def _pop(self, window: object, at: int) -> None:
        self._registers.read_into(_OUT, self._sample)
        window[at], window[at + 1], window[at + 2] = struct.unpack("<hhh", self._sample)

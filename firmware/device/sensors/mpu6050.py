"""InvenSense MPU-6050 accelerometer over I2C: its FIFO fills while the board sleeps, motion pulls INT.

Registers: RM-MPU-6000A-00 Rev 4.2 (register map), PS-MPU-6000A-00 Rev 3.4 (product specification). The gyroscopes stand
by; the accelerometer alone draws 500 uA (PS table 6.2), a hundred times a LIS3DH: a board on a battery wants that one.
The FIFO holds 1,024 bytes, 170 samples. When it has overflown, its oldest byte is in the middle of a sample, so it is
emptied and the window waits for new ones: a rate that fills it in less than the wake interval costs that wait.
"""

import struct

from micropython import const

from device.errors import SensorError
from device.sensors.common import Registers, Scale, fill

_SMPLRT_DIV = const(0x19)  # rate = 1 kHz / (1 + this), with the low-pass filter on (RM 4.2)
_CONFIG = const(0x1A)  # 2:0 low-pass filter (RM 4.3)
_ACCEL_CONFIG = const(0x1C)  # 4:3 range, 2:0 high-pass filter of the motion detector (RM 4.5)
_MOT_THR = const(0x1F)  # 2 mg a step (PS 6.2)
_MOT_DUR = const(0x20)  # ms
_FIFO_EN = const(0x23)  # 3: accelerometer (RM 4.6)
_INT_PIN_CFG = const(0x37)  # 5: latched until INT_STATUS is read (RM 4.14)
_INT_ENABLE = const(0x38)  # 6: motion, 4: FIFO overflow (RM 4.15)
_INT_STATUS = const(0x3A)
_USER_CTRL = const(0x6A)  # 6: FIFO on, 2: empty it (RM 4.27)
_PWR_MGMT_1 = const(0x6B)  # 6: sleep; after power-on 0x40 (RM 4.28)
_PWR_MGMT_2 = const(0x6C)  # 2:0 gyroscopes stand by (RM 4.29)
_FIFO_COUNT = const(0x72)  # high byte first (RM 4.30)
_FIFO_R_W = const(0x74)
_WHO_AM_I = const(0x75)  # 0x68, whatever the address pin says (RM 4.32)
_ID = const(0x68)
_RANGES = {2: 0, 4: 1, 8: 2, 16: 3}
_FULL_BYTES = const(1024)


class Sensor:
    """Channels x, y, z."""

    ends_at_wake = False

    def __init__(self, settings: dict, i2c: object, features: object) -> None:
        self._registers = registers = Registers("mpu6050", i2c, settings["address"])
        found = registers.read(_WHO_AM_I)
        if found != _ID:
            raise SensorError("mpu6050: chip 0x%02x at 0x%02x is none (0x68)" % (found, settings["address"]))
        self.interval_ms = 1000 // settings["rate_hz"]
        self._scale = Scale(features, 1000 * settings["range_g"], 32768)
        motion = settings["motion_mg"]
        written = registers.settle(
            (
                (_PWR_MGMT_1, 0x08),  # awake, thermometer off, clock of its own
                (_PWR_MGMT_2, 0x07),
                (_SMPLRT_DIV, self.interval_ms - 1),
                (_CONFIG, 0x04),  # 21 Hz
                (_ACCEL_CONFIG, _RANGES[settings["range_g"]] << 3 | (1 if motion else 0)),  # 1: from 5 Hz on
                (_MOT_THR, motion // 2 if motion else 0),
                (_MOT_DUR, 1),
                (_FIFO_EN, 0x08),
                (_INT_PIN_CFG, 0x20),
                (_INT_ENABLE, 0x40 if motion else 0),
                (_USER_CTRL, 0x40),
            )
        )
        if written:
            self._empty()
        registers.read(_INT_STATUS)  # lets go of INT
        self._count = bytearray(2)
        self._sample = bytearray(6)

    def take_into(self, _first: int, _elapsed_ms: "int | None", window: object) -> int:
        """See device/sensors/__init__.py."""
        if self._bytes_held() >= _FULL_BYTES:
            self._empty()
        rows = fill("mpu6050", window, 3, self.interval_ms, self._held, self._pop)
        self._scale.apply(window)
        self._registers.read(_INT_STATUS)
        return rows

    def _empty(self) -> None:
        self._registers.write(_USER_CTRL, 0x04)
        self._registers.write(_USER_CTRL, 0x40)

    def _bytes_held(self) -> int:
        self._registers.read_into(_FIFO_COUNT, self._count)
        return struct.unpack(">H", self._count)[0]

    def _held(self) -> int:
        return self._bytes_held() // 6

    def _pop(self, window: object, at: int) -> None:
        self._registers.read_into(_FIFO_R_W, self._sample)
        window[at], window[at + 1], window[at + 2] = struct.unpack(">hhh", self._sample)

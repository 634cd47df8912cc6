"""A channel of the ESP32's ADC1, sampled by the ULP coprocessor while the board sleeps (firmware/ulp/watch.s).

The ULP keeps 128 samples and wakes the board when the signal crosses a limit. Its conversions are raw: voltages follow
ESP-IDF's line for 11 dB and a reference of 1,100 mV (esp_adc_cal_esp32.c: scale 196602, offset 142 mV), which is within
6 % without calibration and not linear above 2.5 V.
"""

import time

from micropython import const

from contract.sensing import MAX_AWAKE_MS
from device.errors import SensorError
from device.sensors.common import Scale

_SLOPE = const(52798)  # 1100 * 196602 / 4096, in 1/65536 mV a step
_OFFSET_MV = const(142)
_FULL = const(4095)


class Sensor:
    """Channel voltage. ulp: see device/board/ulp_watch.py."""

    ends_at_wake = False

    def __init__(self, settings: dict, ulp: object, features: object) -> None:
        self._ulp = ulp
        self.interval_ms = settings["sample_ms"]
        self._scale = Scale(features, 1, 1000)
        back_mv = settings["hysteresis_mv"]
        low_mv, high_mv = settings["low_mv"], settings["high_mv"]
        ulp.watch(
            1000 * self.interval_ms,
            _raw(low_mv),
            _raw(low_mv + back_mv) if low_mv else 0,
            _raw(high_mv - back_mv),
            _raw(high_mv) if high_mv < 3300 else _FULL,
        )

    def take_into(self, _first: int, _elapsed_ms: "int | None", window: object) -> int:
        """See device/sensors/__init__.py."""
        rows = len(window)
        missing_ms = (rows - self._ulp.held()) * self.interval_ms
        if missing_ms > MAX_AWAKE_MS:
            raise SensorError("ulp: the rest of the window would take %d ms; it was started only now" % missing_ms)
        end = time.ticks_add(time.ticks_ms(), missing_ms + 3 * self.interval_ms)
        while self._ulp.held() < rows:
            if time.ticks_diff(end, time.ticks_ms()) < 0:
                raise SensorError("ulp: %d of %d samples came; its timer does not run" % (self._ulp.held(), rows))
            time.sleep_ms(self.interval_ms)
        fresh = self._ulp.newest_into(window)
        for at in range(rows):
            window[at] = (window[at] * _SLOPE * 1000 + 32768) // 65536 + 1000 * _OFFSET_MV
        self._scale.apply(window)
        return fresh


def _raw(mv: int) -> int:
    """The conversion that a voltage gives."""
    return max(0, min(_FULL, (mv - _OFFSET_MV) * 65536 // _SLOPE))

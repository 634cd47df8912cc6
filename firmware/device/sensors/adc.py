"""The chip's own ADC, calibrated by MicroPython: a voltage, in a window taken while the board is awake.

While the board sleeps it cannot convert; on an ESP32 the driver `ulp` does.
"""

from device.sensors.common import Scale, burst


class Sensor:
    """Channel voltage. adc: a machine.ADC."""

    ends_at_wake = False

    def __init__(self, settings: dict, adc: object, features: object) -> None:
        self._adc = adc
        self.interval_ms = settings["spacing_ms"]
        self._scale = Scale(features, 1, 1000)

    def take_into(self, _first: int, _elapsed_ms: "int | None", window: object) -> int:
        """See device/sensors/__init__.py."""
        rows = burst(window, 1, self.interval_ms, self._measure)
        self._scale.apply(window)
        return rows

    def _measure(self, window: object, at: int) -> None:
        window[at] = self._adc.read_uv()

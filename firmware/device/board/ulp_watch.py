"""The ESP32's ULP coprocessor with the program of firmware/ulp/watch.s: load, set up its ADC, read its ring.

Registers: ESP32 Technical Reference Manual, chapters "On-Chip Sensors and Analog Signal Processing" (SENS_*) and "ULP
Coprocessor". Stock MicroPython loads and starts programs, but leaves the ADC to machine.ADC, which takes it for the
processor; so the few bits that hand it to the ULP are set here, after every other use of the ADC.
"""

import binascii

import esp32
from machine import mem32
from micropython import const

from device.board import ulp_program
from device.errors import SensorError

_MEMORY = const(0x50000000)  # RTC slow memory; MicroPython reserves its first 2,040 bytes for the ULP
_READ_CTRL = const(0x3FF48800)  # SENS_SAR_READ_CTRL: bit 27 gives ADC1 to the digital controller, 17:16 3: 12 bits
_WAIT2 = const(0x3FF4880C)  # SENS_SAR_MEAS_WAIT2: 19:18 0: the ADC is on while it converts; 17:16 2: no amplifier
_START_FORCE = const(0x3FF4882C)  # SENS_SAR_START_FORCE: 1:0 3: 12 bits
_START1 = const(0x3FF48854)  # SENS_SAR_MEAS_START1: 31 and 18: pad and start by software, not by the ULP
_MUX = const(0xF << 2)  # field of the ADC instruction: channel + 1
RING = const(128)


class Ulp:
    """One channel of ADC1 (0 to 7). kept: the board comes out of deep sleep, so what it started may be running."""

    def __init__(self, channel: int, kept: bool) -> None:
        self._channel = channel
        self._kept = kept

    def watch(self, period_us: int, low: int, low_back: int, high_back: int, high: int) -> None:
        """Sample every period_us and wake the board outside low to high (conversions); goes on if it does already."""
        settings = (self._channel, period_us, low, low_back, high_back, high)
        tag = binascii.crc32(ulp_program.PROGRAM + repr(settings).encode()) & 0xFFFF or 1
        if self._kept and _word(ulp_program.TAG) == tag:
            return
        ulp = esp32.ULP()
        try:
            ulp.set_wakeup_period(0, period_us)
            ulp.load_binary(0, ulp_program.PROGRAM)
        except OSError as error:
            raise SensorError("ulp: its program was not loaded (%s)" % error)
        measure = _MEMORY + 4 * ulp_program.MEASURE
        mem32[measure] = mem32[measure] & ~_MUX | self._channel + 1 << 2
        for place, value in (
            (ulp_program.LOW, low),
            (ulp_program.LOW_BACK, low_back),
            (ulp_program.HIGH_BACK, high_back),
            (ulp_program.HIGH, high),
            (ulp_program.TAG, tag),
        ):
            mem32[_MEMORY + 4 * place] = value
        hand_over_adc()
        ulp.run(4 * ulp_program.ENTRY)

    def held(self) -> int:
        """Samples in the ring. The count goes round; that its last word was ever written shows in the upper half."""
        went_round = mem32[_MEMORY + 4 * (ulp_program.RING + RING - 1)] >> 16
        return RING if went_round else _word(ulp_program.COUNT)

    def newest_into(self, window: object) -> int:
        """The newest samples, raw, oldest first; returns how many of them were not read before."""
        count = _word(ulp_program.COUNT)
        rows = len(window)
        for at in range(rows):
            window[at] = _word(ulp_program.RING + (count - rows + at) % RING)
        fresh = (count - _word(ulp_program.TAKEN)) & 0xFFFF
        mem32[_MEMORY + 4 * ulp_program.TAKEN] = count
        return min(rows, fresh)


def hand_over_adc() -> None:
    """Let the ULP convert on ADC1. Attenuation and pad are as machine.ADC left them."""
    mem32[_READ_CTRL] = mem32[_READ_CTRL] & ~(1 << 27) | 3 << 16
    mem32[_WAIT2] = mem32[_WAIT2] & ~(0xF << 16) | 2 << 16
    mem32[_START_FORCE] = mem32[_START_FORCE] | 3
    mem32[_START1] = mem32[_START1] & ~(1 << 31 | 1 << 18)


def _word(place: int) -> int:
    return mem32[_MEMORY + 4 * place] & 0xFFFF  # above are the program counter and a register, see watch.s

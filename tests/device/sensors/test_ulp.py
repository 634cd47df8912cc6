"""device/sensors/ulp.py and device/board/ulp_watch.py: what they ask of the coprocessor, and read of its ring.

The program itself is tested in tests/device/test_ulp_program.py.
"""

from typing import Any

import pytest

from tests.support.chip import ChipError, on_chip

SETTINGS = {"driver": "ulp", "sample_ms": 250, "low_mv": 1000, "high_mv": 2000, "hysteresis_mv": 100}


def ulp(code: str, pin: int = 34, name: str = "ESP32") -> Any:
    """`result` of code with `make()`, which opens the sensor, and `sampled(*raw)`, which does what the ULP would."""
    return on_chip(
        f"""
from array import array
import esp32
import machine
from machine import chip, mem32
from contract.features import Features
from device.board import esp32 as port, ulp_program as program
from device.errors import ConfigError, SensorError
from device.sensors import open_sensor
port.CHIP = {name!r}
MEMORY = 0x50000000
features = Features("v1;w=4;c=u:mV:1;f=mean")
window = array("i", [0] * 4)
chip["volts"][34] = 1_000_000
def make(**changes):
    settings = {SETTINGS!r}
    settings.update(changes)
    board = port.Board(None, {{"adc": {pin}}}, {{"ulp": True}})
    return open_sensor(settings, None, board, features)
def word(place):
    return mem32[MEMORY + 4 * place]
def sampled(*raw):
    for value in raw:
        count = word(program.COUNT) & 0xFFFF
        mem32[MEMORY + 4 * (program.RING + count % 128)] = 0xABCD0000 | value
        mem32[MEMORY + 4 * program.COUNT] = 0x12340000 | (count + 1) & 0xFFFF
{code}
"""
    )


def test_the_program_is_loaded_with_its_pad_limits_and_period_and_the_adc_handed_over():
    code = """
for register in (0x3FF48800, 0x3FF4880C, 0x3FF48854):
    mem32[register] = 0xFFFFFFFF
make()
mux = word(program.MEASURE) >> 2 & 15
limits = [word(place) for place in (program.LOW, program.LOW_BACK, program.HIGH_BACK, program.HIGH)]
bits = [mem32[0x3FF48800] >> 27 & 1, mem32[0x3FF4880C] >> 16 & 15, mem32[0x3FF48854] >> 31, mem32[0x3FF48854] >> 18 & 1]
result = [mux, limits, esp32.ulp["periods"], esp32.ulp["running"], bits]
"""
    mux, limits, periods, running, bits = ulp(code)
    assert mux == 7, "GPIO 34 is channel 6"
    assert limits == [1065, 1189, 2182, 2306], "1,000 mV is (1000 - 142) / 0.8056 conversions, and so on"
    assert periods == {"0": 250_000}
    assert running == 0
    assert bits == [0, 2, 0, 0]


def test_a_program_that_runs_is_left_alone_through_deep_sleep_and_started_again_after_anything_else():
    code = """
result = []
make()
sampled(1000)
for reset, changes in (
    (machine.DEEPSLEEP_RESET, {}),
    (machine.DEEPSLEEP_RESET, {"high_mv": 2100}),
    (machine.WDT_RESET, {"high_mv": 2100}),
):
    esp32.ulp["running"] = None
    chip["reset"] = reset
    make(**changes)
    result.append([esp32.ulp["running"] is not None, word(program.COUNT) & 0xFFFF])
"""
    assert ulp(code) == [[False, 1], [True, 0], [True, 0]]


def test_the_window_is_the_newest_samples_and_only_those_never_read_are_new():
    code = """
sensor = make()
sampled(0, 100, 1000, 2000, 3000)
result = [sensor.take_into(0, None, window), list(window)]
sampled(4000)
result += [sensor.take_into(5, 250, window), list(window), sensor.take_into(6, 1, window)]
"""
    first, window, second, later, none = ulp(code)
    assert (first, second, none) == (4, 1, 0)
    assert window == [223, 948, 1753, 2559], "0.8056 mV a conversion, from 142 mV on"
    assert later == [948, 1753, 2559, 3365]


def test_a_ring_that_went_round_is_read_in_order():
    code = """
sensor = make()
mem32[MEMORY + 4 * program.COUNT] = 65534
mem32[MEMORY + 4 * program.TAKEN] = 65530
sampled(1000, 1100, 1200, 1300)
result = [sensor.take_into(0, None, window), list(window)]
"""
    fresh, window = ulp(code)
    assert fresh == 4
    assert window == [948, 1028, 1109, 1189]


def test_a_window_that_is_not_there_is_waited_for_and_a_timer_that_stands_still_is_a_fault():
    code = """
sensor = make(sample_ms=10)
try:
    sensor.take_into(0, None, window)
except SensorError as error:
    result = str(error)
"""
    assert ulp(code) == "ulp: 0 of 4 samples came; its timer does not run"
    assert "would take" in ulp(code.replace("sample_ms=10", "sample_ms=60000"))


@pytest.mark.parametrize(("pin", "name"), [(4, "ESP32"), (34, "ESP32S3"), (34, "ESP32C3")])
def test_another_chip_or_pin_is_refused(pin: int, name: str):
    with pytest.raises(ChipError, match=r"ConfigError: sensor\.driver ulp needs an ESP32 and a pin of its ADC1"):
        ulp("make()\nresult = 0", pin, name)

"""device/sensors/sht31.py, ds18b20.py and adc.py against chips that behave as their datasheets say."""

from typing import Any

import pytest

from tests.support.chip import sensing

CLIMATE = "v1;w=4;c=t:degC:100,rh:%:100;f=mean"
TEMPERATURE = "v1;w=2;c=t:degC:100;f=mean"
VOLTAGE = "v1;w=4;c=u:mV:1;f=mean"
SHT = {"driver": "sht31"}
DS = {"driver": "ds18b20", "bits": 12}
ADC = {"driver": "adc", "spacing_ms": 5}


def sht(code: str, signal: str = "lambda n: (0x6666 + n, 0x8000)") -> Any:
    return sensing(SHT, CLIMATE, f"sht = chips.Sht31({signal})\nchip['i2c'][0x44] = sht", code)


def ds(code: str, signal: str = "lambda n: 401 + n", **settings: Any) -> Any:
    return sensing(DS | settings, TEMPERATURE, f"ds = chips.Ds18b20({signal})\nchip['onewire'] = ds", code)


def test_an_sht31_gives_a_window_of_both_values():
    code = "sensor = make()\nrows = take(sensor)\nresult = [rows, list(window), sht.measured, sensor.interval_ms]"
    rows, window, measured, interval_ms = sht(code, "lambda n: (0x6666, 0x8000)")
    assert (rows, measured, interval_ms) == (4, 4, 20)
    assert window == [2500, 5000] * 4, "0x6666 is 25.00 degrees, 0x8000 50.00 %"


@pytest.mark.parametrize(
    ("raw", "counts"), [((0, 0), [-4500, 0]), ((0xFFFF, 0xFFFF), [13000, 10000]), ((0x4188, 0x051F), [-20, 200])]
)
def test_the_ends_of_an_sht31s_scales(raw: tuple[int, int], counts: list[int]):
    assert sht("take(make())\nresult = list(window[:2])", f"lambda n: {raw}") == counts


def test_an_answer_of_an_sht31_with_a_wrong_crc_is_asked_for_again_and_three_are_a_fault():
    code = "sht.flip = [{}]\nresult = refusal(lambda: take(make())) or list(window)"
    assert sht(code.format("0, 4"), "lambda n: (0x6666, 0x8000)") == [2500, 5000] * 4
    for byte in range(6):
        said = sht(code.format(f"{byte}, {byte}, {byte}"))
        assert said == "SensorError: sht31: 3 answers with a wrong CRC; shorten its wires"


def test_the_crc_is_the_datasheets():
    code = "from device.sensors.sht31 import crc8\nresult = [crc8(0xBE, 0xEF), crc8(0, 0), crc8(0xFF, 0xFF)]"
    high, zero, ones = sht(code)
    assert (high, zero, ones) == (0x92, 0x81, 0xAC)


def test_an_sht31_that_is_not_there_or_not_ready_is_a_fault():
    said = sensing(SHT, CLIMATE, "", "result = refusal(lambda: take(make()))")
    assert said.startswith("SensorError: sht31 at 0x44 does not answer")
    code = "sht.CONVERSION_MS = 100\nresult = refusal(lambda: take(make()))"
    assert sht(code).startswith("SensorError: sht31 at 0x44 does not answer")


def test_a_ds18b20_is_set_to_its_bits_and_waited_for():
    code = "sensor = make()\nrows = take(sensor)\nresult = [rows, list(window), sensor.interval_ms, ds.config]"
    assert ds(code, "lambda n: 401", spacing_ms=0, bits=9) == [2, [2500, 2500], 94, 0x1F]
    assert ds(code, "lambda n: 401")[1:] == [[2506, 2506], 750, 0x7F], "25.0625 degrees"
    assert ds(code, "lambda n: -401", bits=12)[1] == [-2506, -2506]
    assert ds(code, "lambda n: -55 * 16", bits=9)[1] == [-5500, -5500]


def test_a_scratchpad_with_a_wrong_crc_is_read_again_and_three_are_a_fault():
    code = "sensor = make()\nds.flip = [{}]\nresult = refusal(lambda: take(sensor)) or window[0]"
    assert ds(code.format("0, 8"), "lambda n: 400", bits=9) == 2500
    said = ds(code.format("1, 4, 0"), bits=9)
    assert said == "SensorError: ds18b20: 3 answers with a wrong CRC; shorten its wire, check its pull-up"


def test_a_bus_that_nothing_drives_is_told_from_one_that_is_held_low():
    said = sensing(DS, TEMPERATURE, "", "result = refusal(make)")
    assert said.startswith("SensorError: ds18b20: nothing on the 1-Wire bus answers")
    code = "ds.give = lambda: 0\nresult = refusal(make)"
    assert "wrong CRC" in ds(code), "nine zeros have a CRC that checks"


def test_a_ds18b20_on_parasite_power_is_a_fault_and_no_hang():
    code = "sensor = make()\nds.parasite = True\nresult = refusal(lambda: take(sensor))"
    assert ds(code, bits=9) == "SensorError: ds18b20: a conversion did not end; does it have a supply of its own?"


def test_the_adc_is_read_in_millivolts_at_its_spacing():
    code = """
    import time
    readings = iter((1_234_400, 1_234_600, 0, 2_450_000))
    machine.ADC.read_uv = lambda _adc: next(readings)
    began = time.ticks_ms()
    rows = take(make())
    result = [rows, list(window), time.ticks_diff(time.ticks_ms(), began) >= 15]
    """
    assert sensing(ADC, VOLTAGE, "", code) == [4, [1234, 1235, 0, 2450], True]

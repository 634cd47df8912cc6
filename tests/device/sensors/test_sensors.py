"""device/sensors and contract/sensing.py: what config.json may say of a sensor, and what is said when it may not."""

from typing import Any

import pytest

from contract import sensing
from contract.features import Features
from tests.support.chip import on_chip
from tests.support.chip import sensing as on_board
from tests.support.micropython import evaluate

ACCELERATION = "v1;w=16;c=x:mg:1,y:mg:1,z:mg:1;f=mean"
TEMPERATURE = "v1;w=4;c=t:degC:100;f=mean"
VOLTAGE = "v1;w=16;c=u:mV:1;f=mean"
GOOD: list[tuple[dict[str, Any], str]] = [
    ({"driver": "lis3dh"}, ACCELERATION),
    ({"driver": "lis3dh", "rate_hz": 200, "range_g": 16, "motion_mg": 8000, "address": 0x19}, ACCELERATION),
    ({"driver": "mpu6050", "motion_mg": 510}, ACCELERATION),
    ({"driver": "sht31"}, "v1;w=8;c=t:degC:10,rh:%:10;f=mean"),
    ({"driver": "ds18b20", "bits": 9}, TEMPERATURE),
    ({"driver": "adc"}, VOLTAGE),
    ({"driver": "ulp", "low_mv": 500, "high_mv": 2500}, VOLTAGE),
    ({"driver": "replay", "file": "recording.bin"}, "v1;w=4;c=flow:l/s:100;f=mean"),
]


@pytest.mark.parametrize(("sensor", "schema"), GOOD)
def test_what_a_driver_takes_is_taken(sensor: dict[str, Any], schema: str):
    assert sensing.problems(sensor, Features(schema)) == []


@pytest.mark.parametrize(
    ("sensor", "schema", "key", "cause"),
    [
        ({"driver": "sonar"}, VOLTAGE, "sensor.driver", "must be replay, adc, ds18b20, lis3dh"),
        ({}, VOLTAGE, "sensor.driver", "is None"),
        ({"driver": "replay"}, VOLTAGE, "sensor.file", "must name a recording"),
        ({"driver": "lis3dh", "rate": 10}, ACCELERATION, "sensor.rate", "is not a setting of lis3dh"),
        (
            {"driver": "lis3dh", "rate_hz": 400},
            ACCELERATION,
            "sensor.rate_hz",
            "25, 50, 100, 200, is 400",
        ),
        ({"driver": "lis3dh", "rate_hz": "10"}, ACCELERATION, "sensor.rate_hz", "is '10'"),
        ({"driver": "lis3dh", "rate_hz": True}, ACCELERATION, "sensor.rate_hz", "is True"),
        ({"driver": "lis3dh", "motion_mg": None}, ACCELERATION, "sensor.motion_mg", "is None"),
        ({"driver": "lis3dh", "motion_mg": 2500}, ACCELERATION, "sensor.motion_mg", "must be within range_g"),
        ({"driver": "mpu6050", "motion_mg": 511}, ACCELERATION, "sensor.motion_mg", "an integer of 2 to 510"),
        ({"driver": "lis3dh"}, TEMPERATURE, "schema", "measures acceleration, acceleration, acceleration, the schema"),
        ({"driver": "lis3dh"}, "v1;w=4;c=x:mg:1,y:mg:1,z:ly:1;f=mean", "schema", "units mg, mg, ly"),
        ({"driver": "lis3dh", "rate_hz": 1}, ACCELERATION.replace("16", "64"), "sensor.rate_hz", "takes 32000 ms"),
        ({"driver": "ds18b20"}, TEMPERATURE.replace("w=4", "w=16"), "sensor.spacing_ms", "takes 12000 ms"),
        ({"driver": "sht31"}, TEMPERATURE, "schema", "sht31 measures temperature, humidity"),
        ({"driver": "ulp"}, VOLTAGE.replace("16", "65"), "schema", "windows of 64 samples, w is 65"),
        ({"driver": "ulp", "low_mv": 2500, "high_mv": 2590}, VOLTAGE, "sensor.high_mv", "more than twice hysteresis"),
    ],
)
def test_what_it_cannot_take_is_refused_by_name(sensor: dict[str, Any], schema: str, key: str, cause: str):
    ((found, said), *_) = sensing.problems(sensor, Features(schema))
    assert found == key
    assert cause in said


def test_the_board_refuses_with_the_same_words():
    said = on_board({"driver": "lis3dh", "rate_hz": 7}, ACCELERATION, "", "result = refusal(make)")
    ((key, cause),) = sensing.problems({"driver": "lis3dh", "rate_hz": 7}, Features(ACCELERATION))
    assert said == f"ConfigError: {key} {cause}"


def test_a_board_without_the_bus_says_so():
    code = f"""
    from contract.features import Features
    from device.sensors import open_sensor
    from device.errors import ConfigError
    class Board:
        root = ""
    try:
        result = open_sensor({{"driver": "adc"}}, None, Board, Features({VOLTAGE!r}))
    except ConfigError as error:
        result = str(error)
    """
    assert evaluate(code) == "sensor.driver adc needs adc, which this board has not"


def test_only_the_configured_driver_is_imported():
    code = f"""
    import sys
    import chips
    from machine import chip
    from contract.features import Features
    from device.board.esp32 import Board
    from device.sensors import open_sensor
    chip["i2c"][0x18] = chips.Lis3dh(lambda n: (0, 0, 0))
    open_sensor({{"driver": "lis3dh"}}, None, Board(None, {{"scl": 22, "sda": 21}}), Features({ACCELERATION!r}))
    result = sorted(name for name in sys.modules if name.startswith("device.sensors."))
    """
    assert on_chip(code) == ["device.sensors.common", "device.sensors.lis3dh"]


def test_every_driver_has_its_file_and_every_bus_its_method():
    code = f"""
    from device.board.esp32 import Board
    result = [hasattr(Board, bus) for bus in {sorted({bus for bus, _, _ in sensing.DRIVERS.values()})!r}]
    """
    assert all(on_chip(code))
    names = "\\n".join(f"import device.sensors.{name}" for name in sensing.DRIVERS)
    assert on_chip(f"exec({names!r})\nresult = 1".replace("\\\\n", "\\n")) == 1

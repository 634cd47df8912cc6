"""device/sensors/lis3dh.py and mpu6050.py against chips that behave as their datasheets say."""

import itertools
from typing import Any

import pytest

from tests.support.chip import sensing

SCHEMA = "v1;w=16;c=x:mg:1,y:mg:1,z:mg:1;f=mean"
# Sample n is n steps of 16 mg on x and n on y, so the window tells which samples it holds; z is gravity.
COUNTING = "lambda n: (16 * (n % 100), -16 * (n % 100), 992)"
LIS = {"driver": "lis3dh", "rate_hz": 10}
MPU = {"driver": "mpu6050", "rate_hz": 10}


def lis(code: str, schema: str = SCHEMA, signal: str = COUNTING, **settings: Any) -> Any:
    world = f"lis = chips.Lis3dh({signal})\nchip['i2c'][0x18] = lis"
    return sensing(LIS | settings, schema, world, code)


def mpu(code: str, schema: str = SCHEMA, signal: str = COUNTING, **settings: Any) -> Any:
    world = f"mpu = chips.Mpu6050({signal})\nchip['i2c'][0x68] = mpu"
    return sensing(MPU | settings, schema, world, code)


ASLEEP = """
make()
pass_ms({ms})
sensor = make()
rows = take(sensor)
result = [rows, [v // 16 for v in axis(0)], axis(2)]
"""


def test_the_window_of_a_lis3dh_filled_while_the_board_slept():
    rows, x, z = lis(ASLEEP.format(ms=1600))
    assert rows == 16
    assert x == list(range(16))
    assert z == [992] * 16


def test_a_lis3dh_that_ran_over_gives_the_newest_samples_in_one_piece():
    rows, x, _ = lis(ASLEEP.format(ms=60_000))
    assert rows == 16
    assert x == [(600 - 16 + n) % 100 for n in range(16)]


def test_a_lis3dh_woken_early_waits_for_the_rest_of_its_window():
    code = """
    import time
    make()
    pass_ms(150)
    began = time.ticks_ms()
    take(make())
    result = [time.ticks_diff(time.ticks_ms(), began), [v // 16 for v in axis(0)]]
    """
    took, x = lis(code, rate_hz=200)
    assert x == list(range(14, 30)) or x[0] <= 30, x
    assert took < 500
    code = code.replace("pass_ms(150)", "pass_ms(20)")
    took, x = lis(code, rate_hz=200)
    assert x == list(range(x[0], x[0] + 16)), "no sample is left out at the seam"
    assert 30 <= took < 500, "16 samples take 80 ms, 20 of them had passed"


def test_a_chip_that_is_set_up_is_left_alone():
    code = "make()\nset_up = lis.writes\nmake()\nmake()\nresult = [set_up > 5, lis.writes - set_up]"
    assert lis(code) == [True, 0]
    code = code.replace("lis.", "mpu.")
    assert mpu(code) == [True, 0]


def test_a_chip_that_lost_its_power_is_set_up_again():
    code = """
    make()
    chip["i2c"][%s] = chips.%s(lambda n: (160, 0, 992))
    rows = take(make())
    result = [rows, window[0], window[2]]
    """
    assert lis(code % ("0x18", "Lis3dh"), rate_hz=200) == [16, 160, 992]
    rows, x, z = mpu(code % ("0x68", "Mpu6050"), rate_hz=200)
    assert rows == 16
    assert abs(x - 160) <= 1
    assert abs(z - 992) <= 1


@pytest.mark.parametrize(("range_g", "step"), [(2, 4), (4, 8), (8, 16), (16, 48)])
def test_every_range_gives_the_same_acceleration_within_the_fifos_ten_bits(range_g: int, step: int):
    code = "make()\npass_ms(2000)\ntake(make())\nresult = list(window[:3])"
    x, y, z = lis(code, signal="lambda n: (480, -480, 960)", range_g=range_g)
    assert abs(x - 480) <= step
    assert abs(y + 480) <= step
    assert abs(z - 960) <= step
    x, y, z = mpu(code, signal="lambda n: (480, -480, 960)", range_g=range_g)
    assert max(abs(x - 480), abs(y + 480), abs(z - 960)) <= 1


def test_counts_are_in_the_unit_and_scale_of_the_schema():
    schema = "v1;w=4;c=x:m/s2:100,y:g:1000,z:mg:1/10;f=mean"
    code = "make()\npass_ms(2000)\ntake(make())\nresult = list(window[:3])"
    assert lis(code, schema=schema, signal="lambda n: (1000, 500, 980)") == [981, 500, 98]
    x, y, z = mpu(code, schema=schema, signal="lambda n: (1000, 500, 980)")
    assert (abs(x - 981) <= 1, abs(y - 500) <= 1, z) == (True, True, 98)


def test_motion_pulls_the_line_of_a_lis3dh_until_the_window_is_read():
    code = """
    moved = [False]
    lis.signal = lambda n: (600 if moved[0] else 0, 0, 992)
    make()
    pass_ms(5000)
    lis.catch_up()
    still = lis.interrupt
    moved[0] = True
    pass_ms(100)
    lis.catch_up()
    pulled = lis.interrupt
    moved[0] = False
    pass_ms(3000)
    sensor = make()
    take(sensor)
    result = [still, pulled, lis.interrupt]
    """
    assert lis(code, motion_mg=300) == [False, True, False], "gravity is no motion: the interrupt is high-passed"


def test_motion_pulls_the_line_of_an_mpu6050():
    code = """
    moved = [False]
    mpu.signal = lambda n: (600 if moved[0] else 0, 0, 992)
    make()
    pass_ms(5000)
    mpu.catch_up()
    still = mpu.interrupt
    moved[0] = True
    pass_ms(100)
    mpu.catch_up()
    pulled = mpu.interrupt
    pass_ms(3000)
    take(make())
    result = [still, pulled, mpu.interrupt]
    """
    assert mpu(code, motion_mg=300) == [False, True, False]


def test_an_mpu6050_whose_fifo_held_out_gives_the_newest_samples():
    rows, x, _ = mpu(ASLEEP.format(ms=3000))
    assert rows == 16
    assert x == list(range(14, 30))


def test_an_mpu6050_that_ran_over_is_emptied_and_waited_for():
    """1,024 bytes are no whole number of samples: what is left of the oldest would shift every axis."""
    code = """
    make()
    pass_ms(60_000)
    mpu.catch_up()
    over = len(mpu.fifo)
    take(make())
    result = [over, [v // 16 for v in axis(0)], axis(2)]
    """
    over, x, z = mpu(code, rate_hz=200)
    assert over == 1024
    assert [(b - a) % 100 for a, b in itertools.pairwise(x)] == [1] * 15
    assert all(abs(value - 992) <= 1 for value in z)


@pytest.mark.parametrize("sensor", [LIS, MPU], ids=["lis3dh", "mpu6050"])
def test_a_chip_that_does_not_answer_or_is_another_is_named(sensor: dict[str, Any]):
    assert sensing(sensor, SCHEMA, "", "result = refusal(make)").startswith(f"SensorError: {sensor['driver']} at 0x")
    other = {"lis3dh": "chip['i2c'][0x18] = chips.Mpu6050(None)", "mpu6050": "chip['i2c'][0x68] = chips.Lis3dh(None)"}
    said = sensing(sensor, SCHEMA, other[sensor["driver"]], "result = refusal(make)")
    assert said.startswith(f"SensorError: {sensor['driver']}: chip 0x00 at 0x")


def test_a_chip_that_stops_in_the_middle_of_a_window_is_a_fault_and_no_hang():
    code = """
    sensor = make()
    lis.registers[0x20] = 0
    result = refusal(lambda: take(sensor))
    """
    assert lis(code, rate_hz=200) == "SensorError: lis3dh: 0 of 16 samples came; is its rate as configured?"
    code = "sensor = make()\ndel chip['i2c'][0x18]\nresult = refusal(lambda: take(sensor))"
    assert lis(code).startswith("SensorError: lis3dh at 0x18 does not answer")

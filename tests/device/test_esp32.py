"""device/board/esp32.py over stand-ins for `machine` and `network`, which no host has.

The stand-ins behave like the chip where the board file depends on it: RTC memory survives, deep sleep ends the program,
stock MicroPython refuses a channel. Whether the chip does so too is for a board on a desk; docs say what was tried.
"""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from contract import wire
from tests.support import chip

HOME = ("plant", b"\x01\x02\x03\x04\x05\x06", 11, -70, "secret")
FAR = ("plant", b"\x01\x02\x03\x04\x05\x07", 6, -85, "secret")
OTHER = ("guests", b"\x09\x02\x03\x04\x05\x06", 1, -40, "secret")


PINS = {"battery": 35, "wake": 33, "touch": 32, "scl": 22, "sda": 21, "adc": 34, "onewire": 4}


def on_chip(code: str, environ: dict[str, str] | None = None) -> Any:
    """`result` of code that has `machine`, `network` and a `board` of `Board` (esp32.py)."""
    whole = """
import time
import machine
import network
import esp32
from machine import chip
from network import air
from device.board import esp32 as port
from device.board.esp32 import Board
from device.errors import ConfigError, LinkError
air["points"] = %r
PINS = %r
def make(wake=None):
    return Board({"ssid": "plant", "password": "secret"}, PINS, wake)
def up(board, cache=bytes(24), ms=200):
    air["heard"].clear()
    return board.radio_up(time.ticks_add(time.ticks_ms(), ms), cache)
def asleep(board, ms=61000):
    try:
        board.deep_sleep(ms)
    except machine.Asleep:
        return esp32.armed
board = make()
chip["reset"] = machine.DEEPSLEEP_RESET
%s
""" % ([HOME, FAR, OTHER], PINS, textwrap.dedent(code))
    return chip.on_chip(whole, environ)


@pytest.mark.parametrize(
    ("reset", "wake", "cause"),
    [
        ("PWRON_RESET", 0, wire.WAKE_COLD),
        ("HARD_RESET", 0, wire.WAKE_SOFT),
        ("WDT_RESET", 0, wire.WAKE_WATCHDOG),
        ("SOFT_RESET", 0, wire.WAKE_SOFT),
        ("DEEPSLEEP_RESET", "TIMER_WAKE", wire.WAKE_TIMER),
        ("DEEPSLEEP_RESET", "EXT0_WAKE", wire.WAKE_PIN),
        ("DEEPSLEEP_RESET", "EXT1_WAKE", wire.WAKE_PIN),
        ("DEEPSLEEP_RESET", "TOUCHPAD_WAKE", wire.WAKE_TOUCH),
        ("DEEPSLEEP_RESET", "ULP_WAKE", wire.WAKE_ULP),
    ],
)
def test_each_reset_and_wake_reason_has_its_cause(reset: str, wake: str | int, cause: int):
    wake_code = f"machine.{wake}" if wake else "0"
    assert on_chip(f'chip["reset"], chip["wake"] = machine.{reset}, {wake_code}\nresult = board.wake_cause()') == cause


@pytest.mark.parametrize(
    ("name", "place", "state"),
    [
        ("ESP32", 0x3FF48034, 15 << 6 | 15),
        ("ESP32S3", 0x60008038, 15),
        ("ESP32C3", 0x60008038, 15),
        ("ESP32C6", 0x600B0410, 0x2F),
    ],
)
def test_a_brown_out_is_told_from_a_cold_start_by_the_chips_own_register(name: str, place: int, state: int):
    code = f"""
    port.CHIP = {name!r}
    result = []
    for state in ({state}, 1):
        machine.mem32[{place}] = state
        for reset in (machine.PWRON_RESET, machine.WDT_RESET):
            chip["reset"] = reset
            result.append(board.wake_cause())
    """
    brownout, after = [wire.WAKE_BROWNOUT] * 2, [wire.WAKE_COLD, wire.WAKE_WATCHDOG]
    assert on_chip(code) == brownout + after


@pytest.mark.parametrize("state", [3, 12])
def test_a_brown_out_that_esp_idf_answers_with_a_restart_is_one(state: int):
    """ESP-IDF's interrupt restarts by software and leaves a hint, of which MicroPython makes PWRON_RESET."""
    code = f"""
    machine.mem32[0x3FF48034] = {state}
    result = []
    for reset in (machine.PWRON_RESET, machine.HARD_RESET):
        chip["reset"] = reset
        result.append(board.wake_cause())
    """
    assert on_chip(code) == [wire.WAKE_BROWNOUT, wire.WAKE_SOFT]


@pytest.mark.parametrize(
    ("module", "chip_name"),
    [
        ("Generic ESP32 module with ESP32", "ESP32"),
        ("Generic ESP32 module with ESP32-D2WD", "ESP32"),
        ("Generic ESP32 module with ESP32-UNICORE", "ESP32"),
        ("TinyPICO with ESP32-PICO-D4", "ESP32"),
        ("LOLIN_S2_MINI with ESP32-S2FN4R2", "ESP32S2"),
        ("Generic ESP32S3 module with Octal-SPIRAM with ESP32S3", "ESP32S3"),
        ("FeatherS3 with ESP32-S3", "ESP32S3"),
        ("M5Stack AtomS3 Lite with ESP32-S3-FN8", "ESP32S3"),
        ("LOLIN_C3_MINI with ESP32-C3FH4", "ESP32C3"),
        ("ESP32C6 module with ESP32C6", "ESP32C6"),
        ("linux [GCC 14.2.1] version", "ESP32"),
    ],
)
def test_the_chip_of_a_module_is_known_by_whatever_name_its_board_gives_it(module: str, chip_name: str):
    assert on_chip(f"result = port.chip_of({module!r})") == chip_name


def test_a_wake_by_gpio_is_a_wake_by_the_line():
    code = 'chip["reset"], chip["wake"] = machine.DEEPSLEEP_RESET, 7\nresult = board.wake_cause()'
    assert on_chip(code) == wire.WAKE_PIN


def test_the_line_is_armed_by_level_for_its_active_level_or_its_release():
    code = """
    result = []
    for polarity in ("high", "low"):
        board = make({"line": polarity})
        for level in (0, 1):
            chip["levels"][33] = level
            result.append(board.line_active())
        for how in (0, 1, 2):
            esp32.armed.clear()
            board.arm_line(how)
            result.append(esp32.armed.get("ext1"))
    """
    assert on_chip(code) == [False, True, None, [[33], True], [[33], False]] + [
        *(True, False, None),
        *([[33], False], [[33], True]),
    ]


def test_a_c3_is_woken_by_gpio_where_its_micropython_can():
    code = """
    port.CHIP = "ESP32C3"
    try:
        make({"line": "high"})
        result = ["made"]
    except ConfigError as error:
        result = [str(error)]
    esp32.add_wake_on_gpio()
    make({"line": "high"}).arm_line(1)
    result.append(esp32.armed)
    """
    said, armed = on_chip(code)
    assert said == "wake_line needs a MicroPython with esp32.wake_on_gpio on a C3: 1.27 or later"
    assert armed == {"gpio": [[33], True]}


def test_a_board_without_line_touch_or_ulp_sleeps_by_its_timer_alone():
    assert on_chip("board.arm_line(1)\nresult = [board.line_active(), asleep(board)]") == [None, {}]


def test_touch_and_ulp_are_armed_where_the_configuration_asks_for_them():
    code = 'result = [asleep(make({"touch": 400, "ulp": True})), chip["touch"].get(32)]'
    assert on_chip(code) == [{"touch": True, "ulp": True}, 400]


def test_a_chip_that_touch_cannot_wake_says_so_before_it_sleeps():
    """ports/esp32/machine_touchpad.c: config() of an S2 or S3 takes the threshold and does nothing with it."""
    code = """
    result = []
    for name, pins in (("ESP32S3", {"touch": 5}), ("ESP32C3", {"touch": None})):
        port.CHIP = name
        try:
            Board(None, pins, {"touch": 400})
        except ConfigError as error:
            result.append(str(error))
    """
    assert on_chip(code) == [
        "MicroPython sets no threshold for touch on ESP32S3",
        "main.py names no pin for touch on ESP32C3",
    ]


@pytest.mark.parametrize(
    ("reset", "waited"), [("PWRON_RESET", [3000]), ("DEEPSLEEP_RESET", []), ("HARD_RESET", []), ("WDT_RESET", [])]
)
def test_a_board_whose_reset_was_pressed_can_be_interrupted_before_it_sleeps(reset: str, waited: list[int]):
    code = f"""
    chip["reset"], waited = machine.{reset}, []
    class Time:
        sleep_ms = waited.append
    port.time = Time
    asleep(board)
    result = [waited, sum(waited) + chip["asked_ms"]]
    """
    assert on_chip(code) == [waited, 61000]


def test_a_board_sleeps_whatever_becomes_of_its_wake_sources():
    code = """
    def refuse(on):
        raise ValueError("no resources")
    esp32.wake_on_touch = refuse
    result = [asleep(make({"touch": 400})), chip["asked_ms"]]
    """
    assert on_chip(code) == [{}, 61000]


@pytest.mark.parametrize(
    ("reset", "said", "asked_ms"),
    [("PWRON_RESET", 11, 597_000), ("HARD_RESET", 11, 600_000), ("DEEPSLEEP_RESET", 1, 600_000)],
)
def test_a_board_that_cannot_run_can_be_read_and_interrupted_after_a_reset(
    reset: str, said: int, asked_ms: int, tmp_path: Path
):
    """Without config.json; a chip with USB of its own is gone from the bus while it sleeps."""
    code = f"""
    import main
    told, waited = [], []
    class Sys:
        print_exception = told.append
    class Time:
        sleep = waited.append
    chip["reset"] = machine.{reset}
    main.port, main.sys, port.sys = port, Sys, Sys
    real, port.time = port.time, Time
    Time.time_ns, Time.ticks_ms, Time.sleep_ms = real.time_ns, real.ticks_ms, print
    try:
        main.main()
    except machine.Asleep:
        pass
    result = [len(told), sum(waited), chip["asked_ms"]]
    """
    assert on_chip(code, {"EDGEWISE_BOARD_DIR": str(tmp_path)}) == [said, said - 1, asked_ms]


def test_a_role_without_a_pin_is_named():
    code = """
    result = []
    bare = Board(None)
    for bus in (bare.i2c, bare.adc, bare.onewire, bare.ulp, lambda: Board(None, None, {"line": "high"})):
        try:
            bus()
        except ConfigError as error:
            result.append(str(error).split(" on ")[0])
    """
    assert on_chip(code) == [f"main.py names no pin for {role}" for role in ("scl", "adc", "onewire", "adc", "wake")]


def test_rtc_memory_comes_back_whole_after_deep_sleep():
    code = """
    board.rtc_write(bytes(range(256)) * 8)
    try:
        board.deep_sleep(61000)
    except machine.Asleep:
        pass
    buf = bytearray(2048)
    size = make().rtc_read_into(buf)
    result = [size, buf == bytes(range(256)) * 8, chip["asked_ms"]]
    """
    assert on_chip(code) == [2048, True, 61000]


def test_rtc_memory_of_a_new_board_is_empty():
    assert on_chip("result = board.rtc_read_into(bytearray(2048))") == 0


def test_the_clock_starts_far_from_zero_and_runs_with_the_ticks():
    code = """
    before = board.now_ms()
    time.sleep_ms(30)
    result = [board.woke_ms > 1 << 41, board.now_ms() - before]
    """
    positive, passed = on_chip(code)
    assert positive
    assert 30 <= passed < 100


def test_the_rtc_has_a_date_for_tls_until_the_radio_is_off_and_then_what_it_counted_before():
    code = """
    up(board)
    board.set_date((2026, 5, 6, 7, 8, 9))
    result = [chip["datetime"]]
    board.radio_down()
    after_ms = board.now_ms() - port.CLOCK_START_MS
    year, month, day, _, hour, minute, second, us = chip.pop("datetime")
    result.append([year, month, day, hour, minute, second] in [
        list(time.gmtime(ms // 1000)[:6]) for ms in (after_ms - 20, after_ms)])
    result.append((after_ms - us // 1000) % 1000 < 20)
    board.radio_down()
    result.append("datetime" in chip)
    """
    assert on_chip(code) == [[2026, 5, 6, 0, 7, 8, 9, 0], True, True, False]


def test_the_battery_is_measured_behind_its_divider():
    assert on_chip("result = board.battery_mv()") == 3900
    assert on_chip("result = Board(None).battery_mv()") == 0


def test_the_first_association_scans_and_takes_the_strongest_point_of_its_network():
    heard = on_chip('up(board)\nresult = [list(step) if step != "scan" else step for step in map(str, air["heard"])]')
    assert "scan" in "".join(heard[0])
    assert on_chip('up(board)\nresult = [board.rssi(), board.dns_server(), air["heard"][-1][1] == %r]' % HOME[1]) == [
        -70,
        ["10.1.2.2", 53],
        True,
    ]


def test_the_next_association_needs_neither_scan_nor_dhcp():
    code = """
    cache = up(board)
    board.radio_down()
    again = up(make(), cache)
    result = [len(cache), again == cache, [str(step) for step in air["heard"]]]
    """
    assert on_chip(code) == [24, True, [str(("connect", HOME[1], None, "static"))]]


def test_the_channel_is_given_where_the_firmware_takes_it():
    code = """
    air["takes_channel"] = True
    cache = up(board)
    up(make(), cache)
    result = [str(step) for step in air["heard"]]
    """
    assert on_chip(code) == [str(("connect", HOME[1], 11, "static"))]


def test_a_point_that_moved_is_found_again_within_the_same_deadline():
    code = f"""
    cache = up(board)
    air["points"] = [{("plant", b"mooved", 3, -60, "secret")!r}]
    began = time.ticks_ms()
    fresh = up(make(), cache, 400)
    took = time.ticks_diff(time.ticks_ms(), began)
    result = [fresh != cache, fresh[1:7] == b"mooved", took, [str(step) for step in air["heard"]]]
    """
    changed, found, took, heard = on_chip(code)
    assert changed
    assert found
    assert 200 <= took < 400, "half the time for the short way"
    assert heard == [
        str(("connect", HOME[1], None, "static")),
        "scan",
        str(("connect", b"mooved", None, "dhcp")),
    ]


def test_a_lease_is_not_used_beyond_half_a_day():
    code = """
    cache = up(board)
    later = make()
    later.woke_ms += 12 * 3600 * 1000
    up(later, cache)
    earlier = make()
    earlier.woke_ms -= 3600 * 1000
    first = air["heard"][0]
    up(earlier, cache)
    result = [first, air["heard"][0]]
    """
    assert on_chip(code) == ["scan", "scan"], "nor after the clock was set back"


@pytest.mark.parametrize(
    ("world", "detail"),
    [
        ('air["points"] = []', "no access point of plant"),
        ('air["points"] = [("plant", b"123456", 1, -50, "other")]', "status 201"),
    ],
    ids=["nothing there", "wrong password"],
)
def test_without_a_network_the_deadline_ends_it(world: str, detail: str):
    code = f"""
    {world}
    began = time.ticks_ms()
    try:
        up(board)
        result = "up"
    except LinkError as error:
        result = [error.fault, error.detail, time.ticks_diff(time.ticks_ms(), began)]
    """
    fault, said, took = on_chip(code)
    assert (fault, said) == (wire.FAULT_RADIO, detail)
    assert took < 300


@pytest.mark.parametrize(
    "raised", ['OSError("Wifi Internal State Error")', 'RuntimeError("Wifi Unknown Error 0x0101")']
)
def test_what_the_wifi_driver_refuses_is_a_fault_of_the_radio_and_not_of_the_flash(raised: str):
    code = f"""
    air["raises"] = {raised}
    try:
        up(board)
    except LinkError as error:
        result = [error.fault, error.detail]
    """
    assert on_chip(code) == [wire.FAULT_RADIO, raised.split('"')[1]]


def test_a_session_does_not_fail_for_an_access_point_that_went_at_its_end():
    code = """
    up(board)
    board._wlan.disconnect()
    result = board.rssi()
    """
    assert on_chip(code) == 0


def test_the_watchdog_outlasts_the_longest_silence_of_a_session():
    assert on_chip('board.watchdog_feed()\nresult = [chip["watchdog_ms"] > 20_000, chip["fed"]]') == [True, 1]

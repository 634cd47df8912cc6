"""device/board/esp32.py over stand-ins for `machine` and `network`, which no host has.

The stand-ins behave like the chip where the board file depends on it: RTC memory survives, deep sleep ends the program,
stock MicroPython refuses a channel. Whether the chip does so too is for a board on a desk; docs say what was tried.
"""

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from contract import wire
from tools.firmware import FIRMWARE, program

FAKES = Path(__file__).parent / "fake_esp32"
HOME = ("plant", b"\x01\x02\x03\x04\x05\x06", 11, -70, "secret")
FAR = ("plant", b"\x01\x02\x03\x04\x05\x07", 6, -85, "secret")
OTHER = ("guests", b"\x09\x02\x03\x04\x05\x06", 1, -40, "secret")


def on_chip(code: str) -> Any:
    """`result` of code that has `machine`, `network` and a `board` of `Board` (esp32.py)."""
    whole = """
import time
import machine
import network
from machine import chip
from network import air
from device.board.esp32 import Board
from device.errors import LinkError
air["points"] = %r
def make():
    return Board({"ssid": "plant", "password": "secret"}, battery_pin=35, battery_divider=2)
def up(board, cache=bytes(24), ms=200):
    air["heard"].clear()
    return board.radio_up(time.ticks_add(time.ticks_ms(), ms), cache)
board = make()
%s
import json
print(json.dumps(result))
""" % ([HOME, FAR, OTHER], textwrap.dedent(code))
    environ = os.environ | {"MICROPYPATH": os.pathsep.join((str(FAKES), str(FIRMWARE), ".frozen"))}
    command = [program("micropython"), "-X", "heapsize=2M", "-c", whole]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("reset", "wake", "cause"),
    [
        ("PWRON_RESET", 0, wire.WAKE_COLD),
        ("HARD_RESET", 0, wire.WAKE_COLD),
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


def test_the_watchdog_outlasts_the_longest_silence_of_a_session():
    assert on_chip('board.watchdog_feed()\nresult = [chip["watchdog_ms"] > 20_000, chip["fed"]]') == [True, 1]

"""main.py on the fake chip: the very firmware boots, gathers while it sleeps, and is woken by its sensor.

One process is one life of the board: each wake is main.main() until deep sleep. There is no broker; the sessions fail.
"""

import json
from pathlib import Path
from typing import Any

from contract import wire
from tests.support.chip import on_chip

SCHEMA = "v1;w=16;c=x:mg:1,y:mg:1,z:mg:1;f=mean,max"
CONFIG: dict[str, Any] = {
    "device": "pump-1",
    "kind": "pump",
    "schema": SCHEMA,
    "sensor": {"driver": "lis3dh", "rate_hz": 10, "motion_mg": 200},
    "broker": {"host": "127.0.0.1", "port": 1},
    "wifi": {"ssid": "plant", "password": "secret"},
    "limits": {"x.max": [-150, 150]},
    "interval_ms": 60_000,
    "settings": {"sync_interval_ms": 86_400_000},
    "log": True,
}

WAKES = """
import chips
import machine
from machine import chip, pass_ms
from device.board import esp32 as port
port.ROOT = port.Board.root = {root!r}
port._WATCHDOG_MS = 60000
import main
main.port = port
main.PINS = {{"ESP32": {{"scl": 22, "sda": 21, "wake": 33}}}}
port.CHIP = "ESP32"
class Clock:
    time_ns = staticmethod(lambda: machine.now_ms() * 1000000)
    ticks_ms = port.time.ticks_ms
    ticks_diff = port.time.ticks_diff
    sleep_ms = staticmethod(pass_ms)
port.time = Clock
def no_session(parts):
    told.append(parts.outbox.holds(3))
    parts.state.next_sync_ms = parts.board.now_ms() + 86400000
told = []
main.hold_session = no_session
lis = chip["i2c"][0x18] = chips.Lis3dh(lambda n: (0, 0, 992))
seen = []
run = main.cycle.run
def spied(parts):
    seen.append(parts)
    run(parts)
main.cycle.run = spied
def wake(reset, reason=0):
    '''One life; [rows recorded, sessions, how the line is armed, ms asked for].'''
    chip["reset"], chip["wake"] = reset, reason
    lis.catch_up()
    chip["levels"][33] = int(lis.interrupt)
    sessions = len(told)
    port.esp32.armed.clear()
    try:
        main.main()
    except machine.Asleep:
        pass
    parts = seen[-1]
    state = parts.state
    return [state.next_seq[-1], len(told) - sessions, port.esp32.armed.get("ext1"), chip["asked_ms"], parts.cause]
{code}
"""


def live(folder: Path, code: str, **changes: Any) -> Any:
    (folder / "outbox").mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    host = folder / "host"
    (host / "flash").mkdir(parents=True)
    return on_chip(WAKES.format(root=str(folder), code=code), {"EDGEWISE_BOARD_DIR": str(host)})


def test_a_motion_wakes_the_board_which_scores_it_and_talks(tmp_path: Path):
    code = """
result = [wake(machine.PWRON_RESET)]
pass_ms(60000)
result.append(wake(machine.DEEPSLEEP_RESET, machine.TIMER_WAKE))
lis.signal = lambda n: (500, 0, 992)
pass_ms(1600)
result.append(wake(machine.DEEPSLEEP_RESET, machine.EXT1_WAKE))
result.append(told)
"""
    cold, timer, motion, told = live(tmp_path, code)
    assert cold[0] == 0, "the FIFO has only begun to fill"
    assert cold[2] == [[33], True]
    assert timer[0] == 16
    assert timer[1] == 0
    assert motion[4] == wire.WAKE_PIN
    assert motion[0] == 32
    assert motion[1] == 1, "an anomaly brings its session in the same wake"
    assert told[-1]
    assert 57_000 < motion[3] <= 60_000, "an interval from this wake on"


def test_a_machine_that_does_not_stop_moving_costs_a_bounded_number_of_wakes(tmp_path: Path):
    code = """
wake(machine.PWRON_RESET)
count = [0]
def shaking(n):
    return (400 if n % 2 else -400, 0, 992)
lis.signal = shaking
wakes = 0
result = []
for _ in range(20):
    pass_ms(1600)
    lis.catch_up()
    done = wake(machine.DEEPSLEEP_RESET, machine.EXT1_WAKE)
    wakes += 1
    if done[2] is None:
        break
result = [wakes, done[3]]
pass_ms(60000)
result.append(wake(machine.DEEPSLEEP_RESET, machine.TIMER_WAKE)[2])
"""
    wakes, asked_ms, armed = live(tmp_path, code)
    assert wakes == 8
    assert 40_000 < asked_ms <= 60_000, "then the timer alone"
    assert armed is not None


def test_a_sensor_that_is_gone_does_not_keep_the_board_from_its_sleep(tmp_path: Path):
    code = """
wake(machine.PWRON_RESET)
del chip["i2c"][0x18]
pass_ms(60000)
done = wake(machine.DEEPSLEEP_RESET, machine.TIMER_WAKE)
result = [done[0], done[3], seen[-1].state.faults[9]]
"""
    rows, asked_ms, faults = live(tmp_path, code)
    assert rows == 0
    assert asked_ms > 50_000
    assert faults == 1


def test_a_window_of_a_slow_sensor_is_taken_in_the_wake(tmp_path: Path):
    code = """
chip["i2c"][0x44] = chips.Sht31(lambda n: (0x6666 + n, 0x8000))
wake(machine.PWRON_RESET)
pass_ms(60000)
done = wake(machine.DEEPSLEEP_RESET, machine.TIMER_WAKE)
state = seen[-1].state
result = [done[0], list(state.last_values)[:2], state.last_step_ms]
"""
    schema = "v1;w=4;c=t:degC:100,rh:%:100;f=mean"
    rows, values, step_ms = live(tmp_path, code, schema=schema, sensor={"driver": "sht31"}, limits={})
    assert rows == 4
    assert values == [2501, 5000]
    assert step_ms == 20

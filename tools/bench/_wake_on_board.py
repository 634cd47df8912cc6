"""Run by wake.py under MicroPython: wakes in one process, and what each step of them takes, as JSON.

argv[1]: how many wakes. EDGEWISE_BOARD_DIR names a board that reaches no cloud.
"""

# ruff: noqa: ANN001, ANN002, ANN202
# pyright: basic, reportAttributeAccessIssue=false, reportMissingImports=false
import gc
import json
import sys
import time

import main

from contract.wire import WAKE_COLD, WAKE_TIMER
from device import cycle
from device.board.host import Board

STEPS = (
    "wake",
    "update_model",
    "choose_detector",
    "sample",
    "compute_features",
    "score",
    "record_verdict",
    "buffer",
    "sync_reason",
    "sleep",
)
took_us: dict[str, int] = {}


class Asleep(BaseException):
    pass


def deep_sleep(_board, _sleep_ms):
    raise Asleep


def timed(name, step):
    def run(*arguments):
        began = time.ticks_us()
        try:
            return step(*arguments)
        finally:
            took_us[name] = took_us.get(name, 0) + time.ticks_diff(time.ticks_us(), began)

    return run


Board.deep_sleep = deep_sleep
for name in STEPS:
    setattr(cycle, name, timed(name, getattr(cycle, name)))
make_parts = timed("make_parts", main.make_parts)
causes = [WAKE_COLD] + [WAKE_TIMER] * (int(sys.argv[1]) - 1)
Board.wake_cause = lambda _board: causes[0]
while causes:
    parts = make_parts()
    parts.hold_session = lambda _parts: None
    try:
        cycle.run(parts)
    except Asleep:
        causes.pop(0)
    gc.collect()
print(json.dumps(took_us))

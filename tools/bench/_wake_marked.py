"""Run by _instructions.py under callgrind: one wake of the frozen firmware, with a mark between its steps.

At a mark callgrind writes down what was executed since the last one. It is told to do so at a C function that the
firmware never calls, the one behind micropython.opt_level(). The names of the marks go to the file `marks`, as JSON.
"""

# ruff: noqa: ANN001, ANN002, ANN202, E402
# pyright: basic, reportAttributeAccessIssue=false, reportMissingImports=false
import json
import os
import sys

import micropython

marks: list[str] = []


def mark(name):
    marks.append(name)
    micropython.opt_level()


mark("start of MicroPython")
sys.path[:] = [".frozen"]

import main

from device import cycle
from device.board.host import Board

mark("imports")


def marked(name, step):
    def run(*arguments):
        mark("rest")
        result = step(*arguments)
        mark(name)
        return result

    return run


def marked_sleep(board, sleep_ms):
    mark("sleep")
    with open(str(os.getenv("EDGEWISE_BOARD_DIR")) + "/marks", "w") as file:
        json.dump(marks, file)
    deep_sleep(board, sleep_ms)


deep_sleep = Board.deep_sleep
Board.deep_sleep = marked_sleep
main.make_parts = marked("parts", main.make_parts)
main.hold_session = marked("sync", main.hold_session)
for step, function in (
    ("wake", "wake"),
    ("model", "update_model"),
    ("model", "choose_detector"),
    ("sample", "sample"),
    ("features", "compute_features"),
    ("score", "score"),
    ("route", "record_verdict"),
    ("buffer", "buffer"),
    ("sync", "sync_reason"),
):
    setattr(cycle, function, marked(step, getattr(cycle, function)))
main.main()

"""One wake of the frozen firmware in which one allocation finds no memory: the one that the file `scarce` of the board
names, counted from the first line of main(). As it goes to sleep the board notes there how many there were.
"""

# ruff: noqa: E402 - first where to look, then what for
import os
import sys

sys.path[:] = [".frozen"]

import main
import scarce

from device.board import host

NOTE = os.getenv("EDGEWISE_BOARD_DIR") + "/scarce"
with open(NOTE) as file:
    number = int(file.read())
deep_sleep = host.Board.deep_sleep


def counted_sleep(board, sleep_ms):
    allocations = scarce.count()
    scarce.fail(-1)
    with open(NOTE, "w") as file:
        file.write(str(allocations))
    deep_sleep(board, sleep_ms)


host.Board.deep_sleep = counted_sleep
scarce.fail(number)
main.main()

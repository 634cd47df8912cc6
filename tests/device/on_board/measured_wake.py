"""One wake of the frozen firmware that notes, as it goes to sleep, what its heap holds: bytes used and bytes free."""

# ruff: noqa: E402 - first where to look, then what for
import gc
import os
import sys

sys.path[:] = [".frozen"]

import main

from device.board import host

deep_sleep = host.Board.deep_sleep


def measured_sleep(board, sleep_ms):
    gc.collect()
    with open(os.getenv("EDGEWISE_BOARD_DIR") + "/heap", "a") as notes:
        notes.write("%d %d\n" % (gc.mem_alloc(), gc.mem_free()))
    deep_sleep(board, sleep_ms)


host.Board.deep_sleep = measured_sleep
main.main()

"""The process in which simulated boards wake: forks one child per wake, with the firmware already in memory.

    python -I -S tools/wake_server.py IMAGE MODULES
    python -I -S tools/wake_server.py PROGRAM

IMAGE is a ROM image (tools/rom.py), MODULES the folder that holds MicroPython's extension module. A child costs well
under a millisecond, where starting the `micropython` command costs 15 to 20. The image is mapped as an ESP32 maps its
flash: modules run from it in place, and the heap holds only what a board's heap would. PROGRAM is a MicroPython with
the firmware frozen in (tools/frozen_port.py): started anew for each wake it takes half the time of the image, which has
to be searched for modules and their names put into the heap.

One JSON object per line. In: {"id", "folder", "heap"} begins a wake, {"kill": id} ends one with SIGKILL. Out: {"id",
"status", "cpu_s"} when it has ended; status as of a shell, negative for a signal. Ends, and ends its children, at the
end of input.
"""

import ctypes
import json
import mmap
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

RunBoard = Callable[[str, str], int]

LOG_NAME = "log.txt"
START = "import main;main.main()"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    serve(run_program(sys.argv[1]) if len(sys.argv) == 2 else run_image(*sys.argv[1:]))


def run_image(image: str, modules: str) -> RunBoard:
    """How to run a wake in a forked copy of this process, from a ROM image that is mapped once."""
    sys.path.insert(0, modules)
    import micropython_module

    with open(image, "rb") as file:
        rom = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(rom))

    def run_board(folder: str, heap: str) -> int:
        settle(folder)
        start = (  # here, so that this function holds on to `rom`
            f"import uctypes,vfs,sys;vfs.mount(vfs.VfsRom(uctypes.bytearray_at({address},{len(rom)})),'/rom');"
            f"sys.path[:]=['/rom'];{START}"
        )
        return micropython_module.run_main(["micropython", "-X", "heapsize=" + heap, "-c", start])

    return run_board


def run_program(program: str) -> RunBoard:
    """How to run a wake in a program that has the firmware in it."""

    def run_board(folder: str, heap: str) -> int:
        settle(folder)
        start = "import sys;sys.path[:]=['.frozen'];" + START  # nothing is looked for in a folder first
        os.execv(program, [program, "-X", "heapsize=" + heap, "-c", start])

    return run_board


def settle(folder: str) -> None:
    """Make this process one of the board in `folder`: its log, and where it looks for its state."""
    log = os.open(os.path.join(folder, LOG_NAME), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.environ["EDGEWISE_BOARD_DIR"] = folder


def serve(run_board: RunBoard) -> None:
    """Take orders from standard input until it ends."""
    bell, ring = os.pipe()
    os.set_blocking(ring, False)
    os.set_blocking(bell, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(ring)
    running: dict[int, int] = {}  # pid: id
    orders = b""
    while True:
        ready, _, _ = select.select([0, bell], [], [])
        if bell in ready:
            os.read(bell, 4096)
            report_ended(running)
        if 0 in ready:
            part = os.read(0, 65536)
            if not part:
                break
            *lines, orders = (orders + part).split(b"\n")
            for line in lines:
                obey(json.loads(line), running, run_board)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def obey(order: dict[str, Any], running: dict[int, int], run_board: RunBoard) -> None:
    """Begin a wake or end one."""
    if "kill" in order:
        for pid, number in running.items():
            if number == order["kill"]:
                os.kill(pid, signal.SIGKILL)
        return
    pid = os.fork()
    if pid:
        running[pid] = order["id"]
        return
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no board outlives this process, however it ends
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        status = run_board(order["folder"], order["heap"])
    finally:
        os._exit(status & 0xFF)


def report_ended(running: dict[int, int]) -> None:
    """Reap the children that have ended and say so."""
    while running:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        report = {
            "id": running.pop(pid),
            "status": os.waitstatus_to_exitcode(status),
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }
        os.write(1, json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    main()

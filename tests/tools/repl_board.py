"""A board for mpremote: a real MicroPython at the far end of a serial line, whose files are a folder.

The unix port has the raw REPL but three things a board does are its supervisor's job here: a soft reset (Ctrl-D at an
empty raw prompt) starts a new interpreter, so do machine.reset() and machine.deepsleep(), which end the old one, and
the watchdog of a firmware that was interrupted bites. As on an ESP32 it outlives a soft reset and cannot be stopped,
but another WDT gives it another time (ports/esp32/main.c and machine_wdt.c).
"""

import os
import pty
import select
import subprocess
import threading
import time
import tty
from pathlib import Path

LONGEST_COPY_MS = 600_000
RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
MACHINE = """
import sys


class WDT:
    def __init__(self, timeout):
        with open(%r, "w") as file:
            file.write(str(timeout))


def reset():
    sys.exit(0)


def deepsleep(_time_ms):
    sys.exit(0)
"""


class ReplBoard:
    """`port` is what mpremote connects to; `files` is the board's flash. Use as a context manager.

    watched: the firmware that mpremote interrupts has a watchdog, whose time is over in the midst of copying.
    """

    def __init__(self, micropython: str, folder: Path, module_path: str, watched: bool = False) -> None:
        self.files = folder / "flash"
        self.files.mkdir()
        modules = folder / "frozen"
        modules.mkdir()
        self._watchdog = folder / "watchdog"
        (modules / "machine.py").write_text(MACHINE % str(self._watchdog))
        self._watched = watched
        self.starts = 0
        self._command = micropython
        self._environment = {"PATH": os.environ["PATH"], "MICROPYPATH": f"{modules}:{module_path}:.frozen"}
        self._stop_read, self._stop_write = os.pipe()
        self._line, self._line_end = pty.openpty()
        tty.setraw(self._line_end)
        self.port = os.ttyname(self._line_end)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "ReplBoard":
        self._start_interpreter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(10)
        self._end_interpreter()
        for descriptor in (self._stop_read, self._stop_write, self._line, self._line_end):
            os.close(descriptor)

    def wait_for_starts(self, count: int, deadline_s: float = 10) -> bool:
        """True when the interpreter has been started `count` times within the deadline."""
        end = time.monotonic() + deadline_s
        while self.starts < count and time.monotonic() < end:
            time.sleep(0.02)
        return self.starts >= count

    def _start_interpreter(self) -> None:
        self._console, end = pty.openpty()
        tty.setraw(end)
        self._process = subprocess.Popen(
            [self._command], stdin=end, stdout=end, stderr=end, cwd=self.files, env=self._environment
        )
        os.close(end)
        self.starts += 1

    def _end_interpreter(self) -> None:
        self._process.kill()
        self._process.wait(10)
        os.close(self._console)

    def _run(self) -> None:
        last = b""
        while True:
            ready, _, _ = select.select([self._stop_read, self._line, self._console], [], [])
            if self._stop_read in ready:
                return
            if self._bitten() or (self._console in ready and not self._forward_console()):
                self._watched = False
                self._end_interpreter()
                self._start_interpreter()
                continue
            if self._line in ready:
                data = os.read(self._line, 4096)
                if data == b"\x04" and last == b"\x01":
                    self._soft_reset()
                else:
                    os.write(self._console, data)
                last = data[-1:]

    def _bitten(self) -> bool:
        given = int(self._watchdog.read_text() or 0) if self._watchdog.exists() else 0
        return self._watched and given < LONGEST_COPY_MS and (self.files / "contract").exists()

    def _forward_console(self) -> bool:
        try:
            data = os.read(self._console, 4096)
        except OSError:  # the interpreter has closed its end
            return False
        os.write(self._line, data)
        return bool(data)

    def _soft_reset(self) -> None:
        self._end_interpreter()
        self._start_interpreter()
        self._read_until(b">>> ")
        os.write(self._console, b"\x01")
        self._read_until(RAW_BANNER)
        os.write(self._line, b"OK\r\nMPY: soft reboot\r\n" + RAW_BANNER)

    def _read_until(self, end: bytes) -> None:
        seen = b""
        while not seen.endswith(end):
            if not select.select([self._console], [], [], 10)[0]:
                raise TimeoutError(f"MicroPython printed {seen!r}, not {end!r}")
            seen += os.read(self._console, 4096)

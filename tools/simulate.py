"""Run simulated boards: the real firmware under MicroPython, one process per wake.

A board's process ends when it goes to deep sleep. The supervisor here then waits for what the board asked for, divided
by `speed`, and starts the next one. What the board keeps is in its folder (firmware/device/board/host.py,
tools/provision.py); a process killed at any point is a board that lost its power or hung at that point.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from contract import wire
from tools import firmware, umqtt

HEAP = "96k"
WAKE_DEADLINE_S = 60.0  # then the watchdog bites
_CACHE = firmware.ROOT / "build" / "firmware-host"
_KEPT_BUILDS = 4
_LOG_TAIL_BYTES = 2000


class BoardFailed(Exception):
    """A board's process ended in another way than deep sleep; `log` is the end of what it printed."""

    def __init__(self, device: str, status: int, log: str) -> None:
        self.device = device
        self.status = status
        self.log = log
        super().__init__(f"board {device} ended with status {status} instead of deep sleep. Its log ends:\n{log}")


@dataclass(frozen=True)
class Wake:
    """One wake of one board. cause WAKE_*; clock_ms: the board's clock as it went to sleep."""

    cause: int
    clock_ms: int
    sleep_ms: int
    cpu_s: float
    wall_s: float


@dataclass
class Totals:
    """Sums over a board's wakes."""

    wakes: int = 0
    hangs: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    by_cause: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, wake: Wake) -> None:
        self.wakes += 1
        self.cpu_s += wake.cpu_s
        self.wall_s += wake.wall_s
        self.by_cause[wake.cause] = self.by_cause.get(wake.cause, 0) + 1


def build_firmware() -> Path:
    """The folder of the firmware compiled for this machine, compiled now unless these very sources were before."""
    files = firmware.firmware_files(firmware.HOST_ARCH)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.target.encode() + b"\0" + file.source.read_bytes())
    target = _CACHE / digest.hexdigest()[:16]
    if target.is_dir():
        os.utime(target)
        return target
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as work:
        built = Path(work) / "firmware"
        firmware.build(built, firmware.HOST_ARCH)
        try:
            built.rename(target)
        except OSError:  # somebody else was faster
            if not target.is_dir():
                raise
    for old in sorted(_CACHE.iterdir(), key=lambda path: path.stat().st_mtime)[:-_KEPT_BUILDS]:
        shutil.rmtree(old, ignore_errors=True)
    return target


class Places:
    """Room for `count` boards to be awake at once: more of them than cores make every wake look long."""

    def __init__(self, count: int) -> None:
        self.free = asyncio.Semaphore(count)
        self.pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="board")


class SimulatedBoard:
    """One board, in the folder that tools/provision.py made. `speed`: seconds of deep sleep per second that passes.

    `totals` sums over its wakes; `on_wake` is called after each. The board is asleep whenever no process of it runs.
    """

    def __init__(
        self,
        folder: Path,
        places: "Places",
        speed: float = 1.0,
        on_wake: Callable[["SimulatedBoard", Wake], None] | None = None,
        heap: str = HEAP,
    ) -> None:
        self.folder = folder
        self.device = str(json.loads((folder / "flash" / "config.json").read_text())["device"])
        self.totals = Totals()
        self.last: Wake | None = None
        self._places = places
        self._speed = speed
        self._on_wake = on_wake
        self._command = [firmware.program("micropython"), "-X", f"heapsize={heap}", str(build_firmware() / "main.py")]
        self._process: subprocess.Popen[bytes] | None = None
        self._called = asyncio.Event()
        self._cause: int | None = None

    async def run(self, wakes: int | None = None, until_ms: int | None = None) -> None:
        """Wake and sleep: `wakes` times, until the board's clock reaches until_ms, or for ever. Raises BoardFailed."""
        target = None if wakes is None else self.totals.wakes + wakes
        while True:
            await self._sleep()
            wake = await self.wake()
            if wake is None:
                continue
            if target is not None and self.totals.wakes >= target:
                return
            if until_ms is not None and wake.clock_ms >= until_ms:
                return

    async def wake(self) -> Wake | None:
        """One wake, from power-on or the end of a sleep to the next sleep; None when it was cut short.

        A process over WAKE_DEADLINE_S is killed, and the next wake is the watchdog's. Raises BoardFailed.
        """
        before = self._read_wake()
        async with self._places.free:
            began = time.monotonic()
            status, usage = await self._finish(self._start())
            wall_s = time.monotonic() - began
        after = self._read_wake()
        if status == -signal.SIGKILL:
            if wall_s >= WAKE_DEADLINE_S:
                self.totals.hangs += 1
                self._write_wake({**before, "cause": wire.WAKE_WATCHDOG, "slept_ms": round(wall_s * 1000)})
            return None
        if status != 0 or after.get("n") == before.get("n"):
            raise BoardFailed(self.device, status, self._log_tail())
        cause = before.get("cause", wire.WAKE_TIMER) if before else wire.WAKE_COLD
        wake = Wake(cause, after["clock_ms"], after["sleep_ms"], usage.ru_utime + usage.ru_stime, wall_s)
        self.last = wake
        self.totals.add(wake)
        if self._on_wake:
            self._on_wake(self, wake)
        return wake

    def call(self, cause: int = wire.WAKE_PIN) -> None:
        """End the board's sleep now for another reason than its timer, such as its button."""
        self._cause = cause
        self._called.set()

    def cut_power(self) -> None:
        """Take the power away: a running wake ends where it is, RTC memory and clock are lost, flash stays."""
        self.kill()
        (self.folder / "rtc.bin").unlink(missing_ok=True)
        (self.folder / "wake.json").unlink(missing_ok=True)
        self._called.set()

    def kill(self) -> None:
        """End a running wake where it is."""
        if self._process is not None:
            self._process.kill()

    async def _sleep(self) -> None:
        """Pass the time the board asked for, or less when it is called or loses its power meanwhile."""
        asked = self._read_wake()
        if not asked or self._cause is not None:
            return
        self._called.clear()
        began = time.monotonic()
        try:
            await asyncio.wait_for(self._called.wait(), asked["sleep_ms"] / 1000 / self._speed)
        except TimeoutError:
            return
        if self._cause is not None:
            slept_ms = min(asked["sleep_ms"], round((time.monotonic() - began) * 1000 * self._speed))
            self._write_wake({**asked, "cause": self._cause, "slept_ms": slept_ms})
            self._cause = None

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join((str(Path(self._command[-1]).parent), str(umqtt.TARGET), ".frozen"))
        environment = os.environ | {"EDGEWISE_BOARD_DIR": str(self.folder), "MICROPYPATH": path}
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )
        return self._process

    async def _finish(self, process: subprocess.Popen[bytes]) -> tuple[int, resource.struct_rusage]:
        """The exit status, negative for a signal, and what the process used; kills it at the deadline or on cancel."""
        waiting = asyncio.get_running_loop().run_in_executor(self._places.pool, os.wait4, process.pid, 0)
        try:
            _, status, usage = await asyncio.wait_for(asyncio.shield(waiting), WAKE_DEADLINE_S)
        except (TimeoutError, asyncio.CancelledError) as ended:
            os.kill(process.pid, signal.SIGKILL)
            _, status, usage = await waiting
            if isinstance(ended, asyncio.CancelledError):
                raise
        finally:
            self._process = None
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, usage

    def _read_wake(self) -> dict[str, int]:
        try:
            return json.loads((self.folder / "wake.json").read_text())
        except FileNotFoundError:
            return {}

    def _write_wake(self, wake: dict[str, int]) -> None:
        fresh = self.folder / "wake.new"
        fresh.write_text(json.dumps(wake))
        fresh.rename(self.folder / "wake.json")

    def _log_tail(self) -> str:
        return (self.folder / "log.txt").read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")


@contextlib.asynccontextmanager
async def supervised(
    folders: Iterable[Path],
    speed: float = 1.0,
    parallel: int = 8,
    on_wake: Callable[[SimulatedBoard, Wake], None] | None = None,
) -> AsyncGenerator[list[SimulatedBoard]]:
    """The boards of some folders, at most `parallel` of them awake at once; none runs on after the block."""
    places = Places(parallel)
    boards = [SimulatedBoard(folder, places, speed, on_wake) for folder in folders]
    try:
        yield boards
    finally:
        for board in boards:
            board.kill()
        places.pool.shutdown()

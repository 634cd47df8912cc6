"""Run simulated boards: the real firmware under MicroPython, one process per wake.

A board's process ends when it goes to deep sleep. The supervisor here then waits for what the board asked for, divided
by `speed`, and starts the next one. What the board keeps is in its folder (firmware/device/board/host.py,
tools/provision.py); a process killed at any point is a board that lost its power or hung at that point.
"""

import asyncio
import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from contract import wire
from tools import rom

HEAP = "256k"  # of 64-bit words, names included: firmware/DESIGN.md "Memory" says what a chip needs
WAKE_DEADLINE_S = 60.0  # then the watchdog bites
_SERVER = Path(__file__).with_name("wake_server.py")
_LOG_TAIL_BYTES = 2000


class BoardFailed(Exception):
    """A board's process ended in another way than deep sleep; `log` is the end of what it printed."""

    def __init__(self, device: str, status: int, log: str) -> None:
        self.device = device
        self.status = status
        self.log = log
        super().__init__(f"board {device} ended with status {status} instead of deep sleep. Its log ends:\n{log}")


class ServerLost(Exception):
    """The process in which the boards run is gone."""


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


class WakeServer:
    """The process of tools/wake_server.py, and at most `parallel` boards awake in it at once.

    More of them than cores make every wake look long. program: a MicroPython with the firmware frozen in, as
    tools/frozen_port.py builds; without one the boards run from a ROM image. Use as an async context manager.
    """

    def __init__(self, parallel: int = 8, program: Path | None = None) -> None:
        self._program = program
        self._free = asyncio.Semaphore(parallel)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._running: dict[int, asyncio.Future[Ended]] = {}
        self._last = 0

    async def __aenter__(self) -> "WakeServer":
        arguments = [str(self._program)] if self._program else _image_arguments()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(_SERVER), *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read_reports(self._process))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reading is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    @property
    def pid(self) -> int | None:
        """Of the process the boards run in."""
        return self._process.pid if self._process else None

    async def wake(self, folder: Path, heap: str, on_begin: Callable[[int], None]) -> "Ended":
        """Run one wake of the board in `folder` to its end; on_begin gets the number to kill it by.

        It is killed after WAKE_DEADLINE_S, and when this call is cancelled. Raises ServerLost.
        """
        async with self._free:
            self._last += 1
            number = self._last
            ended = asyncio.get_running_loop().create_future()
            self._running[number] = ended
            began = time.monotonic()
            self._order({"id": number, "folder": str(folder), "heap": heap})
            on_begin(number)
            try:
                result = await asyncio.wait_for(asyncio.shield(ended), WAKE_DEADLINE_S)
            except (TimeoutError, asyncio.CancelledError) as why:
                self.kill(number)
                if isinstance(why, asyncio.CancelledError):
                    ended.cancel()  # its report will come, and nobody waits for it
                    raise
                result = await ended
            return result._replace(wall_s=time.monotonic() - began)

    def kill(self, number: int) -> None:
        """End a running wake where it is."""
        if number in self._running:
            self._order({"kill": number})

    def _order(self, order: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _read_reports(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            report = json.loads(line)
            ended = self._running.pop(report["id"])
            if not ended.done():
                ended.set_result(Ended(report["status"], report["cpu_s"], 0.0))
        for ended in self._running.values():
            if not ended.done():
                ended.set_exception(ServerLost("the process that runs simulated boards ended; see its messages above"))


def _image_arguments() -> list[str]:
    module = importlib.util.find_spec("micropython_module")
    if module is None or module.origin is None:
        raise FileNotFoundError("MicroPython is not in this environment; run `make setup`")
    return [str(rom.build_firmware() / "rom"), str(Path(module.origin).parent)]


class Ended(NamedTuple):
    """How a board's process ended: exit status, negative for a signal, and what it took."""

    status: int
    cpu_s: float
    wall_s: float


class SimulatedBoard:
    """One board, in the folder that tools/provision.py made. `speed`: seconds of deep sleep per second that passes.

    `totals` sums over its wakes; `on_wake` is called after each. The board is asleep whenever no process of it runs.
    """

    def __init__(
        self,
        folder: Path,
        server: WakeServer,
        speed: float = 1.0,
        on_wake: Callable[["SimulatedBoard", Wake], None] | None = None,
        heap: str = HEAP,
    ) -> None:
        self.folder = folder
        self.device = str(json.loads((folder / "flash" / "config.json").read_text())["device"])
        self.totals = Totals()
        self.last: Wake | None = None
        self._server = server
        self._speed = speed
        self._on_wake = on_wake
        self._heap = heap
        self._awake = False
        self._running: int | None = None
        self._power_is_cut = False
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
        """One wake, from power-on or the end of a sleep to the next sleep; None when it was killed.

        A process over WAKE_DEADLINE_S is killed too. Unless the power was cut, the wake after it is the watchdog's.
        Raises BoardFailed, and RuntimeError when the board is awake already.
        """
        if self._awake:
            raise RuntimeError(f"{self.device} is awake: a board has one processor")
        before = self._read_wake()
        self._awake = True
        try:
            ended = await self._server.wake(self.folder, self._heap, self._note_begin)
        finally:
            self._awake = False
            self._running = None
        if self._power_is_cut:
            self._lose_power()
            return None
        after = self._read_wake()
        if ended.status == -signal.SIGKILL:
            self.totals.hangs += ended.wall_s >= WAKE_DEADLINE_S
            if before:
                began_ms = before["clock_ms"] + before.get("slept_ms", before["sleep_ms"])
                reset = {"clock_ms": began_ms, "slept_ms": round(ended.wall_s * 1000), "cause": wire.WAKE_WATCHDOG}
                self._write_wake({**before, **reset})
            return None
        if ended.status != 0 or after.get("n") == before.get("n"):
            raise BoardFailed(self.device, ended.status, self._log_tail())
        cause = before.get("cause", wire.WAKE_TIMER) if before else wire.WAKE_COLD
        wake = Wake(cause, after["clock_ms"], after["sleep_ms"], ended.cpu_s, ended.wall_s)
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
        self._power_is_cut = True
        if self._running is None:
            self._lose_power()
        self.kill()
        self._called.set()

    def kill(self) -> None:
        """End a running wake where it is, as a watchdog does."""
        if self._running is not None:
            self._server.kill(self._running)

    def _lose_power(self) -> None:
        (self.folder / "rtc.bin").unlink(missing_ok=True)
        (self.folder / "wake.json").unlink(missing_ok=True)
        self._power_is_cut = False

    def _note_begin(self, number: int) -> None:
        self._running = number

    async def _sleep(self) -> None:
        """Pass the time the board asked for, or less when it is called or loses its power meanwhile."""
        asked = self._read_wake()
        if not asked or asked.get("cause") == wire.WAKE_WATCHDOG:
            return  # no sleep before a cold start or after a reset
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._called.wait(), asked["sleep_ms"] / 1000 / self._speed)
        self._called.clear()
        if self._cause is not None and (self.folder / "wake.json").exists():
            slept_ms = min(asked["sleep_ms"], round((time.monotonic() - began) * 1000 * self._speed))
            self._write_wake({**asked, "cause": self._cause, "slept_ms": slept_ms})
        self._cause = None

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
    program: Path | None = None,
) -> AsyncGenerator[list[SimulatedBoard]]:
    """The boards of some folders, at most `parallel` of them awake at once; none runs on after the block."""
    async with WakeServer(parallel, program) as server:
        yield [SimulatedBoard(folder, server, speed, on_wake) for folder in folders]

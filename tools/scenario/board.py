"""One board through a whole scenario: the firmware in a MicroPython process, its world and its cloud here.

The board's process (tools/on_board/virtual_board.py) runs a wake when it is told to, asks here for whatever lies beyond
the chip, and reports when it goes to sleep. Time is a number: it moves by what the board computes (`cpu`), by what it
waits for, and by what it sleeps. Everything is repeatable to the byte for a given scenario, whatever the machine does.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from contract import wire
from tools.provision import RECORDING_NAME, BoardPlan, Broker, channels_of, recording_bytes
from tools.scenario import program as programs
from tools.scenario.checks import ScenarioError
from tools.scenario.cloud import Cloud, Line, Stored
from tools.scenario.program import Program
from tools.scenario.schema import Fault, Group, Policy, Scenario
from tools.scenario.session import Session
from tools.scenario.signals import Played
from tools.scenario.wire_pipe import SEGMENT, Inbox, Silent, tell
from tools.scenario.world import Air, Cell, draw

CLOCK_START_MS = 1 << 41  # of device/board: a board's clock at power-on
HEAP = "3M"  # the modules of the firmware as .mpy files; what a wake needs of a chip is held down by other tests
WATCHDOG_MS = 60_000
_ON_BOARD = Path(__file__).parents[1] / "on_board"
_PROGRAM = _ON_BOARD / "virtual_board.py"
_INSTALL = _ON_BOARD / "install_model.py"
_INSTALL_DEADLINE_S = 60
_WAKE_DEADLINE_S = 120.0  # of real time, until a program that neither asks nor sleeps is taken for one that hangs
_LOG_TAIL = 2000
RESTART_AFTER = 5000  # a native model is loaded anew in each wake, into memory that is given back with the process
_CALLS = 20
_MOMENTARY = ("power-cut", "hang")


class BoardEnded(Exception):
    """The board's program ended; `log` is the end of what it printed."""

    def __init__(self, board: str, log: str) -> None:
        super().__init__(board, log)  # both, so that it survives the way between processes
        self.board = board
        self.log = log

    def __str__(self) -> str:
        return f"the program of board {self.board} ended instead of sleeping. Its log ends:\n{self.log}"


class Wake(NamedTuple):
    """One wake. Times in ms of the scenario; energy_uj as the firmware's ledger charged it for this wake and the sleep
    before; link_ms: what an association in this wake takes, negative for one that fails; reach: what a session then
    meets, REACH_*; `found` is the rest of what the board noted (tools/on_board/virtual_board.py)."""

    at_ms: int
    cause: int
    asleep_ms: int
    battery_mv: int
    rssi: int
    energy_uj: list[int]
    link_ms: int
    reach: int
    found: dict[str, Any]


@dataclass
class Run:
    """What became of one board under one policy. epochs: when each began, for the naive uplink each boot; made: records
    made at the end, by epoch, in the order of wire.STREAMS (naive: lines); crashes: (moment, kind) of faults that hit;
    died_ms: when its battery was empty, None while it was not; left: of the battery, 0 to 1."""

    board: str
    group: str
    policy: str
    wakes: list[Wake] = field(default_factory=list[Wake])
    epochs: dict[int, int] = field(default_factory=dict[int, int])
    made: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    crashes: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    died_ms: int | None = None
    left: float = 1.0
    capacity_uj: float = 0.0
    rates: list[float] = field(default_factory=list[float])
    stored: Stored = field(default_factory=Stored)
    json_lines: dict[Line, int] = field(default_factory=dict[Line, int])
    json_again: int = 0
    crash_energy_uj: float = 0.0
    """Of wakes that ended in a fault, which no ledger of the board has seen."""


class _Process:
    """The board's MicroPython, with the RTC memory it is given; `rates` is what its ledger charges."""

    def __init__(self, program: Program, folder: Path, uplink: str, rtc: bytes) -> None:
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        self._log = folder / "log.txt"
        command = [program.micropython, "-X", f"heapsize={HEAP}", str(_PROGRAM)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(down_read), str(up_write), "JSON" if uplink == "json" else "EDGEWISE", program.features],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"EDGEWISE_BOARD_DIR": str(folder), "MICROPYPATH": program.path},
                pass_fds=(down_read, up_write),
            )
        os.close(down_read)
        os.close(up_write)
        self._down = os.fdopen(down_write, "wb", buffering=0)
        self._up = Inbox(up_read, _WAKE_DEADLINE_S)
        letter, _, body = self.hear(folder.name)
        if letter != b"R":
            raise BoardEnded(folder.name, self.log_tail())
        self.rates: list[float] = json.loads(body)
        self.tell(0, rtc)

    def hear(self, board: str) -> tuple[bytes, int, bytes]:
        """The next message; raises BoardEnded when none comes any more."""
        try:
            message = self._up.read()
        except Silent:
            raise BoardEnded(board, f"nothing for {_WAKE_DEADLINE_S:.0f} s\n{self.log_tail()}") from None
        if message is None:
            raise BoardEnded(board, self.log_tail())
        return message

    def tell(self, number: int, body: bytes = b"") -> None:
        tell(self._down, b"W", number, body)

    def log_tail(self) -> str:
        return self._log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._down.close()
        self._up.close()


@contextlib.contextmanager
def _running(program: Program, folder: Path, uplink: str) -> Generator[list[_Process]]:
    """A list with the one process; whoever replaces it puts the new one there. None is left behind."""
    held = [_Process(program, folder, uplink, b"")]
    try:
        yield held
    finally:
        held[0].end()


def make_folder(folder: Path, group: Group, board: str, policy: Policy, played: Played) -> None:
    """The board's flash: config.json, and what its sensor will measure."""
    flash = folder / "flash"
    flash.mkdir(parents=True)
    plan = BoardPlan(
        device=board,
        kind=group.name,
        schema=group.schema,
        interval_ms=group.interval_ms,
        broker=Broker(1883),
        settings=dict(group.settings) | dict(policy.settings),
        trusted_keys=group.trusted_keys,
    )
    config = plan.config() | {"limits": {name: list(pair) for name, pair in group.limits.items()}}
    (flash / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (flash / RECORDING_NAME).write_bytes(recording_bytes(channels_of(group.schema), group.sample_ms, played.counts))


def run(
    scenario: Scenario,
    policy: Policy,
    group: Group,
    board: str,
    played: Played,
    folder: Path,
    program: Program,
    restart_after: int = RESTART_AFTER,
) -> Run:
    """One board from power-on to the end of the scenario, or of its battery, in `program`. Raises BoardEnded.

    restart_after: wakes after which the board's process makes place for a new one, which changes no result.
    """
    make_folder(folder, group, board, policy, played)
    if group.model is not None and policy.uplink == "edgewise":
        _install(folder, group.model)
    judge = None if scenario.answer_ms is None else _judge(group, played)
    cloud = Cloud(folder, board, group.name, judge, scenario.answer_ms or 0)
    try:
        timeline = _Timeline(scenario, policy, group, board, played, cloud)
        with _running(program, folder, policy.uplink) as held:
            timeline.run(held, program, folder, restart_after)
        found = timeline.found
        found.stored = cloud.stored()
        found.json_lines, found.json_again = cloud.json_lines()
        return found
    finally:
        cloud.close()


def _install(folder: Path, artifact: Path) -> None:
    """The model, as a board takes one that came over a cable: checked, and on trial. Raises ScenarioError."""
    flash = folder / "flash"
    shutil.copyfile(artifact, flash / "model.ewa")
    program = programs.beside()
    environ = os.environ | {"EDGEWISE_BOARD_DIR": str(folder), "MICROPYPATH": program.path}
    command = [program.micropython, "-X", f"heapsize={HEAP}", str(_INSTALL)]
    done = subprocess.run(
        command, cwd=flash, env=environ, capture_output=True, text=True, timeout=_INSTALL_DEADLINE_S, check=False
    )
    said: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"detail": done.stdout + done.stderr}
    if said.get("state") != wire.UPDATE_TRIAL:
        why = f"{said.get('reason', '')} {said.get('detail', '')}".strip()
        raise ScenarioError(f"model: {artifact} was refused by the board: {why}. Check its schema, arch and trust")


def _judge(group: Group, played: Played) -> Callable[[int], bool]:
    """Whether there is, or was within the last window, an anomaly: what a tier that is always right would say."""
    spans = [(one.first * group.sample_ms, one.last * group.sample_ms + group.interval_ms) for one in played.anomalies]
    return lambda moment_ms: any(first <= moment_ms <= last for first, last in spans)


class _Timeline:
    """The board's life. power_ms: when its power came last; slept_at: its last sleep began; both of the scenario."""

    def __init__(
        self, scenario: Scenario, policy: Policy, group: Group, board: str, played: Played, cloud: Cloud
    ) -> None:
        self._scenario = scenario
        self._policy = policy
        self._group = group
        self._played = played
        self._air = Air(scenario, group, board)
        self._cell = Cell(group.battery)
        self._session = Session(self._air, cloud, scenario.commit_ms)
        self._faults = sorted(
            (f for f in scenario.faults if f.kind in _MOMENTARY and board in f.boards), key=lambda f: f.from_ms
        )
        self._crossings = [at * group.sample_ms for at in reversed(played.crossings)]
        self.found = Run(board, group.name, policy.name, capacity_uj=self._cell.capacity_uj)
        self._power_ms = 0
        self._slept_at = 0
        self._sleep: dict[str, int] = {}  # wake.json; empty: the power has just come
        self._cause = wire.WAKE_COLD
        self._wakes = 0
        self._steps = 40
        self._rtc = b""

    def run(self, held: list[_Process], program: Program, folder: Path, restart_after: int) -> None:
        found = self.found
        found.rates = held[0].rates
        while (at_ms := self._next_wake()) < self._scenario.duration_ms:
            if self._cell.left <= 0:
                found.died_ms = at_ms
                break
            crashed = self._wake(held[0], at_ms)
            if crashed or self._wakes % restart_after == 0:
                held[0].end()
                held[0] = _Process(program, folder, self._policy.uplink, self._rtc)
        found.left = self._cell.left
        if found.died_ms is None and self._sleep:
            self._call_in(held[0])
        self._session.drain(self._scenario.duration_ms)

    def _call_in(self, process: _Process) -> None:
        """After the end somebody presses the button of the board, so that what it holds can be counted in the cloud."""
        counted = len(self.found.wakes)
        for _ in range(_CALLS):
            self._cause = wire.WAKE_PIN
            at_ms = max(self._slept_at + 1000, self._scenario.duration_ms)
            self._wake(process, at_ms)
            last = self.found.wakes[-1].found
            if not (last["waiting"] if "waiting" in last else last["ring"] or last["more"]):
                break
        del self.found.wakes[counted:]

    def _next_wake(self) -> int:
        """When the next first line of Python runs; sets the cause."""
        if not self._sleep:
            self._cause = wire.WAKE_COLD
            return self._power_ms
        if self._cause == wire.WAKE_WATCHDOG:
            return self._slept_at + WATCHDOG_MS
        due_ms = self._slept_at + self._sleep["sleep_ms"]
        self._cause = wire.WAKE_TIMER
        while self._crossings and self._crossings[-1] < self._slept_at:
            self._crossings.pop()  # the board was awake and saw it, or had no power
        if self._group.wake_on and self._crossings and self._crossings[-1] < due_ms and self._policy.uplink != "json":
            due_ms = self._crossings.pop()
            self._cause = wire.WAKE_ULP
        return due_ms + self._group.boot_ms

    def _wake(self, process: _Process, at_ms: int) -> bool:
        """One wake at at_ms; True when a fault ended it, which its process does not outlive."""
        calling = self._cause == wire.WAKE_PIN
        fault = self._faults[0] if self._faults and self._faults[0].from_ms <= at_ms and not calling else None
        board = self.found.board
        steps = 1 + int(draw(self._scenario.seed, board, "step", self._wakes) * self._steps)
        battery_mv, rssi = self._cell.battery_mv, self._air.rssi(at_ms)
        wake = dict(self._sleep)
        if wake:
            wake |= {"slept_ms": at_ms - self._slept_at, "cause": self._cause}
        else:
            self._power_ms = at_ms
        order = {
            "wake": wake,
            "sim": {
                "battery_mv": battery_mv,
                "rssi": rssi,
                "draws": int(draw(self._scenario.seed, board, "draws", self._wakes) * 2**31),
                "cpu_ms": self._group.cpu_ms,
                "naive_batch": self._policy.batch if self._cause != wire.WAKE_PIN else 1,
            },
            "at_ms": at_ms,
            "hangs_at": steps if fault else 0,
        }
        self._wakes += 1
        process.tell(0, json.dumps(order).encode())
        offset_ms = self._power_ms - CLOCK_START_MS
        while True:
            letter, clock_ms, body = process.hear(board)
            now_ms = clock_ms + offset_ms
            match letter:
                case b"S":
                    self._asleep(at_ms, now_ms, clock_ms, battery_mv, rssi, json.loads(body))
                    return False
                case b"M":
                    self._rtc = body
                case b"D":
                    assert fault is not None
                    self._crash(fault, at_ms, clock_ms)
                    return True
                case b"A":
                    process.tell(self._air.associate_ms(now_ms, body == b"1"))
                case b"C":
                    process.tell(*self._session.connect(now_ms))
                case b"X":
                    closes_ms, segments = self._session.exchange(now_ms, body)
                    answer = b"".join(SEGMENT.pack(at - offset_ms, len(data)) + data for at, data in segments)
                    process.tell(closes_ms - offset_ms if closes_ms >= 0 else -1, answer)
                case _:
                    self._session.end(now_ms)

    def _asleep(
        self, at_ms: int, now_ms: int, clock_ms: int, battery_mv: int, rssi: int, found: dict[str, Any]
    ) -> None:
        energy_uj = found.pop("energy")
        self._cell.drained_uj += sum(energy_uj)
        self._steps = max(8, found.pop("steps"))
        self._sleep = {"n": self._wakes, "clock_ms": clock_ms, "sleep_ms": found["sleep_ms"]}
        self._slept_at = now_ms
        edgewise = self._policy.uplink == "edgewise"
        epoch: int = found["epoch" if edgewise else "boot"]
        self.found.epochs.setdefault(epoch, self._power_ms + (found.pop("began") if edgewise else 0))
        self.found.made[epoch] = found["made"] if edgewise else [found["made"]]
        link_ms, reach = self._air.outlook(at_ms + self._group.cpu_ms)
        self.found.wakes.append(Wake(at_ms, self._cause, now_ms, battery_mv, rssi, energy_uj, link_ms, reach, found))
        self._cause = wire.WAKE_TIMER

    def _crash(self, fault: Fault, at_ms: int, clock_ms: int) -> None:
        """The wake ends where it is: a power cut loses RTC memory and clock, a hang costs time until the watchdog."""
        self._faults.remove(fault)
        self.found.crashes.append((at_ms, fault.kind))
        self._session.end(at_ms)
        if fault.kind == "power-cut":
            self._sleep = {}
            self._rtc = b""
            self._power_ms = at_ms + 1000
            return
        spent_uj = WATCHDOG_MS * self.found.rates[0] / 1000
        self._cell.drained_uj += spent_uj
        self.found.crash_energy_uj += spent_uj
        self._sleep = {"n": self._wakes, "clock_ms": clock_ms, "sleep_ms": WATCHDOG_MS}
        self._slept_at = at_ms
        self._cause = wire.WAKE_WATCHDOG

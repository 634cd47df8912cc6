"""The whole firmware as a process that is woken wake by wake, and whose messages pass through the test."""

import json
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from contract import wire

CALM = -1
"""No power cut."""


_CAUSES = {"": wire.WAKE_COLD, "slept": wire.WAKE_TIMER, "died": wire.WAKE_WATCHDOG}


class Downlink(NamedTuple):
    """A message on its way to the board."""

    kind: str
    payload: bytes
    retained: bool


class Air(Protocol):
    """What lies between the board and the cloud, as the board's link meets it."""

    async def open(self) -> bool:
        """A session begins; False: there is no network."""
        ...

    async def up(self, payload: bytes) -> bool:
        """The board sends; False: the connection breaks."""
        ...

    async def down(self) -> Downlink | None:
        """What comes now."""
        ...


@dataclass
class Seen:
    """What is known of a board from outside: what it ran, and what it will never run again."""

    ran: list[tuple[str, float | None]] = field(default_factory=list[tuple[str, float | None]])
    """(sha8 in hex or "", score of the probe) of each load, since the board was put back."""
    state: int = wire.UPDATE_IDLE
    known_bad: frozenset[str] = frozenset()
    how: str = ""
    """How the last wake ended: slept, cut or died."""


class WholeBoard:
    """tests/device/update/programs/whole_board.py, which has the dialogue."""

    def __init__(
        self, micropython: str, environment: Mapping[str, str], folder: Path, faults: Mapping[str, str]
    ) -> None:
        self.seen = Seen()
        self.log: deque[str] = deque(maxlen=100)
        self.on_ran: Callable[[str, float | None], None] = lambda _sha8, _score: None
        self._process = subprocess.Popen(
            [micropython, "-X", "heapsize=8M", "-m", "whole_board", json.dumps(dict(faults))],
            env={**environment, "EDGEWISE_BOARD_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def keep(self, name: str) -> None:
        """Remembers flash, RTC memory and clock under a name."""
        self._say({"do": "keep", "name": name})
        assert self._hear() == ["kept"]

    def back(self, name: str) -> None:
        """The board is again as it was when it was kept."""
        self._say({"do": "back", "name": name})
        assert self._hear() == ["back"]
        self.seen = Seen(how="slept")

    async def wake(self, air: Air, power: bool = False, cut: int = CALM, part: int = 0) -> Seen:
        """One wake, after what ended the last one. power: RTC memory was lost while the board slept; cut: operations on
        flash until the power goes, part: how much of the last one is done."""
        power = power or self.seen.how == "cut"
        cause = wire.WAKE_COLD if power else _CAUSES[self.seen.how]
        self._say({"do": "wake", "cause": cause, "power": power, "cut": cut, "part": part})
        answers: dict[str, Callable[..., Awaitable[Any]]] = {
            "open": air.open,
            "up": lambda payload: air.up(bytes.fromhex(payload)),
            "poll": lambda: _downlink(air),
        }
        failure: Exception | None = None
        while True:
            what, *about = self._hear()
            if what == "over":
                self.seen.how, _, self.seen.state, bad = about
                self.seen.known_bad = frozenset(bad)
                if failure is not None:
                    raise failure
                return self.seen
            answer: Any = None
            try:
                if what == "ran":
                    self.seen.ran.append((about[0], about[1]))
                    self.on_ran(about[0], about[1])
                elif failure is None:
                    answer = await answers[what](*about)
            except Exception as error:  # noqa: BLE001 - the wake goes on to its end, so that the next one can begin
                failure = failure or error
            if what != "ran":
                self._say(answer)

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> list[Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith("["):  # what the board prints
            self.log.append(line)
            line = self._process.stdout.readline()
        assert line, "the board's process has ended"
        return json.loads(line)


async def _downlink(air: Air) -> list[Any] | None:
    message = await air.down()
    return None if message is None else [message.kind, message.payload.hex(), message.retained]

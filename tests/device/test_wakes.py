"""device/wakes.py and the cycle: each cause of a wake does what its row says, run by the very firmware.

The board sleeps with 8 of its 16 seconds gone when it is woken; TinyCloud holds every record against the one it has.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract import wire
from tests.support import boards
from tests.support.boards import INTERVAL_MS, SPEED, WINDOW, samples_taken
from tests.support.broker import Broker
from tests.support.micropython import evaluate
from tests.support.tiny_cloud import TinyCloud
from tools.provision import set_world
from tools.simulate import SimulatedBoard, supervised

HALF_MS = INTERVAL_MS // 2
MOTION_SENSOR = {"driver": "replay", "file": "recording.bin", "motion_mg": 200}
ARM_NONE, ARM_ACTIVE, ARM_RELEASE = 0, 1, 2


class Memory(NamedTuple):
    """What RTC memory says of a board."""

    rows: int
    sessions: int
    resets: int
    line: int
    holds: int


def memory_of(board: SimulatedBoard) -> Memory:
    return Memory(
        *evaluate(
            """
from device.board.host import Board
from device.files import Files
from device.rtc_state import RtcState
state = RtcState(Board(None), Files)
state.load()
result = [state.next_seq[-1], state.radio_sessions, state.resets, state.wake_line, state.line_holds]
""",
            board.folder,
        )
    )


async def wake_by(board: SimulatedBoard, cause: int, slept_ms: int = HALF_MS) -> None:
    """End the board's sleep after `slept_ms`, for `cause`, and let the wake run to its end."""
    path = board.folder / "wake.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cause": cause, "slept_ms": slept_ms}))
    assert await board.wake() is not None


def live(broker: Broker, folder: Path, story: Callable[[SimulatedBoard], Any], **config: Any) -> TinyCloud:
    """A board that has been through its cold start and two windows, and then what `story` does with it."""

    async def run() -> TinyCloud:
        settings = {"sync_interval_ms": 86_400_000}
        made = boards.make(folder, broker.port, settings=settings, **config)
        async with TinyCloud(broker.port) as cloud, supervised([made], SPEED) as [board]:
            await board.run(wakes=3)
            await story(board)
        return cloud

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("cause", "config", "rows", "sessions", "resets", "sleep_ms"),
    [
        (wire.WAKE_TIMER, {}, 8, 0, 0, INTERVAL_MS),
        (wire.WAKE_PIN, {}, 0, 1, 0, HALF_MS),
        (wire.WAKE_TOUCH, {}, 0, 1, 0, HALF_MS),
        (wire.WAKE_ULP, {}, 8, 0, 0, INTERVAL_MS),
        (wire.WAKE_PIN, {"sensor": MOTION_SENSOR}, 8, 0, 0, INTERVAL_MS),
        (wire.WAKE_WATCHDOG, {}, 8, 0, 1, INTERVAL_MS),
        (wire.WAKE_BROWNOUT, {}, 0, 0, 1, INTERVAL_MS),
        (wire.WAKE_SOFT, {}, 8, 0, 1, INTERVAL_MS),
    ],
    ids=["timer", "pin", "touch", "ulp", "motion", "watchdog", "brownout", "soft"],
)
def test_each_cause_samples_syncs_counts_and_sleeps_as_its_row_says(
    broker: Broker,
    tmp_path: Path,
    cause: int,
    config: dict[str, Any],
    rows: int,
    sessions: int,
    resets: int,
    sleep_ms: int,
):
    seen: list[Any] = []

    async def story(board: SimulatedBoard) -> None:
        before = memory_of(board)
        await wake_by(board, cause)
        after = memory_of(board)
        seen.extend((before, after, board.last))

    live(broker, tmp_path / "pump-1", story, **config)
    before, after, last = seen
    assert before.rows == 2 * WINDOW
    assert after.rows - before.rows == rows, "of a window of 16, those of the 8 seconds since the last"
    assert after.sessions - before.sessions == sessions
    assert after.resets - before.resets == resets
    assert last.cause == cause
    assert sleep_ms - 4000 < last.sleep_ms <= sleep_ms


def test_a_cold_start_prepares_the_sensor_and_says_hello(broker: Broker, tmp_path: Path):
    seen: list[Any] = []

    async def story(board: SimulatedBoard) -> None:
        board.cut_power()
        await board.wake()
        seen.extend((memory_of(board), board.last))

    cloud = live(broker, tmp_path / "pump-1", story)
    memory, last = seen
    assert (memory.rows, memory.sessions, memory.resets) == (0, 1, 0)
    assert last.cause == wire.WAKE_COLD
    assert [hello.epoch for hello in cloud.hellos["pump-1"]] == [1, 2]


def test_a_window_that_ends_early_is_scored_whole_and_its_rows_are_stored_once(broker: Broker, tmp_path: Path):
    taken: list[int] = []

    async def story(board: SimulatedBoard) -> None:
        await wake_by(board, wire.WAKE_ULP)
        await board.run(wakes=2)
        taken.append(samples_taken(board) + 8)
        await wake_by(board, wire.WAKE_PIN)

    cloud = live(broker, tmp_path / "pump-1", story)
    stored = cloud.of("pump-1", wire.READINGS)
    assert [list(values) for _, values in stored] == boards.recording(taken[0])
    times = [t_ms for t_ms, _ in stored]
    assert times == sorted(times)


def test_a_line_that_is_held_does_not_end_the_sleep_again_and_its_release_costs_no_session(
    broker: Broker, tmp_path: Path
):
    seen: list[Any] = []

    async def story(board: SimulatedBoard) -> None:
        set_world(board.folder, {"line": True})
        await wake_by(board, wire.WAKE_PIN, 2000)
        seen.extend((memory_of(board), board.last))
        await board.run(wakes=1)  # held on through a timer's wake
        seen.extend((memory_of(board), board.last))
        set_world(board.folder, {"line": False})
        await wake_by(board, wire.WAKE_PIN, 2000)
        seen.extend((memory_of(board), board.last))

    live(broker, tmp_path / "pump-1", story)
    pressed, slept_on, held, next_window, released, last = seen
    assert pressed.line & 3 == held.line & 3 == ARM_RELEASE
    assert slept_on.sleep_ms > INTERVAL_MS - 4000, "armed for the level it has, the line would have ended it at once"
    assert next_window.cause == wire.WAKE_TIMER
    assert (pressed.holds, held.holds, released.holds) == (1, 2, 2)
    assert released.line & 3 == ARM_ACTIVE
    assert (released.sessions, released.rows) == (held.sessions, held.rows)
    assert last.sleep_ms > INTERVAL_MS - 6000


def test_a_line_that_chatters_is_left_alone_until_the_next_timer_wake(broker: Broker, tmp_path: Path):
    armed: list[int] = []

    async def story(board: SimulatedBoard) -> None:
        for wake in range(9):
            set_world(board.folder, {"line": wake % 2 == 0})
            await wake_by(board, wire.WAKE_PIN, 100)
            armed.append(memory_of(board).line & 3)
        await board.run(wakes=1)
        armed.append(memory_of(board).line & 3)

    live(broker, tmp_path / "pump-1", story)
    assert armed == [ARM_RELEASE, ARM_ACTIVE] * 3 + [ARM_RELEASE, ARM_NONE, ARM_NONE, ARM_RELEASE]


def test_the_simulated_chip_wakes_at_once_when_a_line_is_armed_for_the_level_it_has(tmp_path: Path):
    folder = boards.make(tmp_path / "pump-1", 1, world={"line": True})
    for how, cause in ((ARM_ACTIVE, wire.WAKE_PIN), (ARM_RELEASE, None), (ARM_NONE, None)):
        code = f"""
from device.board.host import Board
board = Board(None)
board.arm_line({how})
try:
    board.deep_sleep(5000)
except SystemExit:
    result = 0
"""
        evaluate(code, folder)
        wake = json.loads((folder / "wake.json").read_text())
        assert wake.get("cause") == cause
        assert wake["sleep_ms"] == (0 if cause else 5000)


def test_every_cause_of_the_contract_has_a_row():
    rows, motion, released = evaluate(
        "from device import wakes\nresult = [len(wakes.PATHS), wakes.PATH_MOTION, wakes.PATH_RELEASED]"
    )
    assert (rows, motion, released) == (len(wire.WAKE_NAMES) + 2, len(wire.WAKE_NAMES), len(wire.WAKE_NAMES) + 1)

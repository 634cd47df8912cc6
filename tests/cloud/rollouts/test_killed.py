"""Whoever moves a rollout is killed with SIGKILL at every transition: before, in and after its transaction."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.models.tables import assignments
from cloud.rollouts.engine import TRANSITIONS, Stage, Trigger
from cloud.rollouts.plan import Mode
from cloud.rollouts.service import Rollouts
from cloud.rollouts.tables import rollout_boards, rollout_steps, rollouts
from cloud.settings import load_settings
from cloud.store import tables as t
from cloud.store.engine import make_engine
from tests.support.fleet import finished
from tests.support.rollout_fleet import PERIOD_MS, RolloutFleet

MOMENTS = ("first write", "last write", "before commit", "after commit")
BOARDS = 30
Move = Callable[[Rollouts], Awaitable[Any]]


@dataclass(frozen=True)
class Scene:
    """A store as it is right before a transition, and what makes it."""

    folder: Path
    now_ms: int
    move: Move
    after: Stage


def step(rollouts: Rollouts) -> Awaitable[Any]:
    return rollouts.step(1)


OPERATOR: dict[Trigger, Move] = {
    Trigger.START: lambda rollouts: rollouts.start(1),
    Trigger.PAUSE: lambda rollouts: rollouts.pause(1),
    Trigger.RESUME: lambda rollouts: rollouts.resume(1),
    Trigger.ABORT: lambda rollouts: rollouts.abort(1),
    Trigger.ROLLBACK: lambda rollouts: rollouts.roll_back(1),
}


class Story:
    """Plays a rollout and keeps a copy of the store before each transition."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = RolloutFleet(folder / "live", BOARDS, reports=3)
        self.scenes: dict[tuple[Stage, Trigger], Scene] = {}

    def tell(self) -> dict[tuple[Stage, Trigger], Scene]:
        fleet = self.fleet
        with self._aside():
            rollout = fleet.started(mode=Mode.AB, steps=(40,), min_canaries=5)
            fleet.rollouts(lambda rollouts: rollouts.approve(rollout))
            fleet.period()
            self._until(rollout, Stage.SOAK)
            self._before_next(rollout, Stage.SOAK, Trigger.COMPLETE)
        rollout = fleet.planned()
        self._operate(Stage.DRAFT)
        fleet.rollouts(OPERATOR[Trigger.START])
        self._operate(Stage.CANARY)
        self._stalled(Stage.CANARY)
        fleet.period()
        self._worse(Stage.CANARY)
        self._keep(Stage.CANARY, Trigger.TRIED, step)
        self._until(rollout, Stage.SOAK)
        self._operate(Stage.SOAK)
        self._worse(Stage.SOAK)
        self._stalled(Stage.SOAK)
        self._before_next(rollout, Stage.SOAK, Trigger.SOAKED)
        self._operate(Stage.RAMP)
        self._stalled(Stage.RAMP)
        fleet.period()
        self._worse(Stage.RAMP)
        self._before_next(rollout, Stage.RAMP, Trigger.STEP)
        self._before_next(rollout, Stage.RAMP, Trigger.COMPLETE)
        return self.scenes

    def _until(self, rollout: int, stage: Stage) -> None:
        assert self.fleet.step(rollout).stage == stage

    def _before_next(self, rollout: int, stage: Stage, trigger: Trigger) -> None:
        """On to the move that leaves the stage or its step, kept before it is made."""
        before = after = self.fleet.step(rollout)
        for _ in range(12):
            self.fleet.period()
            self._keep(stage, trigger, step)
            after = self.fleet.step(rollout)
            if (after.stage, after.step) != (before.stage, before.step):
                return
        raise AssertionError(f"still {after.stage}: {after.reason}")

    def _operate(self, stage: Stage) -> None:
        """What an operator can do in a stage; and in the paused and taken back ones, which begin here."""
        for trigger, move in OPERATOR.items():
            if (stage, trigger) in TRANSITIONS:
                self._keep(stage, trigger, move)
        if stage != Stage.SOAK:
            return
        with self._aside():
            self.fleet.rollouts(OPERATOR[Trigger.PAUSE])
            for trigger in (Trigger.RESUME, Trigger.ABORT, Trigger.ROLLBACK):
                self._keep(Stage.PAUSED, trigger, OPERATOR[trigger])
            self._worse(Stage.PAUSED)
        with self._aside():
            self.fleet.rollouts(OPERATOR[Trigger.ROLLBACK])
            self._keep(Stage.ROLLING_BACK, Trigger.ABORT, OPERATOR[Trigger.ABORT])
            self.fleet.period()
            self._keep(Stage.ROLLING_BACK, Trigger.GONE, step)

    def _worse(self, stage: Stage) -> None:
        with self._aside():
            for name in self._exposed():
                self.fleet.fails(name)
            self._keep(stage, Trigger.WORSE, step)

    def _stalled(self, stage: Stage) -> None:
        now = self.fleet.now
        self.fleet.now += 100 * PERIOD_MS
        self._keep(stage, Trigger.STALLED, step)
        self.fleet.now = now

    def _exposed(self) -> list[str]:
        return [row["device"] for row in self.fleet.fleet.rows(sa.select(rollout_boards)) if row["exposed"]]

    def _keep(self, stage: Stage, trigger: Trigger, move: Move) -> None:
        after = stage if trigger == Trigger.STEP else TRANSITIONS[stage, trigger]
        if trigger == Trigger.RESUME:
            after = Stage.SOAK
        kept = self.folder / f"{stage}-{trigger}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.folder / "live", kept)
        self.scenes[stage, trigger] = Scene(kept, self.fleet.now, move, after)

    def _aside(self) -> "Aside":
        return Aside(self)


class Aside:
    """What happens within is undone at the end: the story goes on as if it had not been."""

    def __init__(self, story: Story) -> None:
        self._story = story

    def __enter__(self) -> None:
        self._kept = self._story.folder / f"kept-{id(self)}"  # one may be within another
        shutil.copytree(self._story.folder / "live", self._kept)
        self._fleet = self._story.fleet.memory()

    def __exit__(self, *_error: object) -> None:
        shutil.rmtree(self._story.folder / "live")
        self._kept.rename(self._story.folder / "live")
        self._story.fleet.remember(self._fleet)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Stage, Trigger], Scene]:
    return Story(tmp_path_factory.mktemp("story")).tell()


def books(folder: Path) -> dict[str, list[Any]]:
    """All that a transition may change."""

    async def read() -> dict[str, list[Any]]:
        engine = make_engine(load_settings({}, data_dir=folder))
        try:
            async with engine.connect() as connection:
                tables = (rollouts, rollout_boards, rollout_steps, assignments, t.desired, t.aliases)
                return {
                    table.name: sorted(map(repr, (await connection.execute(sa.select(table))).all()))
                    for table in tables
                }
        finally:
            await engine.dispose()

    return finished(read())


async def make_move(scene: Scene, folder: Path, arm: Callable[[AsyncEngine], None] | None = None) -> None:
    engine = make_engine(load_settings({}, data_dir=folder))
    if arm is not None:
        arm(engine)
    try:
        await scene.move(Rollouts(engine, lambda: scene.now_ms))
    finally:
        await engine.dispose()


def killed(scene: Scene, folder: Path, moment: str) -> bool:
    """The move in a process of its own that kills itself at `moment`; False when it did not come to that."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(make_move(scene, folder, lambda engine: arm(engine, moment)))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def arm(engine: AsyncEngine, moment: str) -> None:
    def die(*_args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def on_statement(_c: Any, _cursor: Any, statement: str, *_args: Any) -> None:
        written = statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE"))
        # The history line is the last thing a move writes.
        if written and (moment == "first write" or "rollout_steps" in statement):
            die()

    target = engine.sync_engine
    if moment.endswith("write"):
        event.listen(target, "before_cursor_execute", on_statement)
    elif moment == "before commit":
        event.listen(target, "commit", die)
    else:  # a connection that only read is given back as well
        event.listen(target, "commit", lambda _c: event.listen(target, "checkin", lambda *_args: die()))


def test_the_story_meets_every_transition_there_is(scenes: dict[tuple[Stage, Trigger], Scene]) -> None:
    assert set(scenes) == set(TRANSITIONS)


@pytest.mark.parametrize("transition", TRANSITIONS, ids=" ".join)
def test_a_move_that_is_killed_is_wholly_made_or_not_at_all_and_the_next_process_makes_it(
    tmp_path: Path, scenes: dict[tuple[Stage, Trigger], Scene], transition: tuple[Stage, Trigger]
) -> None:
    scene = scenes[transition]
    before = books(scene.folder)
    calm = tmp_path / "calm"
    shutil.copytree(scene.folder, calm)
    finished(make_move(scene, calm))
    expected = books(calm)
    assert f"'{scene.after}'" in expected["rollouts"][0]
    assert expected["rollout_steps"] != before["rollout_steps"]
    for moment in MOMENTS:
        folder = tmp_path / moment
        shutil.copytree(scene.folder, folder)
        assert killed(scene, folder, moment), f"nothing was killed at: {moment}"
        left = books(folder)
        assert left == (expected if moment == "after commit" else before), moment
        if left == before:
            finished(make_move(scene, folder))
            assert books(folder) == expected, moment

"""The controller is killed with SIGKILL at every move, before, in and after its transaction."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.rollouts.engine import Stage
from cloud.rollouts.service import Rollouts
from cloud.rollouts.tables import rollout_steps
from cloud.store.engine import make_engine
from tests.support.rollout_fleet import NEW, OLD, RolloutFleet

MOMENTS = ("first write", "last write", "before commit", "after commit")


def killed_step(fleet: RolloutFleet, rollout: int, moment: str) -> bool:
    """One move in a process of its own that kills itself at `moment`; False when it did not come to that."""
    child = os.fork()
    if child == 0:
        engine = make_engine(fleet.fleet.settings)
        arm(engine, moment)
        try:
            asyncio.run(step(engine, fleet, rollout))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


async def step(engine: AsyncEngine, fleet: RolloutFleet, rollout: int) -> None:
    await Rollouts(engine, lambda: fleet.now).step(rollout)


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
    else:
        event.listen(target, "checkin", lambda *_args: die())


def stages(fleet: RolloutFleet, rollout: int) -> list[tuple[str, int, int]]:
    query = sa.select(rollout_steps).where(rollout_steps.c.rollout == rollout).order_by(rollout_steps.c.id)
    return [(row["stage"], row["step"], row["exposed"]) for row in fleet.fleet.rows(query)]


def play(fleet: RolloutFleet, rollout: int, moment: str | None) -> int:
    """Until it ends; each move is first tried by a process that is killed. Returns how many were."""
    killed = 0
    for _ in range(30):
        fleet.period()
        died = moment is not None and killed_step(fleet, rollout, moment)
        killed += died
        if not (died and moment == "after commit"):  # then the move was made, and the next one has its own time
            fleet.step(rollout)
        if stages(fleet, rollout)[-1][0] in (Stage.DONE, Stage.ABORTED):
            return killed
    raise AssertionError(f"still {stages(fleet, rollout)[-1]}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[tuple[str, int, int]]]:
    """The stages of a rollout nobody disturbs: of a good candidate, and of one that does not load."""
    found: dict[bool, list[tuple[str, int, int]]] = {}
    for refuses in (False, True):
        fleet = RolloutFleet(tmp_path_factory.mktemp("calm"), 30, reports=3)
        fleet.refuses = refuses
        rollout = fleet.started()
        play(fleet, rollout, None)
        found[refuses] = stages(fleet, rollout)
    return found


@pytest.mark.parametrize("refuses", [False, True], ids=["good", "does not load"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_controller_killed_at_each_move_goes_through_the_same_stages(
    tmp_path: Path, undisturbed: dict[bool, list[tuple[str, int, int]]], moment: str, refuses: bool
) -> None:
    fleet = RolloutFleet(tmp_path, 30, reports=3)
    fleet.refuses = refuses
    rollout = fleet.started()
    killed = play(fleet, rollout, moment)
    assert stages(fleet, rollout) == undisturbed[refuses]
    assert killed >= len(undisturbed[refuses]) - 2, "draft and start are the operator's moves, all others were killed"
    assert fleet.on(NEW if not refuses else OLD) == fleet.names

"""The loops of the web process that nobody watches: what goes wrong in one round is not their end."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from cloud.models import follower
from cloud.models.follower import follow_once, keep_following
from cloud.models.service import Registry
from cloud.rollouts import controller
from cloud.rollouts.controller import keep_moving
from cloud.rollouts.engine import State
from cloud.rollouts.service import Rollouts
from tests.support.rollout_fleet import RolloutFleet


class Faulty(Registry):
    """Its patches end in a fault of ours, once."""

    rounds = 0

    async def make_patches(self) -> int:
        self.rounds += 1
        if self.rounds == 1:
            raise KeyError("a fault")
        return await super().make_patches()


async def rounds_of(loop: Any, enough: Any) -> None:
    """Lets a loop run until it has done enough, or fails within five seconds."""
    running = asyncio.create_task(loop)
    async with asyncio.timeout(5):
        while not enough():
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_fault_in_one_round_does_not_end_the_following_of_boards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower, "_PERIOD_S", 0.01)
    made = RolloutFleet(tmp_path, 1, reports=0)

    async def work(engine: Any) -> None:
        registry = Faulty(engine, made.blobs)
        await rounds_of(keep_following(engine, registry), lambda: registry.rounds > 1)

    made.run(work)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info, "a fault leaves its traceback"


def test_a_fault_in_one_rollout_keeps_no_other_from_moving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "_PERIOD_S", 0.01)
    made = RolloutFleet(tmp_path, 1, reports=0)
    moved: list[int] = []

    class Moved(Rollouts):
        async def active(self) -> list[int]:
            return [1, 2]

        async def step(self, rollout: int) -> State:
            if rollout == 1:
                raise KeyError("a fault")
            moved.append(rollout)
            return State()

    async def work(engine: Any) -> None:
        await rounds_of(keep_moving(Moved(engine)), lambda: len(moved) > 1)

    made.run(work)
    assert set(moved) == {2}


def test_hellos_are_followed_also_after_the_clock_was_put_back(tmp_path: Path) -> None:
    made = RolloutFleet(tmp_path, 2, reports=0)  # its clock is years ahead
    seen: dict[str, int] = {}

    async def follow(engine: Any) -> list[str]:
        return await follow_once(engine, Registry(engine, made.blobs), seen)

    made.run(follow)
    made.now -= 3_600_000
    made.hello("pump-001")
    assert made.run(follow) == ["pump-001"]
    assert made.run(follow) == []

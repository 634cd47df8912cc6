"""A rollout over boards of real firmware, three in ten of them out of reach at any time, and when it was to end."""

import asyncio
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud.client import Client
from contract.features import Features
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.support.flow_boards import NEW, OLD, SCHEMA, Lives, World, living, on, until
from tools.simulate import SimulatedBoard

MINUTE_MS = 60_000
INTERVAL_MS = 40 * MINUTE_MS
SYNC_MS = 70 * MINUTE_MS  # with its jitter 61 to 79 minutes: a session at every second wake
PERIOD_MS = 2 * INTERVAL_MS
# In every five report periods a board is out of reach for one and a half.
CYCLE_MS, OUT_MS = 5 * PERIOD_MS, 5 * PERIOD_MS * 3 // 10


@dataclass(frozen=True)
class Course:
    """How many boards, how long their report period is here, and the plan."""

    boards: int
    period_s: float
    plan: dict[str, Any]

    @property
    def speed(self) -> float:
        return PERIOD_MS / 1000 / self.period_s


def artifact_of(key: PublisherKey, version: str, sequence: int) -> bytes:
    """A model that finds nothing strange; its score tells its sequence."""
    n_features = Features(SCHEMA).n_features
    vectors = [([n] * n_features, float(3 * n + sequence)) for n in (0, 5, -7)]
    fields = forge.manifest(
        name="flow", version=version, sequence=sequence, schema=SCHEMA, n_features=n_features, threshold=1e6
    )
    return pack(fields, golden_bytes(vectors), forge.payload(sequence, n_features=n_features, pad=2000), key)  # pyright: ignore[reportArgumentType]


def outages(board: int, boards: int) -> list[list[int]]:
    """When a board is out of reach, ms since it was switched on: the boards take turns."""
    first = -(CYCLE_MS * board // boards)
    return [[first + n * CYCLE_MS, first + n * CYCLE_MS + OUT_MS] for n in range(40)]


def world(board: int, boards: int) -> World:
    return World([[1000 + row * 7 % 50] for row in range(200)], {"outages": outages(board, boards), "seed": board})


async def roll_out(folder: Path, course: Course, program: Path | None) -> tuple[float, float]:
    """From v1 to v2; returns how many seconds it was said to take at its start, and how many it took."""
    lives = Lives(course.boards, INTERVAL_MS, {"sync_interval_ms": SYNC_MS}, course.speed)
    worlds = functools.partial(world, boards=course.boards)
    async with living(folder, lives, artifact_of, worlds, program) as (client, boards):
        return await watched(client, course, boards)


async def watched(client: Client, course: Course, boards: list[SimulatedBoard]) -> tuple[float, float]:
    period_s = course.period_s
    await until(lambda: on(client, OLD) == course.boards, 60 + 12 * period_s, f"{OLD} on all boards")
    await asyncio.sleep(6 * period_s)  # a past to compare with, and to foresee from
    body = {"name": "flow", "version": NEW, "fallback": OLD, "period_ms": round(period_s * 1000)}
    number = client.post("/rollouts", body | course.plan)["summary"]["id"]
    started = client.post(f"/rollouts/{number}/start")
    began_ms, eta_ms = started["state"]["started_ms"], started["summary"]["eta_ms"]
    found: dict[str, Any] = started

    def ended() -> bool:
        nonlocal found
        found = client.get(f"/rollouts/{number}")
        return found["summary"]["stage"] in ("done", "aborted")

    before = sum(board.totals.cpu_s for board in boards)
    await until(ended, 120 + 60 * period_s, "the end of the rollout")
    summary = found["summary"]
    assert summary["stage"] == "done", summary["reason"]
    for step in reversed(found["steps"]):
        at = (step["at_ms"] - began_ms) / 1000 / period_s
        print(f"  {at:6.2f} periods: {step['stage']}, {step['exposed']} boards: {step['reason']}")
    cpu_s = sum(board.totals.cpu_s for board in boards) - before
    print(f"  boards: {sum(board.totals.wakes for board in boards)} wakes, {cpu_s:.1f} s of CPU during the rollout")
    foreseen_s, took_s = (eta_ms - began_ms) / 1000, (summary["changed_ms"] - began_ms) / 1000
    print(
        f"{course.boards} boards, 30 % out of reach: foreseen {foreseen_s / period_s:.1f} report periods, "
        f"took {took_s / period_s:.1f} ({took_s / foreseen_s - 1:+.0%})"
    )
    # Who was out of reach at the end follows the champion.
    await until(lambda: on(client, NEW) == course.boards, 60 + 12 * period_s, f"{NEW} on all boards")
    return foreseen_s, took_s


@pytest.mark.timeout(400)
def test_a_rollout_over_sleeping_boards_ends_when_it_was_said_to(tmp_path: Path, fast_wakes: Path | None) -> None:
    plan = {"steps": [34, 100], "soak_periods": 3, "ramp_periods": 2}
    foreseen_s, took_s = asyncio.run(roll_out(tmp_path, Course(24, 3.0, plan), fast_wakes))
    assert abs(took_s - foreseen_s) <= 0.35 * foreseen_s, "24 boards average less out than the 100 below"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_boards_go_from_one_version_to_the_next(tmp_path: Path, fast_wakes: Path | None) -> None:
    plan = {"steps": [10, 25, 50, 100], "soak_periods": 6, "ramp_periods": 2}
    foreseen_s, took_s = asyncio.run(roll_out(tmp_path, Course(100, 20.0, plan), fast_wakes))
    assert abs(took_s - foreseen_s) <= 0.25 * foreseen_s


def test_three_boards_of_ten_are_out_of_reach_at_any_time() -> None:
    for at_ms in range(0, 3 * CYCLE_MS, 7 * MINUTE_MS):
        out = sum(any(begin <= at_ms < end for begin, end in outages(board, 100)) for board in range(100))
        assert 29 <= out <= 31

"""When a rollout that nothing stops will be done, from how its boards were heard of lately. Pure.

The stages are gone through as the controller will: a board that is told takes the candidate at its next contact,
says so a few wakes later, and counts once it has reported often enough; a stage ends when its periods are over and
enough of its boards count. How long a board takes to its next contact is drawn from its own past. Told now, it comes
back as it did after silences as long as its present one; told later, at a moment of which nothing is known, that moment
falls into a gap with a chance that is proportional to the gap's length (the inspection paradox; W. Feller, An
Introduction to Probability Theory and Its Applications II, 1971, I.4). So a board that is often out of reach costs what
it will cost.

Not foreseen: findings, pauses, approvals, and downloads that need more than one session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from cloud.rollouts.engine import CANARY_PERIODS, EXPOSING, Stage, State, needed
from cloud.rollouts.plan import Plan, exposed_at, next_open_ms

MAX_SLEEPERS = 240
"""More boards than these tell nothing new."""

# After the session that brings the artifact: one wake that proves it, one that begins the trial and says so, and on
# average one before either that had other things to do.
_INSTALL_WAKES = 3
_GOLDEN = (math.sqrt(5) - 1) / 2


class Sleeper(Struct, frozen=True):
    """A board of the cohort, as far as waiting for it goes. Times in ms."""

    gaps: tuple[float, ...]
    """Between contacts, lately; at least one, all above 0."""
    wake_ms: float
    """From wake to wake."""
    quiet_ms: float = 0.0
    """Since its last contact."""
    runs: bool = False
    """It says that it runs the candidate."""


def eta_ms(plan: Plan, state: State, sleepers: Sequence[Sleeper], now_ms: int) -> int | None:
    """Unix ms; None for a rollout that has ended, is paused or is taken back. `sleepers`: in bucket order, a sample."""
    if state.stage not in (Stage.DRAFT, *EXPOSING) or not sleepers:
        return None
    count = len(sleepers)
    begin_ms = float(now_ms if state.stage == Stage.DRAFT else state.entered_ms)
    stage = Stage.CANARY if state.stage == Stage.DRAFT else state.stage
    if state.stage == Stage.DRAFT:
        begin_ms = _opened(plan, begin_ms)
    exposed = _exposed(plan, state.step, count)
    # Whoever was told by now and does not run it is waited for from now on.
    running = [
        min(begin_ms, now_ms) if sleeper.runs else max(begin_ms, now_ms) + _wait_now(at, sleeper)
        for at, sleeper in enumerate(sleepers[:exposed])
    ]
    if stage == Stage.CANARY:
        late_ms = begin_ms + CANARY_PERIODS * plan.period_ms
        begin_ms = max(running) if max(running) <= late_ms else max(late_ms, _most(plan, running))
        stage = Stage.SOAK
    periods = plan.soak_periods if stage == Stage.SOAK else plan.ramp_periods
    begin_ms = _stage_end(plan, periods, sleepers, running, begin_ms, now_ms)
    for step in range(state.step + 1, len(plan.steps)):
        begin_ms = _opened(plan, begin_ms)
        fresh = sleepers[len(running) : _exposed(plan, step, count)]
        running += [begin_ms + _wait(at, sleeper) for at, sleeper in enumerate(fresh)]
        begin_ms = _stage_end(plan, plan.ramp_periods, sleepers, running, begin_ms, now_ms)
    return math.ceil(max(begin_ms, now_ms))


def _exposed(plan: Plan, step: int, count: int) -> int:
    return max(1, min(count, exposed_at(plan, step, count)))


def _stage_end(
    plan: Plan, periods: int, sleepers: Sequence[Sleeper], running: Sequence[float], begin_ms: float, now_ms: int
) -> float:
    """When `periods` are over and most of the boards have sent the reports that the step needs."""
    reports = max(1, periods // 2)
    counting = [
        at_ms + reports * sum(sleeper.gaps) / len(sleeper.gaps)
        for at_ms, sleeper in zip(running, sleepers, strict=False)
    ]
    return max(begin_ms + periods * plan.period_ms, _most(plan, counting), float(now_ms))


def _most(plan: Plan, times: Sequence[float]) -> float:
    """When as many boards are there as a step needs."""
    return sorted(times)[needed(plan, len(times)) - 1]


def _wait_now(at: int, sleeper: Sleeper) -> float:
    """From now to running it, for a board that has been quiet for so long."""
    longer = sorted(gap for gap in sleeper.gaps if gap > sleeper.quiet_ms)
    if not longer:
        return _wait(at, sleeper)
    gap = longer[int((at + 0.5) * _GOLDEN % 1 * len(longer))]
    return gap - sleeper.quiet_ms + _INSTALL_WAKES * sleeper.wake_ms


def _wait(at: int, sleeper: Sleeper) -> float:
    """From being told at any moment to running it: to the next contact, and the wakes it takes to install.

    Boards take different shares of their gaps, by the golden ratio: together they are spread evenly, however few.
    """
    left = (at + 0.5) * _GOLDEN % 1 * sum(sleeper.gaps)
    waited = 0.0
    gaps = sorted(sleeper.gaps)
    for passed, gap in enumerate(gaps):
        still = (gap - waited) * (len(gaps) - passed)  # the part of all gaps that lies between this and the one before
        if left <= still:
            return waited + left / (len(gaps) - passed) + _INSTALL_WAKES * sleeper.wake_ms
        left -= still
        waited = gap
    return waited + _INSTALL_WAKES * sleeper.wake_ms


def _opened(plan: Plan, at_ms: float) -> float:
    return float(next_open_ms(plan.window, math.ceil(at_ms)))

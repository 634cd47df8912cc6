"""When it will be done: plan, sleepers, what is over already."""

from typing import Any

import pytest

from cloud.rollouts.engine import Stage, State
from cloud.rollouts.eta import Sleeper, eta_ms
from cloud.rollouts.plan import Plan

P = 60_000
NOW = 30_000 * 86_400_000
PLAN = Plan(name="m", version="2.0.0", fallback="1.0.0", period_ms=P, soak_periods=4, ramp_periods=2)
REGULAR = Sleeper(gaps=(float(P),), wake_ms=P / 10)


def periods(state: State, sleepers: list[Sleeper], now_ms: int = NOW, **changes: Any) -> float:
    facts = {name: getattr(PLAN, name) for name in PLAN.__struct_fields__} | changes
    found = eta_ms(Plan(**facts), state, sleepers, now_ms)
    assert found is not None
    return (found - now_ms) / P


def test_boards_that_come_each_period_cost_their_contact_and_the_periods_of_the_plan() -> None:
    assert periods(State(), [REGULAR] * 100) == pytest.approx(1.3 + 4 + 3 * 2, abs=0.1)


def test_what_is_over_counts_no_more() -> None:
    runs = Sleeper(gaps=(float(P),), wake_ms=P / 10, runs=True)
    soak = State(stage=Stage.SOAK, started_ms=NOW - 5 * P, entered_ms=NOW - 3 * P)
    assert periods(soak, [runs] * 5 + [REGULAR] * 95) == pytest.approx(1 + 3 * 2, abs=0.1)
    last = State(stage=Stage.RAMP, step=3, entered_ms=NOW - 5 * P)
    assert periods(last, [runs] * 100) == 0.0


def test_a_board_that_was_just_heard_comes_a_gap_later_and_one_that_is_due_at_once() -> None:
    due = Sleeper(gaps=(float(P),), wake_ms=0.0, quiet_ms=0.9 * P)
    assert periods(State(), [due] * 100) == pytest.approx(0.1 + 4 + 3 * 2, abs=0.1)


def test_sleepers_are_waited_for_as_long_as_they_were_silent_before() -> None:
    daily = Sleeper(gaps=(20.0 * P,), wake_ms=P / 10)
    assert periods(State(), [daily] * 100) > 60, "soak and ramp need reports, and those come once in 20 periods"
    mixed = [daily if at % 10 == 0 else REGULAR for at in range(200)]
    assert periods(State(), mixed) < 16, "one board of ten may be missing from every step"


def test_a_maintenance_window_is_waited_for() -> None:
    midnight = NOW - NOW % 86_400_000
    waited = periods(State(), [REGULAR] * 100, midnight, window="02:00-02:01")
    assert waited * P / 86_400_000 > 3, "canaries and three steps, each on a day of its own"


@pytest.mark.parametrize("stage", [Stage.PAUSED, Stage.ROLLING_BACK, Stage.ABORTED, Stage.DONE])
def test_nothing_is_foreseen_of_what_does_not_go_forward(stage: Stage) -> None:
    assert eta_ms(PLAN, State(stage=stage), [REGULAR] * 100, NOW) is None

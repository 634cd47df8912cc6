"""The state table: every stage knows exactly the triggers it should, and no decision skips a stage."""

import random
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.errors import Conflict
from cloud.rollouts.engine import ACTIVE, EXPOSING, TRANSITIONS, Stage, State, Trigger, decide, exposed_now, moved
from cloud.rollouts.gates import BoardFacts, Status
from cloud.rollouts.plan import Plan

PLAN = Plan(name="m", version="2.0.0", fallback="1.0.0", period_ms=1000, soak_periods=2, ramp_periods=1)
COHORT = 100


def test_every_stage_can_be_left_but_the_last_two() -> None:
    for stage in Stage:
        ways_out = [trigger for (of, trigger), to in TRANSITIONS.items() if of == stage and to != stage]
        assert bool(ways_out) is (stage not in (Stage.DONE, Stage.ABORTED))


def test_every_stage_that_exposes_boards_can_be_taken_back() -> None:
    for stage in (*EXPOSING, Stage.PAUSED):
        assert TRANSITIONS[stage, Trigger.WORSE] == Stage.ROLLING_BACK
        assert TRANSITIONS[stage, Trigger.ROLLBACK] == Stage.ROLLING_BACK


@pytest.mark.parametrize(("stage", "trigger"), list(product(Stage, Trigger)))
def test_what_the_table_does_not_hold_is_a_conflict(stage: Stage, trigger: Trigger) -> None:
    if (stage, trigger) in TRANSITIONS:
        moved(State(stage=stage), trigger, 5)
        return
    with pytest.raises(Conflict, match=f"is {stage} cannot {trigger}"):
        moved(State(stage=stage), trigger, 5)


def test_pausing_and_resuming_keeps_the_step() -> None:
    ramp = State(stage=Stage.RAMP, step=2, entered_ms=1)
    paused = moved(ramp, Trigger.PAUSE, 10)
    assert (paused.stage, paused.paused_from, paused.step) == (Stage.PAUSED, Stage.RAMP, 2)
    assert exposed_now(PLAN, paused, COHORT) == exposed_now(PLAN, ramp, COHORT) == 50
    back = moved(paused, Trigger.RESUME, 20)
    assert (back.stage, back.paused_from, back.step, back.entered_ms) == (Stage.RAMP, None, 2, 20)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_the_boards_say_no_stage_is_skipped_and_exposure_follows_the_stage(seed: int) -> None:
    rng = random.Random(seed)
    story = [
        (rng.randint(1, 3000), [(rng.choice(list(Status)), rng.random() < 0.5) for _ in range(COHORT)])
        for _ in range(rng.randint(5, 30))
    ]
    now = 0
    state = moved(State(), Trigger.START, now)
    seen = [(state.stage, state.step)]
    for wait, boards in story:
        now += wait
        exposed = exposed_now(PLAN, state, COHORT)
        facts = [
            BoardFacts(f"b{at}", status if at < exposed else Status.CONTROL, silent and status != Status.CONTROL, 3)
            for at, (status, silent) in enumerate(boards)
        ]
        decision = decide(PLAN, state, facts, now)
        again = decide(PLAN, state, facts, now)
        assert decision == again, "deciding twice is deciding once"
        state = decision.state
        assert decision.exposed == exposed_now(PLAN, state, COHORT)
        assert (decision.exposed == 0) is (state.stage in (Stage.ROLLING_BACK, Stage.ABORTED))
        if (state.stage, state.step) != seen[-1]:
            seen.append((state.stage, state.step))
        if state.stage not in ACTIVE:
            break
    for (before, step), (after, next_step) in pairwise(seen):
        assert after in {to for (of, _), to in TRANSITIONS.items() if of == before}
        assert next_step in (step, step + 1)

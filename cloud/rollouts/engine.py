"""The rollout as one state table and one pure function that says what to do next.

Theory of operation. The controller reads the state and the facts, calls `decide`, and writes the new state together
with the boards' assignments in one transaction. Nothing is remembered elsewhere: a controller that was killed reads the
same state and decides the same, so no stage is skipped and none is done twice. Looks at the gates are numbered by time,
not by how often the controller ran.

    stage         what happens                                        leaves when
    DRAFT         planned, no board touched                           started, or aborted
    CANARY        the canaries are told to run the candidate          all that are awake have tried it: SOAK
    SOAK          gates compare canaries with control boards          soak_periods of reports, and approval: RAMP
    RAMP          the next step's boards are added, and watched       ramp_periods at 100 %: DONE
    DONE          the candidate is champion, boards follow it         for ever
    PAUSED        no board is added; gates go on                      resumed, aborted, or a gate: ROLLING_BACK
    ROLLING_BACK  every board is told to run the fallback             no board runs the candidate: ABORTED
    ABORTED       boards follow the champion                          for ever

A gate that finds the candidate worse leads to ROLLING_BACK from every stage in which boards run it. Boards that sleep
or are offline wait and do not fail; what falls silent after it took the candidate does. When the reports a stage needs
are patience_periods overdue, it is PAUSED: without evidence nothing goes forward. A comparison (A/B, or in the shadow
of the fallback) has no RAMP: after its soak it waits for the operator, whose approval leads to DONE. In the shadow a
board "runs the candidate" when that scores beside the fallback, which decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from cloud.errors import Conflict
from cloud.rollouts.gates import BoardFacts, Finding, Status, judge, judge_installs
from cloud.rollouts.plan import Mode, Plan, exposed_at, is_open

CANARY_PERIODS = 2
"""How long sleeping canaries are waited for when the others have tried the candidate."""


class Stage(StrEnum):
    """Where a rollout is."""

    DRAFT = "draft"
    CANARY = "canary"
    SOAK = "soak"
    RAMP = "ramp"
    DONE = "done"
    PAUSED = "paused"
    ROLLING_BACK = "rolling back"
    ABORTED = "aborted"


class Trigger(StrEnum):
    """What moves it."""

    START = "start"
    TRIED = "canaries tried it"
    SOAKED = "soak passed"
    STEP = "step passed"
    COMPLETE = "all boards run it"
    WORSE = "worse"
    STALLED = "no evidence"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLLBACK = "rollback"
    GONE = "no board runs it"


ACTIVE = frozenset({Stage.CANARY, Stage.SOAK, Stage.RAMP, Stage.PAUSED, Stage.ROLLING_BACK})
"""Stages in which the rollout owns its boards."""
EXPOSING = (Stage.CANARY, Stage.SOAK, Stage.RAMP)

TRANSITIONS: dict[tuple[Stage, Trigger], Stage] = {
    (Stage.DRAFT, Trigger.START): Stage.CANARY,
    (Stage.DRAFT, Trigger.ABORT): Stage.ABORTED,
    (Stage.CANARY, Trigger.TRIED): Stage.SOAK,
    (Stage.SOAK, Trigger.SOAKED): Stage.RAMP,
    (Stage.RAMP, Trigger.STEP): Stage.RAMP,
    (Stage.RAMP, Trigger.COMPLETE): Stage.DONE,
    (Stage.SOAK, Trigger.COMPLETE): Stage.DONE,  # a comparison that the operator decides for the candidate
    **{(stage, Trigger.WORSE): Stage.ROLLING_BACK for stage in (*EXPOSING, Stage.PAUSED)},
    **{(stage, Trigger.ROLLBACK): Stage.ROLLING_BACK for stage in (*EXPOSING, Stage.PAUSED)},
    **{(stage, Trigger.ABORT): Stage.ABORTED for stage in (*EXPOSING, Stage.PAUSED, Stage.ROLLING_BACK)},
    **{(stage, Trigger.STALLED): Stage.PAUSED for stage in EXPOSING},
    **{(stage, Trigger.PAUSE): Stage.PAUSED for stage in EXPOSING},
    (Stage.PAUSED, Trigger.RESUME): Stage.PAUSED,  # replaced by the stage it was paused in
    (Stage.ROLLING_BACK, Trigger.GONE): Stage.ABORTED,
}


class State(Struct, frozen=True):
    """All there is to know of a rollout's progress. Stored as it is."""

    stage: Stage = Stage.DRAFT
    step: int = 0
    """Index into plan.steps: boards up to that share shall run the candidate."""
    started_ms: int = 0
    entered_ms: int = 0
    """When the stage, or its present step, began."""
    look: int = 0
    """Looks at the gates so far."""
    paused_from: Stage | None = None
    approved: bool = False
    reason: str = ""
    """Why it is where it is."""


class Decision(Struct, frozen=True):
    """What the controller writes."""

    state: State
    findings: list[Finding]
    """What the gates found, when this was a look at them."""
    exposed: int
    """How many boards, in bucket order, shall run the candidate; the others run the fallback."""


def moved(state: State, trigger: Trigger, now_ms: int, reason: str = "") -> State:
    """The state after a trigger; raises Conflict when the stage does not know it."""
    stage = TRANSITIONS.get((state.stage, trigger))
    if stage is None:
        raise Conflict(f"a rollout that is {state.stage} cannot {trigger}", "`edgewise rollout status` shows its stage")
    if trigger == Trigger.RESUME and state.paused_from is not None:
        stage = state.paused_from
    return replace(
        state,
        stage=stage,
        step=state.step + (1 if stage == Stage.RAMP and trigger in (Trigger.SOAKED, Trigger.STEP) else 0),
        started_ms=now_ms if trigger == Trigger.START else state.started_ms,
        entered_ms=now_ms,
        paused_from=state.stage if stage == Stage.PAUSED else None,
        reason=reason,
    )


def decide(plan: Plan, state: State, boards: Sequence[BoardFacts], now_ms: int) -> Decision:
    """What to do now, at most one transition. `boards`: the cohort in bucket order, with what the store knows."""
    findings: list[Finding] = []
    if state.stage in (*EXPOSING, Stage.PAUSED):
        look = look_due(plan, state, now_ms)
        findings = judge(plan, look, boards) if look > state.look else [judge_installs(plan, boards)]
        state = replace(state, look=max(look, state.look))
        worse = next((finding for finding in findings if finding.worse), None)
        if worse is not None:
            state = moved(state, Trigger.WORSE, now_ms, f"{worse.gate}: {worse.words}")
            return Decision(state, findings, exposed_now(plan, state, len(boards)))
    if state.stage in EXPOSING:
        state = _advanced(plan, state, boards, now_ms)
    elif state.stage == Stage.ROLLING_BACK:
        state = _withdrawn(plan, state, boards, now_ms)
    return Decision(state, findings, exposed_now(plan, state, len(boards)))


def needs_reports(plan: Plan, state: State, now_ms: int) -> bool:
    """Whether `decide` goes by what boards reported: a look is due, or a stage that wants evidence may end."""
    if look_due(plan, state, now_ms) > state.look:
        return True
    return state.stage in (Stage.SOAK, Stage.RAMP) and now_ms - state.entered_ms >= _least_ms(plan, state.stage)


def _least_ms(plan: Plan, stage: Stage) -> int:
    """How long a stage of EXPOSING takes at least."""
    return {Stage.CANARY: 0, Stage.SOAK: plan.soak_periods, Stage.RAMP: plan.ramp_periods}[stage] * plan.period_ms


def look_due(plan: Plan, state: State, now_ms: int) -> int:
    """How many whole report periods have passed since the start: the number of looks there should have been."""
    return max(0, (now_ms - state.started_ms) // plan.period_ms)


def exposed_now(plan: Plan, state: State, cohort: int) -> int:
    """How many boards, in bucket order, shall run the candidate in this state."""
    if state.stage == Stage.DONE:
        return cohort
    if state.stage in EXPOSING or state.stage == Stage.PAUSED:
        return exposed_at(plan, state.step, cohort)
    return 0


def _advanced(plan: Plan, state: State, boards: Sequence[BoardFacts], now_ms: int) -> State:
    exposed = [board for board in boards if board.status != Status.CONTROL]
    waited, due = (now_ms - state.entered_ms) / plan.period_ms, _least_ms(plan, state.stage) // plan.period_ms
    if waited < due:
        return state
    if state.stage == Stage.CANARY:
        tried = sum(board.status in (Status.RUNNING, Status.FAILED) for board in exposed)
        # Sleepers get their time; after that the others are enough.
        late = waited >= CANARY_PERIODS and tried >= needed(plan, len(exposed))
        if exposed and (tried == len(exposed) or late):
            return moved(state, Trigger.TRIED, now_ms, f"{tried} of {len(exposed)} canaries have tried it")
        lacking = f"{tried} of {len(exposed)} canaries have tried it"
    else:
        lacking = _lacking(plan, boards, due)
        if not lacking:
            return _next_step(plan, state, boards, now_ms)
    if waited >= due + plan.patience_periods:
        return moved(state, Trigger.STALLED, now_ms, lacking)
    return replace(state, reason=lacking)


def _withdrawn(plan: Plan, state: State, boards: Sequence[BoardFacts], now_ms: int) -> State:
    """ABORTED once no board runs the candidate, or may wake up with it; the unreachable are not waited for for ever."""
    left = [board for board in boards if board.status in (Status.RUNNING, Status.TRYING, Status.WAITING)]
    if not left:
        return moved(state, Trigger.GONE, now_ms, state.reason)
    if now_ms - state.entered_ms >= plan.patience_periods * plan.period_ms:
        names = ", ".join(board.device for board in left[:5])
        return moved(state, Trigger.GONE, now_ms, f"{state.reason}; {len(left)} will hear of it late: {names}")
    return state


def _next_step(plan: Plan, state: State, boards: Sequence[BoardFacts], now_ms: int) -> State:
    if state.stage == Stage.SOAK:
        if plan.mode != Mode.RAMP:
            if not state.approved:
                return replace(state, reason=f"compared: `approve` takes {plan.version}, `rollback` {plan.fallback}")
            return moved(state, Trigger.COMPLETE, now_ms, "the operator took it")
        if plan.approval and not state.approved:
            return replace(state, reason="waits for `edgewise rollout approve`")
        trigger, reason = Trigger.SOAKED, f"{plan.soak_periods} periods without a finding"
    elif state.step + 1 == len(plan.steps):
        running = sum(board.status == Status.RUNNING for board in boards)
        return moved(state, Trigger.COMPLETE, now_ms, f"{running} of {len(boards)} boards run it")
    else:
        trigger, reason = Trigger.STEP, f"{plan.steps[state.step]} % passed"
    if not is_open(plan.window, now_ms):
        return replace(state, reason=f"waits for the maintenance window {plan.window} UTC")
    return moved(state, trigger, now_ms, reason)


def _lacking(plan: Plan, boards: Sequence[BoardFacts], periods: int) -> str:
    """What a step of `periods` still needs before the next one, "" for nothing.

    Evidence, not time: most boards that run the candidate, and half of the others, must have reported through half of
    the step.
    """
    exposed = [board for board in boards if board.status != Status.CONTROL]
    controls = [board for board in boards if board.status == Status.CONTROL]
    least = max(1, periods // 2)
    heard = sum(board.status == Status.RUNNING and board.reports >= least for board in exposed)
    if heard < needed(plan, len(exposed)):
        return (
            f"{heard} of {len(exposed)} boards that run it have sent {least} reports, {needed(plan, len(exposed))} must"
        )
    heard = sum(board.reports >= least for board in controls)
    if 2 * heard < len(controls):
        return f"{heard} of {len(controls)} boards to compare with have sent {least} reports, half must"
    return ""


def needed(plan: Plan, exposed: int) -> int:
    """Of so many boards, how many must have been heard: sleepers may be missing, but four boards of five may not."""
    return max(1, min(plan.min_canaries, exposed), (exposed * 4 + 4) // 5)

"""Rollouts in the store. Each move is one transaction: state, boards, wishes and history together, or nothing.

The controller and the operator's commands go the same way: read, decide (engine.py), `_apply`. A process that is killed
anywhere leaves the last move complete and the next one undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud.clock import now_ms
from cloud.errors import BadRequest, Conflict, NotFound
from cloud.models import desired as outbox
from cloud.models.queries import find_version
from cloud.models.service import set_alias
from cloud.rollouts import cohort as cohorts
from cloud.rollouts.engine import ACTIVE, Decision, Stage, State, Trigger, decide, exposed_now, moved, needs_reports
from cloud.rollouts.facts import Member, artifact_names, board_facts, members
from cloud.rollouts.plan import Mode, Plan, is_open, validated
from cloud.rollouts.tables import rollout_boards, rollout_steps, rollouts
from cloud.store.engine import writing
from cloud.store.tables import artifacts
from contract import artifact

OPERATOR = "operator"
CONTROLLER = "controller"


class Rollouts:
    """Everything that makes or moves a rollout."""

    def __init__(self, engine: AsyncEngine, clock_ms: Callable[[], int] = now_ms) -> None:
        self._writing = writing(engine)
        self._engine = engine
        self._clock_ms = clock_ms

    async def plan(self, plan: Plan) -> int:
        """Writes a DRAFT with its cohort; no board is touched. Returns its id.

        Raises BadRequest, NotFound, or Conflict when a board of the cohort is in another rollout.
        """
        now = self._clock_ms()
        validated(msgspec.structs.replace(plan, period_ms=plan.period_ms or cohorts.DEFAULT_PERIOD_MS))
        async with self._writing.begin() as connection:
            await find_version(connection, plan.name, plan.version)
            await find_version(connection, plan.name, plan.fallback)
            names = await cohorts.eligible(connection, plan, now)
            if plan.period_ms == 0:
                plan = msgspec.structs.replace(plan, period_ms=await cohorts.measured_period_ms(connection, names))
            await cohorts.check(connection, validated(plan), names)
            values: dict[str, Any] = {
                "name": plan.name,
                "version": plan.version,
                "fallback": plan.fallback,
                "plan": msgspec.to_builtins(plan),
                "stage": Stage.DRAFT,
                "state": msgspec.to_builtins(State()),
                "findings": [],
                "created_ms": now,
                "changed_ms": now,
            }
            key = (await connection.execute(sa.insert(rollouts).values(values))).inserted_primary_key
            rollout: int = key[0] if key is not None else 0
            await cohorts.enrol(connection, rollout, names)
            await _note(connection, rollout, State(), 0, f"planned for {len(names)} boards", OPERATOR, now)
        return rollout

    async def start(self, rollout: int) -> None:
        """DRAFT -> CANARY: takes hold of the boards, writes down their past, tells the canaries."""
        async with self._writing.begin() as connection:
            plan, state = await _load(connection, rollout)
            now = self._clock_ms()
            state = moved(state, Trigger.START, now)
            if not is_open(plan.window, now):
                raise Conflict(f"the maintenance window {plan.window} UTC is closed", "start it within the window")
            names = [member.device for member in await members(connection, rollout)]
            await cohorts.take_hold(connection, rollout, plan, names, now)
            await self._apply(connection, rollout, plan, Decision(state, [], 0), "started", OPERATOR)

    async def pause(self, rollout: int) -> None:
        """No further board is added until `resume`; the gates go on."""
        await self._command(rollout, Trigger.PAUSE, "paused")

    async def resume(self, rollout: int) -> None:
        """Back to the stage it was paused in, which begins anew."""
        await self._command(rollout, Trigger.RESUME, "resumed")

    async def approve(self, rollout: int) -> None:
        """Lets a plan that asks for approval go on to the ramp, and ends a comparison for the candidate."""
        async with self._writing.begin() as connection:
            plan, state = await _load(connection, rollout)
            if state.stage not in ACTIVE - {Stage.ROLLING_BACK}:
                raise Conflict(f"a rollout that is {state.stage} needs no approval", "see `edgewise rollout status`")
            if plan.mode == Mode.SHADOW:
                await _require_decider(connection, plan)
            state = msgspec.structs.replace(state, approved=True)
            await self._apply(connection, rollout, plan, Decision(state, [], 0), "approved", OPERATOR)

    async def abort(self, rollout: int) -> None:
        """Ends it now: the boards follow the champion of their model again, unsupervised."""
        await self._command(rollout, Trigger.ABORT, "aborted by the operator")

    async def roll_back(self, rollout: int, to: str | None = None) -> None:
        """Takes the candidate back, to the plan's fallback or another version, and watches until it is gone."""
        async with self._writing.begin() as connection:
            plan, state = await _load(connection, rollout)
            if to is not None and to != plan.fallback:
                if to == plan.version:
                    raise BadRequest(f"{to} is what is rolled back", "name another version")
                await find_version(connection, plan.name, to)
                plan = msgspec.structs.replace(plan, fallback=to)
                values = {"plan": msgspec.to_builtins(plan), "fallback": to}
                await connection.execute(sa.update(rollouts).where(rollouts.c.id == rollout).values(values))
            state = moved(state, Trigger.ROLLBACK, self._clock_ms(), "rolled back by the operator")
            await self._apply(connection, rollout, plan, Decision(state, [], 0), state.reason, OPERATOR)

    async def active(self) -> list[int]:
        """Rollouts the controller looks after."""
        async with self._engine.connect() as connection:
            query = sa.select(rollouts.c.id).where(rollouts.c.stage.in_([stage.value for stage in ACTIVE]))
            return list((await connection.execute(query.order_by(rollouts.c.id))).scalars())

    async def step(self, rollout: int) -> State:
        """What the controller does for one rollout, now; doing it again changes nothing.

        Reading the reports of many boards and judging them takes seconds, for which no writer waits. What was decided
        counts if the rollout is still as it was then; if not, the next step decides anew.
        """
        async with self._engine.connect() as connection:
            plan, state = await _load(connection, rollout)
            if state.stage not in ACTIVE:
                return state
            now = self._clock_ms()
            facts = await board_facts(
                connection,
                await members(connection, rollout),
                await artifact_names(connection, plan.name, plan.version),
                state.started_ms,
                now,
                plan.period_ms if needs_reports(plan, state, now) else 0,
                plan.mode == Mode.SHADOW,
            )
        decision = decide(plan, state, facts, now)
        if decision.state == state:
            return state
        async with self._writing.begin() as connection:
            found = await _load(connection, rollout)
            if found != (plan, state):
                return found[1]
            await self._apply(connection, rollout, plan, decision, decision.state.reason, CONTROLLER)
        return decision.state

    async def _command(self, rollout: int, trigger: Trigger, reason: str) -> None:
        async with self._writing.begin() as connection:
            plan, state = await _load(connection, rollout)
            state = moved(state, trigger, self._clock_ms(), reason)
            await self._apply(connection, rollout, plan, Decision(state, [], 0), reason, OPERATOR)

    async def _apply(
        self, connection: AsyncConnection, rollout: int, plan: Plan, decision: Decision, reason: str, by: str
    ) -> None:
        """Writes a new state and all that follows from it for the boards."""
        now = self._clock_ms()
        _, before = await _load(connection, rollout)
        state = decision.state
        if state.stage == Stage.RAMP and state.step > before.step:
            late = await cohorts.join(connection, rollout, plan, now)
            reason += f"; {len(late)} boards joined" if late else ""
        cohort = await members(connection, rollout)
        exposed = exposed_now(plan, state, len(cohort))
        changed = await _tell(connection, rollout, plan, cohort, exposed, now)
        if state.stage in (Stage.DONE, Stage.ABORTED) and before.stage in ACTIVE:
            if state.stage == Stage.DONE:
                await set_alias(connection, plan.name, outbox.CHAMPION, plan.version, f"rollout {rollout}", now)
            changed = [member.device for member in cohort]
            await outbox.release(connection, changed)
            await cohorts.let_go(connection, rollout)
        await outbox.reconcile(connection, now, None if state.stage == Stage.DONE else changed)
        values: dict[str, Any] = {"stage": state.stage, "state": msgspec.to_builtins(state), "changed_ms": now}
        if decision.findings:
            values["findings"] = msgspec.to_builtins(decision.findings)
        await connection.execute(sa.update(rollouts).where(rollouts.c.id == rollout).values(values))
        if (state.stage, state.step, state.approved) != (before.stage, before.step, before.approved):
            await _note(connection, rollout, state, exposed, reason, by, now)


async def _tell(
    connection: AsyncConnection, rollout: int, plan: Plan, cohort: Sequence[Member], exposed: int, now: int
) -> list[str]:
    """Brings the boards' assignments in line with how many shall run the candidate; returns those that change."""
    source = f"{outbox.ROLLOUT_SOURCE}{rollout}"
    joining = [member.device for rank, member in enumerate(cohort) if rank < exposed and not member.exposed]
    leaving = [member.device for rank, member in enumerate(cohort) if rank >= exposed and member.exposed]
    beside = plan.mode == Mode.SHADOW
    for names, now_exposed in ((joining, True), (leaving, False)):
        version = plan.version if now_exposed and not beside else plan.fallback
        shadow = plan.version if now_exposed and beside else None
        await outbox.assign(connection, names, plan.name, version, source, now, shadow)
        for part in outbox.chunks(names):
            rows = sa.update(rollout_boards).where(
                rollout_boards.c.rollout == rollout, rollout_boards.c.device.in_(part)
            )
            await connection.execute(rows.values(exposed=now_exposed, told_ms=now))
    return joining + leaving


async def _require_decider(connection: AsyncConnection, plan: Plan) -> None:
    """Raises Conflict for a version that its publisher signed to score beside another only."""
    query = sa.select(artifacts.c.manifest).where(artifacts.c.name == plan.name, artifacts.c.version == plan.version)
    for manifest in (await connection.execute(query)).scalars():
        if manifest["class"] == artifact.CLASS_SHADOW:
            raise Conflict(
                f"{plan.name} {plan.version} is signed to score as a shadow and never to decide",
                "publish it as a model under a new version, and abort this comparison",
            )


async def _load(connection: AsyncConnection, rollout: int) -> tuple[Plan, State]:
    query = sa.select(rollouts.c.plan, rollouts.c.state).where(rollouts.c.id == rollout)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"no rollout {rollout}", "`edgewise rollout list` shows them")
    return msgspec.convert(row.plan, Plan), msgspec.convert(row.state, State)


async def _note(
    connection: AsyncConnection, rollout: int, state: State, exposed: int, reason: str, by: str, now: int
) -> None:
    values = {
        "rollout": rollout,
        "at_ms": now,
        "stage": state.stage,
        "step": state.step,
        "exposed": exposed,
        "reason": reason,
        "by": by,
    }
    await connection.execute(sa.insert(rollout_steps).values(values))

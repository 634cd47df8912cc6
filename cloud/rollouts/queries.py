"""Reads of rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices import stability
from cloud.errors import NotFound
from cloud.rollouts import shadow
from cloud.rollouts.engine import ACTIVE, EXPOSING, Stage, State
from cloud.rollouts.eta import MAX_SLEEPERS, eta_ms
from cloud.rollouts.facts import artifact_names, board_facts, members, sleepers
from cloud.rollouts.gates import BoardFacts, Finding, Status
from cloud.rollouts.plan import Mode, Plan
from cloud.rollouts.tables import rollout_steps, rollouts
from cloud.rollouts.views import Cohort, Disagreement, Rollout, RolloutDetail, Step

_MAX_STEPS = 200
_MAX_BOARDS = 1000


async def list_rollouts(connection: AsyncConnection, now_ms: int, limit: int = 100) -> list[Rollout]:
    """The newest first."""
    rows = (await connection.execute(sa.select(rollouts).order_by(rollouts.c.id.desc()).limit(limit))).mappings()
    return [(await _summary(connection, row, now_ms))[0] for row in rows.all()]


async def show_rollout(connection: AsyncConnection, rollout: int, now_ms: int) -> RolloutDetail:
    """Raises NotFound."""
    row = (await connection.execute(sa.select(rollouts).where(rollouts.c.id == rollout))).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no rollout {rollout}", "`edgewise rollout list` shows them")
    summary, facts = await _summary(connection, row, now_ms)
    cohort = await members(connection, rollout)
    exposed = {member.device for member in cohort if member.exposed}
    plan, state = msgspec.convert(row["plan"], Plan), msgspec.convert(row["state"], State)
    names = await artifact_names(connection, plan.name, plan.version)
    query = sa.select(rollout_steps).where(rollout_steps.c.rollout == rollout).order_by(rollout_steps.c.id.desc())
    steps = (await connection.execute(query.limit(_MAX_STEPS))).mappings()
    return RolloutDetail(
        summary=summary,
        plan=plan,
        state=state,
        findings=msgspec.convert(row["findings"], list[Finding]),
        steps=[Step(s["at_ms"], s["stage"], s["step"], s["exposed"], s["reason"], s["by"]) for s in steps],
        cohort=[
            Cohort(board.device, board.device in exposed, board.status, board.silent, board.reason)
            for board in facts[:_MAX_BOARDS]
        ],
        shadow=await shadow.found(connection, plan, [member.device for member in cohort], names, state.started_ms),
        stability=await stability.of_boards(connection, [board.device for board in facts], summary.created_ms),
    )


async def list_disagreements(connection: AsyncConnection, rollout: int, limit: int) -> list[Disagreement]:
    """Windows on which a comparison in the shadow found the models to differ, the newest first; raises NotFound."""
    query = sa.select(rollouts.c.plan, rollouts.c.state).where(rollouts.c.id == rollout)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"no rollout {rollout}", "`edgewise rollout list` shows them")
    plan, state = msgspec.convert(row.plan, Plan), msgspec.convert(row.state, State)
    return await shadow.of_rollout(connection, rollout, plan, state.started_ms, limit)


async def _summary(connection: AsyncConnection, row: sa.RowMapping, now_ms: int) -> tuple[Rollout, list[BoardFacts]]:
    plan, state = msgspec.convert(row["plan"], Plan), msgspec.convert(row["state"], State)
    cohort = await members(connection, row["id"])
    names = await artifact_names(connection, plan.name, plan.version)
    beside = plan.mode == Mode.SHADOW
    facts = await board_facts(connection, cohort, names, state.started_ms, now_ms, shadow=beside)
    counts = Counter(board.status for board in facts)
    active = state.stage in ACTIVE
    summary = Rollout(
        id=row["id"],
        name=plan.name,
        version=plan.version,
        fallback=plan.fallback,
        stage=state.stage,
        step_percent=_percent(plan, state),
        boards=len(cohort),
        running=counts[Status.RUNNING],
        failed=counts[Status.FAILED],
        waiting=counts[Status.WAITING] + counts[Status.TRYING] if active else 0,
        silent=sum(board.silent for board in facts),
        reason=state.reason,
        created_ms=row["created_ms"],
        changed_ms=row["changed_ms"],
        eta_ms=await _eta_ms(connection, plan, state, facts, now_ms),
    )
    return summary, facts


async def _eta_ms(
    connection: AsyncConnection, plan: Plan, state: State, facts: Sequence[BoardFacts], now_ms: int
) -> int | None:
    if state.stage not in (Stage.DRAFT, *EXPOSING):
        return None
    stride = -(-len(facts) // MAX_SLEEPERS)
    sample = facts[::stride]
    found = await sleepers(connection, [board.device for board in sample], plan.period_ms, now_ms)
    there = [msgspec.structs.replace(found[board.device], runs=board.status == Status.RUNNING) for board in sample]
    return eta_ms(plan, state, there, now_ms)


def _percent(plan: Plan, state: State) -> int:
    if state.stage in (Stage.DRAFT, Stage.ROLLING_BACK, Stage.ABORTED):
        return 0
    return 100 if state.stage == Stage.DONE else plan.steps[state.step]


async def users_of(connection: AsyncConnection, name: str, version: str) -> list[int]:
    """Rollouts that have not ended and are from or to a version."""
    ended = [Stage.DONE.value, Stage.ABORTED.value]
    query = sa.select(rollouts.c.id).where(
        rollouts.c.name == name,
        (rollouts.c.version == version) | (rollouts.c.fallback == version),
        rollouts.c.stage.not_in(ended),
    )
    return list((await connection.execute(query)).scalars())

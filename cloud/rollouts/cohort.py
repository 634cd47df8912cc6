"""Which boards a rollout is about, and how it takes hold of them and lets go."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.errors import BadRequest, Conflict
from cloud.models import desired as outbox
from cloud.models.manifests import from_json
from cloud.models.tables import assignments
from cloud.models.targets import choose
from cloud.rollouts.facts import past_of
from cloud.rollouts.plan import MAX_COHORT, Mode, Plan, canaries_of, in_bucket_order
from cloud.rollouts.tables import rollout_boards
from cloud.store.tables import artifacts, device_tags, devices, health, models

DEFAULT_PERIOD_MS = 3_600_000


async def eligible(connection: AsyncConnection, plan: Plan, now_ms: int) -> list[str]:
    """The boards of a plan: they run the fallback now, match the plan's filters, can run the candidate, are not pinned.

    That they run the fallback is what makes going back sure: it stays in their other slot. Raises BadRequest for an
    empty cohort, saying how many boards each condition left.
    """
    rows = await _matching(connection, plan)
    wanted = set(plan.devices)
    if wanted:
        missing = sorted(wanted - {row["device"] for row in rows})
        if missing:
            raise BadRequest(
                f"{', '.join(missing[:5])} run{'s' if len(missing) == 1 else ''} no {plan.name} {plan.fallback}",
                "a rollout is for boards that run the version it can go back to, and match its filters",
            )
        rows = [row for row in rows if row["device"] in wanted]
    if len(rows) > MAX_COHORT:
        raise BadRequest(f"more than {MAX_COHORT} boards in one rollout", "narrow it with --kind, --tag or --devices")
    fitting = await _able(connection, plan, rows, now_ms)
    if not fitting:
        raise BadRequest(
            f"no board to roll {plan.name} {plan.version} out to: {len(rows)} run {plan.fallback} and match, none of "
            f"them can take {plan.version}",
            "see `edgewise device list`, or add an artifact for their target",
        )
    return fitting


async def join(connection: AsyncConnection, rollout: int, plan: Plan, now_ms: int) -> list[str]:
    """Takes in the boards that would be of the cohort had they been there at its start; returns them.

    They come last, so that who is a canary does not change. A plan that names its boards takes in no others.
    """
    if plan.devices:
        return []
    ranks = await connection.execute(sa.select(rollout_boards.c.device, rollout_boards.c.rank).where(_of(rollout)))
    known = {row.device: row.rank for row in ranks}
    taken = set((await connection.execute(_in_rollouts())).scalars())
    rows = [row for row in await _matching(connection, plan) if row["device"] not in known.keys() | taken]
    late = in_bucket_order(rollout, await _able(connection, plan, rows[: MAX_COHORT - len(known)], now_ms))
    if late:
        await _write_down(connection, rollout, late, max(known.values()) + 1)
        await take_hold(connection, rollout, plan, late, now_ms)
    return late


async def _matching(connection: AsyncConnection, plan: Plan) -> Sequence[sa.RowMapping]:
    pinned = sa.select(assignments.c.device).where(assignments.c.version.is_not(None))
    query = sa.select(devices).where(
        devices.c.model_name == plan.name,
        devices.c.model_version == plan.fallback,
        devices.c.device.not_in(pinned) | devices.c.device.in_(_in_rollouts()),
    )
    for column, value in (
        (devices.c.kind, plan.kind),
        (devices.c.arch, plan.arch),
        (devices.c.firmware, plan.firmware),
    ):
        if value:
            query = query.where(column == value)
    for tag in plan.tags:
        query = query.where(devices.c.device.in_(sa.select(device_tags.c.device).where(device_tags.c.tag == tag)))
    return (await connection.execute(query.order_by(devices.c.device).limit(MAX_COHORT + 1))).mappings().all()


async def _able(connection: AsyncConnection, plan: Plan, rows: Sequence[sa.RowMapping], now_ms: int) -> list[str]:
    candidates = await outbox.candidates(connection, plan.name, plan.version)
    held = await outbox.held(connection)
    boards = [(row["device"], outbox.board_of(row, present=held.get(row["model_sha8"]))) for row in rows]
    shadow = plan.mode == Mode.SHADOW
    return [device for device, board in boards if choose(board, candidates, now_ms // 1000, shadow).candidate]


def _of(rollout: int) -> sa.ColumnElement[bool]:
    return rollout_boards.c.rollout == rollout


def _in_rollouts() -> sa.Select[Any]:
    """Boards that another rollout has pinned: `_check_free` says so better than leaving them out in silence."""
    return sa.select(rollout_boards.c.device).where(rollout_boards.c.active)


async def check(connection: AsyncConnection, plan: Plan, names: Sequence[str]) -> None:
    """Raises for a plan that could not be undone, could not tell good from bad, or would meet another rollout."""
    query = sa.select(models.c.sequence).where(models.c.name == plan.name, models.c.version == plan.fallback)
    sequence: int = (await connection.execute(query)).scalar_one()
    manifests = sa.select(artifacts.c.manifest).where(
        artifacts.c.name == plan.name, artifacts.c.version == plan.version
    )
    for manifest in (await connection.execute(manifests)).scalars():
        floor = from_json(manifest).rollback_floor
        if floor > sequence:
            raise BadRequest(
                f"{plan.version} forbids boards to go back below sequence {floor}, {plan.fallback} has {sequence}",
                "sign the candidate with a lower rollback floor, or deploy it without a rollout",
            )
    canaries_of(plan, len(names))
    await _check_free(connection, names)


async def enrol(connection: AsyncConnection, rollout: int, names: Sequence[str]) -> None:
    """Writes the cohort down, in bucket order; nothing happens to the boards yet."""
    await _write_down(connection, rollout, in_bucket_order(rollout, names), 0)


async def _write_down(connection: AsyncConnection, rollout: int, names: Sequence[str], first_rank: int) -> None:
    fixed: dict[str, Any] = {"rollout": rollout, "active": False, "exposed": False, "before": {}}
    rows = [{**fixed, "device": device, "rank": rank} for rank, device in enumerate(names, first_rank)]
    await connection.execute(sa.insert(rollout_boards), rows)


async def take_hold(connection: AsyncConnection, rollout: int, plan: Plan, names: Sequence[str], now_ms: int) -> None:
    """From now on the boards are this rollout's: pinned to the fallback, their past written down. Raises Conflict."""
    await _check_free(connection, names)
    past = await past_of(connection, names, plan.period_ms, now_ms)
    columns = rollout_boards.c
    statement = (
        sa.update(rollout_boards)
        .where(columns.rollout == rollout, columns.device == sa.bindparam("of_device"))
        .values(active=True, before=sa.bindparam("its_past"))
    )
    rows = [{"of_device": device, "its_past": {k: list(v) for k, v in past[device].items()}} for device in names]
    await connection.execute(statement, rows)
    await outbox.assign(connection, names, plan.name, plan.fallback, f"{outbox.ROLLOUT_SOURCE}{rollout}", now_ms)


async def let_go(connection: AsyncConnection, rollout: int) -> None:
    """The boards are free for another rollout."""
    await connection.execute(sa.update(rollout_boards).where(rollout_boards.c.rollout == rollout).values(active=False))


async def measured_period_ms(connection: AsyncConnection, names: Sequence[str]) -> int:
    """How often the boards report: the median of the last reports' periods, an hour when there are none."""
    periods: list[int] = []
    last = (
        sa.select(health.c.period_ms)
        .where(health.c.device == devices.c.device, health.c.period_ms > 0)
        .order_by(health.c.epoch.desc(), health.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    for part in outbox.chunks(names):
        found = await connection.scalars(sa.select(last).where(devices.c.device.in_(part)))
        periods.extend(period for period in found if period is not None)
    return int(median(periods)) if periods else DEFAULT_PERIOD_MS


async def _check_free(connection: AsyncConnection, names: Sequence[str]) -> None:
    for part in outbox.chunks(names):
        query = (
            sa.select(rollout_boards.c.device, rollout_boards.c.rollout)
            .where(rollout_boards.c.device.in_(part), rollout_boards.c.active)
            .limit(1)
        )
        taken = (await connection.execute(query)).one_or_none()
        if taken is not None:
            raise Conflict(
                f"{taken.device} is in rollout {taken.rollout}", "wait for its end, abort it, or leave the board out"
            )

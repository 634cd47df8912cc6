"""What a comparison in the shadow has found: windows both models scored, and those they decided differently."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.errors import NotFound
from cloud.models.desired import chunks
from cloud.rollouts.facts import artifact_names, members
from cloud.rollouts.plan import Mode, Plan
from cloud.rollouts.views import Disagreement, Shadow
from cloud.store.tables import TELLING, epochs, health, queries
from contract import wire

LATEST = 20
"""Disagreements shown with a rollout."""


async def found(
    connection: AsyncConnection, plan: Plan, cohort: Sequence[str], candidate: Sequence[str], started_ms: int
) -> Shadow | None:
    """What boards reported of the candidate's artifacts (sha8) since the start; None for a rollout of another mode."""
    if plan.mode != Mode.SHADOW:
        return None
    compared = disagreed = sent = 0
    for part in chunks(cohort):
        told = sa.select(
            sa.func.coalesce(sa.func.sum(health.c.shadow_compared), 0),
            sa.func.coalesce(sa.func.sum(health.c.shadow_disagreed), 0),
        ).where(health.c.device.in_(part), health.c.received_ms >= started_ms, health.c.shadow_sha8.in_(candidate))
        counts = (await connection.execute(told)).one()
        compared, disagreed = compared + int(counts[0]), disagreed + int(counts[1])
        number = sa.select(sa.func.count()).select_from(queries).where(*_about(part, candidate, started_ms))
        sent += (await connection.execute(number)).scalar_one()
    return Shadow(compared, disagreed, sent, await disagreements(connection, cohort, candidate, started_ms, LATEST))


async def disagreements(
    connection: AsyncConnection, cohort: Sequence[str], candidate: Sequence[str], started_ms: int, limit: int
) -> list[Disagreement]:
    """The windows that boards sent, the newest first."""
    found: list[Disagreement] = []
    for part in chunks(cohort):
        query = (
            sa.select(queries, epochs.c.began_ms)
            .outerjoin(epochs, (epochs.c.device == queries.c.device) & (epochs.c.epoch == queries.c.epoch))
            .where(*_about(part, candidate, started_ms))
            .order_by(queries.c.received_ms.desc(), queries.c.epoch.desc(), queries.c.seq.desc())
            .limit(limit)
        )
        for row in (await connection.execute(query)).mappings():
            count = len(row["features"]) // 4
            found.append(
                Disagreement(
                    device=row["device"],
                    epoch=row["epoch"],
                    seq=row["seq"],
                    at_ms=row["received_ms"] if row["began_ms"] is None else row["began_ms"] + row["t_ms"],
                    candidate_says="anomaly" if row["reason"] == wire.WHY_SHADOW_ANOMALY else "normal",
                    score=row["score"],
                    sha8=row["model_sha8"],
                    features=list(struct.unpack(f"<{count}i", row["features"])),
                )
            )
    return sorted(found, key=lambda window: window.at_ms, reverse=True)[:limit]


async def of_rollout(
    connection: AsyncConnection, rollout: int, plan: Plan, started_ms: int, limit: int
) -> list[Disagreement]:
    """The windows sent for a rollout, the newest first; raises NotFound for one of another mode."""
    if plan.mode != Mode.SHADOW:
        raise NotFound(
            f"rollout {rollout} compares nothing in the shadow", "plan one with `edgewise rollout plan --shadow`"
        )
    cohort = [member.device for member in await members(connection, rollout)]
    names = await artifact_names(connection, plan.name, plan.version)
    return await disagreements(connection, cohort, names, started_ms, limit)


def _about(part: Sequence[str], candidate: Sequence[str], started_ms: int) -> list[sa.ColumnElement[bool]]:
    return [
        queries.c.device.in_(part),
        queries.c.model_sha8.in_(candidate),
        queries.c.reason.in_(TELLING),
        queries.c.received_ms >= started_ms,
    ]

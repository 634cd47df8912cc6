"""What the store knows of a cohort, as the gates want it: how far each board is, whether it is silent, its reports."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.devices.presence import presence
from cloud.devices.queries import named
from cloud.models.tables import model_runs
from cloud.rollouts.eta import Sleeper
from cloud.rollouts.gates import COMPARED, BoardFacts, Status, Tally, typical
from cloud.rollouts.tables import rollout_boards
from cloud.store.tables import artifacts, devices, events, health, updates
from contract import wire

PAST_REPORTS = 20
"""Report periods before the rollout that make up a board's past."""

_CHUNK = 400
_ENDED_BADLY = (wire.UPDATE_REFUSED, wire.UPDATE_ROLLBACK, wire.UPDATE_SHADOW_ENDED)
_OF_SHADOWS = (wire.UPDATE_SHADOW, wire.UPDATE_SHADOW_ENDED)


class Member(Struct, frozen=True):
    """A board of a cohort: a row of rollout_boards."""

    device: str
    exposed: bool
    told_ms: int | None
    before: dict[str, tuple[float, float]]


class _Report(NamedTuple):
    came_ms: int
    at_ms: int  # when its period ended, by the cloud's clock
    period_ms: int
    tallies: dict[str, Tally]


async def members(connection: AsyncConnection, rollout: int) -> list[Member]:
    """The cohort in bucket order."""
    columns = rollout_boards.c
    query = sa.select(columns.device, columns.exposed, columns.told_ms, columns.before)
    rows = await connection.execute(query.where(columns.rollout == rollout).order_by(columns.rank))
    return [Member(row.device, row.exposed, row.told_ms, row.before) for row in rows]


async def board_facts(
    connection: AsyncConnection,
    cohort: Sequence[Member],
    candidate: Sequence[str],
    started_ms: int,
    now_ms: int,
    reports_of_ms: int = 0,
    shadow: bool = False,
) -> list[BoardFacts]:
    """Facts of each board of the cohort, in its order. `candidate`: the sha8 of the version's artifacts.

    Reports are the costly part and are only read for a look at the gates: `reports_of_ms` is the period of the plan
    then, 0 otherwise. `shadow`: to run the candidate is to score with it beside the model that decides.
    """
    facts: list[BoardFacts] = []
    for at in range(0, len(cohort), _CHUNK):
        part = cohort[at : at + _CHUNK]
        names = [member.device for member in part]
        there = await _devices(connection, names)
        steps = await _last_steps(connection, names, candidate, shadow)
        since = await (_beside_since if shadow else _running_since)(connection, names, candidate)
        found = await _reports(connection, names, started_ms, now_ms) if reports_of_ms else {}
        for member in part:
            row = there[member.device]
            status, reason = _status(member, row, steps.get(member.device), candidate, started_ms, shadow)
            begin_ms = since.get(member.device, now_ms) if status == Status.RUNNING else started_ms
            # A report counts when at least half of its period came after the change. (A simulated board's clock may
            # run faster than the cloud's, hence the plan's period.)
            reports = [
                report.tallies
                for report in found.get(member.device, [])
                if report.at_ms - min(report.period_ms, reports_of_ms) // 2 >= begin_ms
            ]
            lost = presence(now_ms, row["online"], row["last_seen_ms"], row["next_contact_ms"]) == "lost"
            facts.append(
                BoardFacts(
                    device=member.device,
                    status=status,
                    silent=lost,
                    reports=len(reports),
                    before={name: Tally(*pair) for name, pair in member.before.items()},
                    since={name: [report[name] for report in reports] for name in COMPARED},
                    reason=reason,
                )
            )
    return facts


async def past_of(
    connection: AsyncConnection, names: Sequence[str], period_ms: int, now_ms: int
) -> dict[str, dict[str, Tally]]:
    """Each board's past before a rollout that starts now: a typical tally per metric."""
    past: dict[str, dict[str, Tally]] = {}
    for at in range(0, len(names), _CHUNK):
        part = names[at : at + _CHUNK]
        found = await _reports(connection, part, now_ms - PAST_REPORTS * period_ms, now_ms)
        for name in part:
            reports = [report.tallies for report in found.get(name, [])]
            past[name] = {metric: typical(metric, [report[metric] for report in reports]) for metric in COMPARED}
    return past


async def sleepers(
    connection: AsyncConnection, names: Sequence[str], period_ms: int, now_ms: int
) -> dict[str, Sleeper]:
    """How each board was heard of in the last report periods; one that reported less than twice counts as regular."""
    heard: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for at in range(0, len(names), _CHUNK):
        query = (
            sa.select(health.c.device, health.c.received_ms, health.c.wakes)
            .where(
                health.c.device.in_(names[at : at + _CHUNK]), health.c.received_ms > now_ms - PAST_REPORTS * period_ms
            )
            .order_by(health.c.device, health.c.received_ms)
        )
        for device, received_ms, wakes in await connection.execute(query):
            heard[device].append((received_ms, wakes))
    found: dict[str, Sleeper] = {}
    for name in names:
        times = [at_ms for at_ms, _ in heard[name]]
        gaps = [float(b - a) for a, b in pairwise(times) if b > a]
        wakes = sum(count for _, count in heard[name][1:])
        found[name] = Sleeper(
            gaps=tuple(gaps) or (float(period_ms),),
            wake_ms=sum(gaps) / wakes if gaps and wakes else 0.0,
            quiet_ms=float(now_ms - times[-1]) if times else 0.0,
        )
    return found


async def artifact_names(connection: AsyncConnection, name: str, version: str) -> list[str]:
    """The sha8 of each artifact of a version."""
    query = sa.select(artifacts.c.sha256).where(artifacts.c.name == name, artifacts.c.version == version)
    return [sha256[:16] for sha256 in (await connection.execute(query)).scalars()]


def _status(
    member: Member,
    row: sa.RowMapping,
    step: sa.RowMapping | None,
    candidate: Sequence[str],
    started_ms: int,
    shadow: bool,
) -> tuple[Status, str]:
    """How far a board is with the candidate, and why it failed."""
    if row["shadow_sha8" if shadow else "model_sha8"] in candidate:
        return Status.RUNNING, ""
    if step is None or step["received_ms"] < (member.told_ms if member.exposed and member.told_ms else started_ms):
        return (Status.WAITING if member.exposed else Status.CONTROL), ""
    if step["state"] in _ENDED_BADLY and step["reason"] != wire.REASON_OK:
        detail = f" ({step['detail']})" if step["detail"] else ""
        return Status.FAILED, named(wire.REASON_NAMES, step["reason"]) + detail
    if member.exposed:
        return Status.TRYING, ""
    # It had begun to take the candidate when that was taken back. The retained wish reaches it at its next contact, but
    # until then it may come up with the candidate.
    heard = row["last_seen_ms"] is not None and row["last_seen_ms"] > (member.told_ms or 0)
    may_come_up = step["state"] not in _ENDED_BADLY and not heard
    return (Status.WAITING if may_come_up else Status.CONTROL), ""


async def _devices(connection: AsyncConnection, names: Sequence[str]) -> dict[str, sa.RowMapping]:
    inner = health.alias()
    announced = (
        sa.select(inner.c.next_contact_ms)
        .where(inner.c.device == devices.c.device)
        .order_by(inner.c.epoch.desc(), inner.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(
        devices.c.device,
        devices.c.online,
        devices.c.last_seen_ms,
        devices.c.model_sha8,
        devices.c.shadow_sha8,
        announced.label("next_contact_ms"),
    ).where(devices.c.device.in_(names))
    return {row["device"]: row for row in (await connection.execute(query)).mappings()}


async def _last_steps(
    connection: AsyncConnection, names: Sequence[str], candidate: Sequence[str], shadow: bool
) -> dict[str, sa.RowMapping]:
    """The last UPDATE record of each board about the candidate, in that role."""
    role = updates.c.state.in_(_OF_SHADOWS) if shadow else updates.c.state.not_in(_OF_SHADOWS)
    query = (
        sa.select(updates)
        .where(updates.c.device.in_(names), updates.c.sha8.in_(candidate), role)
        .order_by(updates.c.device, updates.c.epoch, updates.c.seq)
    )
    return {row["device"]: row for row in (await connection.execute(query)).mappings()}


async def _running_since(connection: AsyncConnection, names: Sequence[str], candidate: Sequence[str]) -> dict[str, int]:
    """When each board last began to say that it runs the candidate."""
    query = (
        sa.select(model_runs.c.device, sa.func.max(model_runs.c.since_ms))
        .where(model_runs.c.device.in_(names), model_runs.c.sha8.in_(candidate))
        .group_by(model_runs.c.device)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def _beside_since(connection: AsyncConnection, names: Sequence[str], candidate: Sequence[str]) -> dict[str, int]:
    """When each board last said that the candidate scores beside its model from now on."""
    query = (
        sa.select(updates.c.device, sa.func.max(updates.c.received_ms))
        .where(updates.c.device.in_(names), updates.c.sha8.in_(candidate), updates.c.state == wire.UPDATE_SHADOW)
        .group_by(updates.c.device)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def _reports(
    connection: AsyncConnection, names: Sequence[str], from_ms: int, to_ms: int
) -> dict[str, list[_Report]]:
    """device -> its HEALTH reports in a range of time, the oldest first."""
    routed = await _routed(connection, names, from_ms, to_ms)
    query = (
        sa.select(health)
        .where(health.c.device.in_(names), health.c.received_ms >= from_ms, health.c.received_ms <= to_ms)
        .order_by(health.c.device, health.c.received_ms, health.c.epoch, health.c.seq)
    )
    found: dict[str, list[_Report]] = defaultdict(list)
    for row in (await connection.execute(query)).mappings():
        reports = found[row["device"]]
        begin_ms = reports[-1].at_ms if reports else from_ms
        times = routed.get(row["device"], [])
        count = bisect_right(times, row["received_ms"]) - bisect_right(times, begin_ms)
        reports.append(_Report(row["received_ms"], row["received_ms"], row["period_ms"], tallies_of(row, count)))
    return {device: _placed(reports) for device, reports in found.items()}


def _placed(reports: list[_Report]) -> list[_Report]:
    """Of reports that had to wait and came together, each ended a period before the next, not when it came."""
    placed: list[_Report] = []
    for report in reversed(reports):
        together = placed and placed[-1].came_ms == report.came_ms
        end_ms = placed[-1].at_ms - placed[-1].period_ms if together else report.came_ms
        placed.append(report._replace(at_ms=end_ms))
    return placed[::-1]


def tallies_of(row: Any, routed: int) -> dict[str, Tally]:
    """What one HEALTH record says, per metric; `routed` events of its period went to a higher tier."""
    wakes = float(row["wakes"])
    scores: list[int] = row["scores"]
    windows = float(sum(scores))
    half = len(scores) // 2  # bins up to the threshold; as many lie above it
    above = float(sum(scores[half:]))
    level = sum(count * (bin_ + 0.5) for bin_, count in enumerate(scores)) / half if half else 0.0
    return {
        "resets": Tally(float(row["resets"]), wakes),
        "alarms": Tally(above, windows),
        "level": Tally(level, windows),
        "awake": Tally(float(row["awake_ms"]), wakes),
        "energy": Tally(float(sum(row["energy_uj"])), wakes),
        "routed": Tally(float(routed), windows),
    }


async def _routed(connection: AsyncConnection, names: Sequence[str], from_ms: int, to_ms: int) -> dict[str, list[int]]:
    """device -> when events it did not decide by itself were received."""
    query = (
        sa.select(events.c.device, events.c.received_ms)
        .where(
            events.c.device.in_(names),
            events.c.received_ms > from_ms,
            events.c.received_ms <= to_ms,
            events.c.route.in_((wire.ROUTE_FOG, wire.ROUTE_CLOUD)),
        )
        .order_by(events.c.device, events.c.received_ms)
    )
    found: dict[str, list[int]] = defaultdict(list)
    for device, received_ms in await connection.execute(query):
        found[device].append(received_ms)
    return found

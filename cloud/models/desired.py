"""Which model each board shall run, written to the `desired` outbox in the caller's transaction.

A board follows, in this order: its assignment (a pinned version, or the champion of a named model); the champion of the
model it runs; when it runs none, the only champion that takes the features it computes. `reconcile` works out the
artifact from the board's last HELLO, raises desired.version where it changes, and records why nothing fits otherwise.
It may run at any time and any number of times: with nothing new to say it writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud import clock
from cloud.errors import Conflict
from cloud.models import statements
from cloud.models.manifests import from_json
from cloud.models.tables import assignments, deployments, model_runs
from cloud.models.targets import Board, Candidate, choose
from cloud.store.engine import insert
from cloud.store.tables import aliases, artifacts, desired, devices, models
from contract import artifact, wire

CHAMPION = "champion"
ROLLOUT_SOURCE = "rollout:"

# Parameters of one IN (...): below the limit of both databases.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Change:
    """What `reconcile` did for one board: the artifact it is told to run now, or why it is told nothing."""

    device: str
    sha256: str | None
    why: str
    shadow_sha256: str | None = None
    """The artifact that is to score beside it."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    version: str
    cause: str


@dataclass(frozen=True, slots=True)
class _News:
    """What is to be stored for one board."""

    change: Change
    cause: str
    statement_ids: list[int]
    previous: str | None  # the artifact it was told to run until now
    moves: bool  # it is told another artifact
    publishes: bool  # the board has to hear of it
    explains: bool  # the artifact, or the reason for none, is another
    has_row: bool  # in `desired`


class Held(NamedTuple):
    """What matters of an artifact where a board runs it."""

    floor: int  # the lowest sequence the board may go back to
    payload_bytes: int


async def assign(
    connection: AsyncConnection,
    names: Iterable[str],
    model: str,
    version: str | None,
    source: str,
    now_ms: int,
    shadow: str | None = None,
) -> None:
    """Binds boards to a version of a model, or with None to its champion; `reconcile` has to follow.

    `shadow`: a version of the same model that scores beside it, None for none.
    """
    fixed = {"name": model, "version": version, "source": source, "shadow_version": shadow, "changed_ms": now_ms}
    rows = [{"device": device, **fixed} for device in names]
    if not rows:
        return
    statement = insert(assignments, connection.dialect)
    new = statement.excluded
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["device"],
            set_={column: new[column] for column in fixed},
        ),
        rows,
    )


async def require_free(connection: AsyncConnection, names: Sequence[str]) -> None:
    """Raises Conflict when a rollout owns one of the boards."""
    for part in chunks(names):
        query = sa.select(assignments.c.device, assignments.c.source).where(
            assignments.c.device.in_(part), assignments.c.source.startswith(ROLLOUT_SOURCE)
        )
        taken = (await connection.execute(query.limit(1))).one_or_none()
        if taken is not None:
            rollout = taken.source.removeprefix(ROLLOUT_SOURCE)
            raise Conflict(f"{taken.device} is in rollout {rollout}", f"wait for its end, or `rollout abort {rollout}`")


async def release(connection: AsyncConnection, names: Sequence[str]) -> None:
    """Lets boards follow the champion of their model again; `reconcile` has to follow."""
    for part in chunks(names):
        await connection.execute(sa.delete(assignments).where(assignments.c.device.in_(part)))


async def reconcile(connection: AsyncConnection, now_ms: int, only: Sequence[str] | None = None) -> list[Change]:
    """Brings `desired` in line with what is wanted, for all boards or those named; returns what changed."""
    champions = await _champions(connection)
    known: dict[tuple[str, str], list[Candidate]] = {}
    there = await held(connection)
    told = await statements.all_told(connection)
    changes: list[Change] = []
    for part in [None] if only is None else chunks(only):
        news: list[_News] = []
        for row in await _boards(connection, part):
            wanted = _wanted(row, champions)
            beside = (row["assigned_name"], row["assigned_shadow"]) if row["assigned_shadow"] else None
            for key in (None if isinstance(wanted, str) else (wanted.name, wanted.version), beside):
                if key is not None and key not in known:
                    known[key] = await candidates(connection, *key)
            if isinstance(wanted, str):
                change = Change(row["device"], None, wanted)
            else:
                change = _resolve(row, there, wanted, known[wanted.name, wanted.version], now_ms)
            if beside is not None:
                change = _beside(row, change, beside[1], known[beside], now_ms)
            cause = "" if isinstance(wanted, str) else wanted.cause
            found = _news(row, change, cause, statements.pending(row["key_ids"] or (), told))
            if found is not None:
                news.append(found)
        await _write(connection, news, now_ms)
        changes += [found.change for found in news if found.explains]
    return changes


def _wanted(row: sa.RowMapping, champions: dict[str, sa.RowMapping]) -> _Wanted | str:
    """The version a board shall run, or why none is wanted ("" when there is nothing to tell)."""
    if row["assigned_name"] is not None:
        if row["assigned_version"] is not None:
            return _Wanted(row["assigned_name"], row["assigned_version"], row["assigned_source"])
        champion = champions.get(row["assigned_name"])
        if champion is None:
            return f"{row['assigned_name']} has no champion"
        return _Wanted(champion["name"], champion["version"], CHAMPION)
    if row["model_name"]:
        champion = champions.get(row["model_name"])
        return "" if champion is None else _Wanted(champion["name"], champion["version"], CHAMPION)
    fitting = [c for c in champions.values() if c["schema_hash"] == row["schema_hash"]]
    if len(fitting) > 1:
        names = " and ".join(sorted(c["name"] for c in fitting))
        return f"{names} both take this board's features; assign one"
    return _Wanted(fitting[0]["name"], fitting[0]["version"], CHAMPION) if fitting else ""


def _resolve(
    row: sa.RowMapping, there: Mapping[str, Held], wanted: _Wanted, candidates: list[Candidate], now_ms: int
) -> Change:
    if row["hello_ms"] is None:
        return Change(row["device"], None, f"{wanted.name} {wanted.version} waits for the board's first HELLO")
    board = board_of(row, row["previous_sha8"] or "", there.get(row["model_sha8"] or ""))
    choice = choose(board, candidates, now_ms // 1000)
    if choice.candidate is None:
        reason = wire.REASON_NAMES[choice.reason]
        return Change(row["device"], None, f"{wanted.name} {wanted.version}: {reason}: {choice.detail}")
    return Change(row["device"], choice.candidate.sha256, "")


def _beside(row: sa.RowMapping, change: Change, version: str, candidates: list[Candidate], now_ms: int) -> Change:
    """The change with the artifact of the board's shadow, or with why there is none."""
    if row["hello_ms"] is None:
        return change
    scores = [c for c in candidates if row["shadow_sha8"] and c.sha256.startswith(row["shadow_sha8"])]
    if scores:  # whatever heap and flash the board has left beside it
        return replace(change, shadow_sha256=scores[0].sha256)
    choice = choose(board_of(row), candidates, now_ms // 1000, shadow=True)
    if choice.candidate is None:
        why = f"shadow {version}: {wire.REASON_NAMES[choice.reason]}: {choice.detail}"
        return replace(change, why=change.why or why)
    return replace(change, shadow_sha256=choice.candidate.sha256)


def board_of(row: sa.RowMapping, previous: str = "", present: Held | None = None) -> Board:
    """The capabilities in a row of `devices` that has seen a HELLO; `previous` as in Board, `present`: what it runs."""
    present = present or Held(0, 0)
    target = artifact.Target(
        row["arch"], row["abi"], row["formats"], bytes.fromhex(row["schema_hash"]), row["proto"], row["sequence"]
    )
    return Board(
        target,
        tuple(row["key_ids"]),
        row["free_flash"],
        row["model_sha8"] or "",
        previous,
        present.floor,
        row["free_heap"],
        present.payload_bytes,
    )


def _news(row: sa.RowMapping, change: Change, cause: str, statement_ids: list[int]) -> _News | None:
    """What there is to store for a board, None when all of it is stored already.

    statement_ids: of the key_statements the board lacks; they go into the WANT, and out of it once it knows them.
    """
    moves = change.sha256 is not None and change.sha256 != row["desired_sha256"]
    tells = statement_ids != (row["statement_ids"] or []) or change.shadow_sha256 != row["desired_shadow"]
    explains = moves or change.why != (row["desired_why"] or "")
    if not explains and not tells:
        return None
    has_row = row["desired_why"] is not None
    return _News(change, cause, statement_ids, row["desired_sha256"], moves, moves or tells, explains, has_row)


async def _write(connection: AsyncConnection, news: Sequence[_News], now_ms: int) -> None:
    """Stores it, with few statements however many boards there are: all others wait for their turn to write."""
    first: list[dict[str, Any]] = [
        {"device": n.change.device, "version": 0, "config": {}, "changed_ms": now_ms} for n in news if not n.has_row
    ]
    if first:
        await connection.execute(insert(desired, connection.dialect).on_conflict_do_nothing(), first)
    moved = [
        {
            "device": n.change.device,
            "sha256": n.change.sha256,
            "previous": n.previous,
            "cause": n.cause,
            "changed_ms": now_ms,
        }
        for n in news
        if n.moves
    ]
    if moved:
        await connection.execute(sa.insert(deployments), moved)
    rows = [
        {
            "b_device": n.change.device,
            "b_why": n.change.why,
            "b_now_ms": now_ms,
            "b_statement_ids": n.statement_ids,
            "b_shadow": n.change.shadow_sha256,
            "b_artifact": n.change.sha256 if n.moves else n.previous,
            "b_rise": int(n.publishes),
        }
        for n in news
    ]
    if rows:
        await connection.execute(_CHANGED, rows)


_CHANGED = (
    sa.update(desired)
    .where(desired.c.device == sa.bindparam("b_device"))
    .values(
        why=sa.bindparam("b_why"),
        changed_ms=sa.bindparam("b_now_ms"),
        statement_ids=sa.bindparam("b_statement_ids"),
        shadow_sha256=sa.bindparam("b_shadow"),
        artifact_sha256=sa.bindparam("b_artifact"),
        version=desired.c.version + sa.bindparam("b_rise", type_=sa.BigInteger),
    )
)


async def _boards(connection: AsyncConnection, only: Sequence[str] | None) -> Sequence[sa.RowMapping]:
    previous = (
        sa.select(model_runs.c.sha8)
        .where(model_runs.c.device == devices.c.device, model_runs.c.sha8 != devices.c.model_sha8)
        .order_by(model_runs.c.since_ms.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        sa.select(
            devices,
            assignments.c.name.label("assigned_name"),
            assignments.c.version.label("assigned_version"),
            assignments.c.source.label("assigned_source"),
            assignments.c.shadow_version.label("assigned_shadow"),
            desired.c.shadow_sha256.label("desired_shadow"),
            desired.c.artifact_sha256.label("desired_sha256"),
            desired.c.why.label("desired_why"),
            desired.c.statement_ids,
            previous.label("previous_sha8"),
        )
        .select_from(
            devices.outerjoin(assignments, assignments.c.device == devices.c.device).outerjoin(
                desired, desired.c.device == devices.c.device
            )
        )
        .order_by(devices.c.device)
    )
    if only is not None:
        query = query.where(devices.c.device.in_(only))
    return (await connection.execute(query)).mappings().all()


async def _champions(connection: AsyncConnection) -> dict[str, sa.RowMapping]:
    query = (
        sa.select(models.c.name, models.c.version, models.c.schema_hash)
        .join(aliases, (aliases.c.name == models.c.name) & (aliases.c.version == models.c.version))
        .where(aliases.c.alias == CHAMPION)
    )
    return {row["name"]: row for row in (await connection.execute(query)).mappings()}


async def held(connection: AsyncConnection) -> dict[str, Held]:
    """What matters of each artifact where a board runs it, by its sha8."""
    rows = await connection.execute(sa.select(artifacts.c.sha256, artifacts.c.manifest))
    return {row.sha256[:16]: Held(row.manifest.get("rollback_floor", 0), row.manifest["payload_size"]) for row in rows}


async def candidates(connection: AsyncConnection, name: str, version: str) -> list[Candidate]:
    """The artifacts of a version."""
    query = sa.select(artifacts.c.sha256, artifacts.c.key_id, artifacts.c.size, artifacts.c.manifest)
    rows = await connection.execute(query.where(artifacts.c.name == name, artifacts.c.version == version))
    leave = await statements.leave_counters(connection, clock.now_ms() // 1000)
    return [
        Candidate(row.sha256, row.key_id, row.size, from_json(row.manifest), leave.get(row.sha256, -1)) for row in rows
    ]


def chunks(names: Sequence[str]) -> list[Sequence[str]]:
    """The names in parts that fit into one IN (...) of either database."""
    return [names[at : at + _CHUNK] for at in range(0, len(names), _CHUNK)]

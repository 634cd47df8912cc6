"""What publishers say of their keys and of older models, kept and handed on. The server checks it and signs nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.errors import BadRequest, Conflict, NotFound
from cloud.models.intake import signature_holds
from cloud.models.tables import key_statements, leaves, publisher_keys
from cloud.models.views import Announced
from cloud.store.engine import insert
from cloud.store.tables import artifacts
from contract import artifact, handover, statement, wire
from contract.keyring import Keyring

_MOST = 10_000  # keys of a server: as many publishers as care to use it


@dataclass(frozen=True, slots=True)
class Told:
    """A statement on keys, as far as it matters for whom it is news."""

    id: int
    signer: str
    new_key_id: str
    revoked: tuple[str, ...]


async def announce(connection: AsyncConnection, data: bytes, now_ms: int) -> Announced:
    """Takes a statement and makes it count here; `reconcile` has to follow, so that the boards hear of it.

    The same bytes again change nothing. Raises BadRequest, Conflict and NotFound.
    """
    try:
        said = statement.Statement(data)
    except artifact.ArtifactError as error:
        raise BadRequest(f"no statement: {error}", "send the file that `edgewise keys` wrote") from None
    if said.kind == statement.DOWNGRADE:
        return await _take_leave(connection, said, data, now_ms)
    return await _take_keys(connection, said, data, now_ms)


def pending(known_ids: Sequence[str], told: Sequence[Told]) -> list[int]:
    """The statements that are news to a board that named these key ids, oldest first, as many as one WANT holds.

    A board that lags several handovers behind gets them in their order, since each is signed by the key before.
    """
    known = set(known_ids)
    news: list[int] = []
    for said in told:
        if said.signer not in known:
            continue
        if (said.new_key_id and said.new_key_id not in known) or known & set(said.revoked):
            news.append(said.id)
            known -= set(said.revoked)
            if said.new_key_id:
                known.add(said.new_key_id)
    return news[: wire.MAX_STATEMENTS]


async def all_told(connection: AsyncConnection) -> list[Told]:
    """Every statement on keys, oldest first."""
    columns = key_statements.c
    query = sa.select(columns.id, columns.signer, columns.new_key_id, columns.revoked).order_by(columns.id)
    return [Told(row.id, row.signer, row.new_key_id, tuple(row.revoked)) for row in await connection.execute(query)]


async def leave_counters(connection: AsyncConnection, now_s: int) -> dict[str, int]:
    """sha256 of each artifact its publisher lets boards go back to -> the highest counter they may have reached."""
    query = sa.select(leaves.c.sha256, leaves.c.counter)
    query = query.where((leaves.c.expires_s == 0) | (leaves.c.expires_s > now_s))
    return {row.sha256: row.counter for row in await connection.execute(query)}


async def _take_keys(connection: AsyncConnection, said: statement.Statement, data: bytes, now_ms: int) -> Announced:
    new_key_id = artifact.key_id(said.new_key).hex() if said.new_key else ""
    done = Announced(said.signer.hex(), new_key_id, [key_id.hex() for key_id in said.revoked], None)
    known = await connection.execute(sa.select(key_statements.c.id).where(key_statements.c.data == data))
    if known.scalar_one_or_none() is not None:
        return done
    before = await _keyring(connection)
    try:
        after = handover.apply(before, data, _verify)
    except artifact.ArtifactError as error:
        raise _refusal(error) from None
    await connection.execute(
        sa.insert(key_statements).values(
            signer=said.signer.hex(),
            new_key_id=new_key_id,
            revoked=[key_id.hex() for key_id in said.revoked],
            data=data,
            created_ms=now_ms,
        )
    )
    of = publisher_keys.c.key_id
    label = sa.select(publisher_keys.c.label).where(of == said.signer.hex()).scalar_subquery()
    for key_id, key in after.keys.items():
        if key_id not in before.keys:
            await connection.execute(
                sa.insert(publisher_keys).values(
                    key_id=key_id.hex(), public_key=key.public.hex(), label=label, added_ms=now_ms
                )
            )
        elif key.until != before.keys[key_id].until:
            ended = sa.update(publisher_keys).where(of == key_id.hex()).values(until_ms=1000 * key.until)
            await connection.execute(ended)
    for key_id in after.revoked:
        if key_id not in before.revoked:
            gone = sa.update(publisher_keys).where(of == key_id.hex()).values(revoked_ms=now_ms)
            await connection.execute(gone)
    return done


async def _take_leave(connection: AsyncConnection, said: statement.Statement, data: bytes, now_ms: int) -> Announced:
    ring = await _keyring(connection)
    try:
        if not _verify(said.digest, said.signature, ring.statement_key(said.signer)):
            raise artifact.ArtifactError(wire.REASON_BAD_SIGNATURE)
    except artifact.ArtifactError as error:
        raise _refusal(error) from None
    sha256 = said.sha256.hex()
    found = await connection.execute(sa.select(artifacts.c.sha256).where(artifacts.c.sha256 == sha256))
    if found.scalar_one_or_none() is None:
        raise NotFound(f"no artifact {sha256[:16]}", "publish it first; `edgewise model list` shows what there is")
    if said.expires and said.expires * 1000 <= now_ms:
        raise BadRequest("the leave has expired", "make a new one with `edgewise keys allow-downgrade`")
    row = {"counter": said.counter, "expires_s": said.expires, "data": data, "created_ms": now_ms}
    statement_ = insert(leaves, connection.dialect).values(sha256=sha256, **row)
    await connection.execute(statement_.on_conflict_do_update(index_elements=["sha256"], set_=row))
    return Announced(said.signer.hex(), "", [], sha256)


async def _keyring(connection: AsyncConnection) -> Keyring:
    """The keys as the server knows them: those it was told to trust, and what statements made of them."""
    told = (await connection.execute(sa.select(key_statements).order_by(key_statements.c.id))).mappings().all()
    named = {row["new_key_id"] for row in told}
    rows = (await connection.execute(sa.select(publisher_keys))).mappings().all()
    ring = Keyring(_MOST, _MOST)
    for row in rows:
        if row["key_id"] not in named:
            ring.add(bytes.fromhex(row["key_id"]), bytes.fromhex(row["public_key"]))
    for row in told:
        ring = handover.apply(ring, row["data"], _verified_when_it_came)
    for row in rows:
        if row["revoked_ms"] is not None:
            ring.revoke(bytes.fromhex(row["key_id"]))
    return ring


def _verify(digest: bytes, signature: bytes, public_key: bytes) -> bool:
    return signature_holds(digest, signature, public_key)


def _verified_when_it_came(_digest: bytes, _signature: bytes, _public_key: bytes) -> bool:
    return True


def _refusal(error: artifact.ArtifactError) -> BadRequest | Conflict:
    if error.code in (wire.REASON_OLD_STATEMENT, wire.REASON_RETIRED_KEY):
        return Conflict(str(error), "only the newest key of a publisher signs statements: see `edgewise keys list`")
    if error.code == wire.REASON_REVOKED_KEY:
        return Conflict(str(error), "revoking is for ever: sign with another key")
    if error.code == wire.REASON_UNKNOWN_KEY:
        return BadRequest(str(error), "`edgewise keys trust` makes a publisher's first key count")
    return BadRequest(str(error), "get the statement again from its publisher")

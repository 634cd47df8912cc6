"""Publisher keys the server trusts: public halves only."""

import re
from collections import Counter

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.clock import now_ms
from cloud.errors import BadRequest, Conflict, NotFound
from cloud.models.intake import public_key_of
from cloud.models.tables import publisher_keys
from cloud.models.views import PublisherKey
from cloud.store.tables import devices
from contract import artifact

_PUBLIC_KEY = re.compile(r"[0-9a-f]{128}")


async def trust(connection: AsyncConnection, public_key: str, label: str, at_ms: int) -> PublisherKey:
    """Makes artifacts signed with a key count. `public_key` is x || y in 128 hex digits; trusting it twice is harmless.

    Raises BadRequest for what is no P-256 key, Conflict for one that was revoked: that is for ever.
    """
    if not _PUBLIC_KEY.fullmatch(public_key):
        raise BadRequest("a public key is 128 hex digits, x and y", "copy it from `edgewise keys list`")
    raw = bytes.fromhex(public_key)
    try:
        public_key_of(raw)
    except ValueError:
        raise BadRequest("the public key is not a point of P-256", "copy it from `edgewise keys list`") from None
    key_id = artifact.key_id(raw).hex()
    found = await _find(connection, key_id)
    if found is None:
        key = PublisherKey(key_id=key_id, public_key=public_key, label=label, added_ms=at_ms, revoked_ms=None)
        await connection.execute(
            sa.insert(publisher_keys).values(key_id=key_id, public_key=public_key, label=label, added_ms=at_ms)
        )
        return key
    if found.revoked_ms is not None:
        raise Conflict(f"key {key_id} was revoked", "sign with a new key: `edgewise keys new`")
    return found


async def revoke(connection: AsyncConnection, key_id: str, at_ms: int) -> PublisherKey:
    """Makes artifacts signed with a key count no longer; what boards run already stays. Raises NotFound."""
    found = await _find(connection, key_id)
    if found is None:
        raise NotFound(f"no publisher key {key_id}", "`edgewise keys trusted` lists them")
    if found.revoked_ms is not None:
        return found
    await connection.execute(
        sa.update(publisher_keys).where(publisher_keys.c.key_id == key_id).values(revoked_ms=at_ms)
    )
    return PublisherKey(found.key_id, found.public_key, found.label, found.added_ms, at_ms, found.until_ms)


async def list_keys(connection: AsyncConnection) -> list[PublisherKey]:
    """Every key ever trusted, oldest first."""
    trusting = Counter(
        key_id for ids in (await connection.execute(sa.select(devices.c.key_ids))).scalars() for key_id in ids or ()
    )
    rows = await connection.execute(sa.select(publisher_keys).order_by(publisher_keys.c.added_ms))
    return [PublisherKey(**row, boards=trusting[row["key_id"]]) for row in rows.mappings()]


async def trusted(connection: AsyncConnection) -> dict[str, bytes]:
    """The keys whose signatures on models count now: hex id -> x || y."""
    columns = publisher_keys.c
    rows = await connection.execute(
        sa.select(columns.key_id, columns.public_key).where(
            columns.revoked_ms.is_(None), columns.until_ms.is_(None) | (columns.until_ms > now_ms())
        )
    )
    return {row.key_id: bytes.fromhex(row.public_key) for row in rows}


async def _find(connection: AsyncConnection, key_id: str) -> PublisherKey | None:
    row = (
        (await connection.execute(sa.select(publisher_keys).where(publisher_keys.c.key_id == key_id)))
        .mappings()
        .one_or_none()
    )
    return None if row is None else PublisherKey(**row)

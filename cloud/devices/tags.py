"""Tags: words an operator puts on boards, to choose them by."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.errors import BadRequest, NotFound
from cloud.store.engine import insert
from cloud.store.tables import device_tags, devices

MAX_DEVICES = 1000
MAX_TAGS = 16
"""On one board."""

_TAG = re.compile(r"[a-z0-9][a-z0-9._:-]{0,31}")


async def tag(
    connection: AsyncConnection, names: Sequence[str], add: Sequence[str], remove: Sequence[str]
) -> dict[str, list[str]]:
    """Puts tags on boards and takes others away; returns the tags of each. Raises BadRequest, NotFound."""
    names = list(dict.fromkeys(names))
    if not 1 <= len(names) <= MAX_DEVICES:
        raise BadRequest(f"{len(names)} boards", f"name 1 to {MAX_DEVICES}")
    for text in (*add, *remove):
        if not _TAG.fullmatch(text):
            raise BadRequest(f"tag {text!r}", "use 1 to 32 of a-z, 0-9, '.', '_', ':' and '-'")
    found = await connection.execute(sa.select(devices.c.device).where(devices.c.device.in_(names)))
    missing = sorted(set(names) - set(found.scalars()))
    if missing:
        raise NotFound(f"no device {', '.join(missing[:5])}", "`edgewise device list` shows them")
    if remove:
        gone = device_tags.c.device.in_(names) & device_tags.c.tag.in_(remove)
        await connection.execute(sa.delete(device_tags).where(gone))
    if add:
        rows = [{"device": name, "tag": text} for name in names for text in dict.fromkeys(add)]
        await connection.execute(insert(device_tags, connection.dialect).on_conflict_do_nothing(), rows)
    tags = await tags_of(connection, names)
    crowded = next((name for name in names if len(tags[name]) > MAX_TAGS), None)
    if crowded is not None:
        raise BadRequest(f"{crowded} would have {len(tags[crowded])} tags", f"keep to {MAX_TAGS} on a board")
    return tags


async def tags_of(connection: AsyncConnection, names: Sequence[str]) -> dict[str, list[str]]:
    """The tags of each board, in alphabetical order."""
    found: dict[str, list[str]] = defaultdict(list)
    query = sa.select(device_tags).where(device_tags.c.device.in_(names)).order_by(device_tags.c.tag)
    for row in await connection.execute(query):
        found[row.device].append(row.tag)
    return {name: found[name] for name in names}

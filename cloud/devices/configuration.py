"""Configuration of boards: the cloud's document, changed here, and the board's, as its HELLO reports it.

Both may change. contract/merge.py says how two documents become one, by a version vector and a rule for each key; the
board runs the same file. The cloud's counter is `desired.version`, which also rises for a new model; so what is
compared is the version at which the configuration last changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud import wire_types
from cloud.clock import now_ms
from cloud.errors import BadRequest, NotFound
from cloud.store.engine import insert, writing
from cloud.store.tables import config_conflicts, desired, devices
from contract import merge

MAX_CONFLICTS = 100
"""Kept of one device; the oldest go first."""


async def configure(engine: AsyncEngine, device: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes keys of the desired configuration, None takes a key out; returns the whole of it.

    Raises NotFound for the device, BadRequest for an unknown key or a value out of bounds.
    """
    wrong = merge.check({key: value for key, value in changes.items() if value is not None})
    wrong += [(key, "unknown key") for key, value in changes.items() if value is None and key not in merge.KEYS]
    if wrong:
        causes = ", ".join(f"{key}: {cause}" for key, cause in wrong)
        raise BadRequest(f"the configuration is not valid: {causes}", f"keys are {', '.join(sorted(merge.KEYS))}")
    async with writing(engine).begin() as connection:
        query = sa.select(devices.c.device).where(devices.c.device == device)
        if (await connection.execute(query)).first() is None:
            raise NotFound(f"no device {device}", "`edgewise device list` shows them")
        row = await _row(connection, device)
        config = {key: value for key, value in {**row.config, **changes}.items() if value is not None}
        if config != row.config:
            await _write(connection, device, row, config, row.local_version, now_ms())
        return config


async def take_in(connection: AsyncConnection, device: str, hello: wire_types.Hello, at_ms: int) -> None:
    """Merges what a HELLO reports into the desired configuration where the board was changed on the spot."""
    if hello.local_version == 0:
        return  # as it was provisioned: nothing the cloud could have missed
    row = await _row(connection, device)
    cloud = (row.config_version, row.local_version)
    board = (hello.config_version, hello.local_version)
    if merge.compare(cloud, board) not in (merge.BOARD_AHEAD, merge.CONCURRENT):
        return
    merged, vector, conflicts = merge.merge(row.config, cloud, hello.reported, board)
    await _write(connection, device, row, merged, vector[1], at_ms)
    if not conflicts:
        return
    await connection.execute(
        sa.insert(config_conflicts),
        [
            {
                "device": device,
                "key": key,
                "desired": of_cloud,
                "reported": of_board,
                "rule": merge.RULE_NAMES[merge.KEYS[key][4]],
                "kept": kept,
                "at_ms": at_ms,
            }
            for key, of_cloud, of_board, kept in conflicts
        ],
    )
    newest = sa.select(config_conflicts.c.id).where(config_conflicts.c.device == device)
    newest = newest.order_by(config_conflicts.c.id.desc()).limit(MAX_CONFLICTS)
    await connection.execute(
        sa.delete(config_conflicts).where(config_conflicts.c.device == device, config_conflicts.c.id.not_in(newest))
    )


async def _row(connection: AsyncConnection, device: str) -> sa.Row[Any]:
    """The device's row of `desired`, made now when there is none."""
    first: dict[str, Any] = {"device": device, "version": 0, "config": {}, "changed_ms": 0}
    await connection.execute(insert(desired, connection.dialect).values(first).on_conflict_do_nothing())
    query = sa.select(desired).where(desired.c.device == device).with_for_update()
    return (await connection.execute(query)).one()


async def _write(
    connection: AsyncConnection, device: str, row: sa.Row[Any], config: dict[str, Any], local_version: int, at_ms: int
) -> None:
    """A new version of the document, which ingest then publishes."""
    version = row.version + 1
    values = {"version": version, "config_version": version, "config": config, "local_version": local_version}
    await connection.execute(sa.update(desired).where(desired.c.device == device).values(changed_ms=at_ms, **values))

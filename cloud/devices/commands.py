"""Commands to boards (DO): written here, sent by ingest, done by a board at most once.

The table is an outbox: ingest sends what has no `sent_ms` yet and then notes when it did, so a crash in between sends
twice, and the board passes over a number it has seen. The broker keeps a command for a board that sleeps, and until the
board has confirmed it. That needs the board's subscription, so a command waits here until a HELLO shows that there is
one: a board subscribes before it says HELLO.

A number is the second it was given out, or one more than the last, whichever is greater. Boards pass over what is not
above the last they saw, so a store that was put back to an older state must not begin again where that one was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.clock import now_ms
from cloud.errors import BadRequest, Conflict, NotFound
from cloud.store.tables import commands, devices
from contract import policy, wire

MAX_WAITING = 16
"""Commands of one board that are not sent yet."""


async def command(connection: AsyncConnection, device: str, verb: str, args: Sequence[Any]) -> int:
    """Notes a command and returns its number; raises NotFound, BadRequest, or Conflict when too many wait.

    `connection` is in a transaction of `writing`.
    """
    _check(verb, args)
    if (await connection.execute(sa.select(devices.c.device).where(devices.c.device == device))).first() is None:
        raise NotFound(f"no device {device}", "`edgewise device list` shows them")
    waiting = sa.select(sa.func.count()).where(commands.c.device == device, commands.c.sent_ms.is_(None))
    if (await connection.execute(waiting)).scalar_one() >= MAX_WAITING:
        raise Conflict(
            f"{MAX_WAITING} commands for {device} are not sent yet",
            "see whether ingest runs and the board was seen",
        )
    last = (await connection.execute(sa.select(sa.func.max(commands.c.id)))).scalar_one() or 0
    created_ms = now_ms()
    number = max(last + 1, created_ms // 1000)  # `writing` transactions take turns, so nobody else has the same
    row = {"id": number, "device": device, "verb": verb, "args": list(args), "created_ms": created_ms}
    await connection.execute(sa.insert(commands).values(row))
    return number


def _check(verb: str, args: Sequence[Any]) -> None:
    """Refuses what no board would do; device/commands.py is what boards know."""
    if verb != wire.VERB_RAW_WINDOW:
        raise BadRequest(f"no command {verb!r}", f"there is {wire.VERB_RAW_WINDOW}")
    windows = args[0] if args else 1
    if len(args) > 1 or type(windows) is not int or not 1 <= windows <= policy.MAX_RAW_WINDOWS:
        raise BadRequest(f"{verb} with {list(args)}", f"give how many windows to record, 1 to {policy.MAX_RAW_WINDOWS}")

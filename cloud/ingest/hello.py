"""What a HELLO changes: the device's row, the clock of its epoch, the floors of its streams.

The web process follows devices.hello_ms and works out from the rest what the board shall run.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud import wire_types as w
from cloud.devices.configuration import take_in
from cloud.ingest import streams
from cloud.ingest.clocks import Clocks
from cloud.ingest.rows import hello_row
from cloud.ingest.streams import Account, StreamId
from cloud.store.tables import devices
from contract import wire


async def apply_hello(
    connection: AsyncConnection,
    device: str,
    hello: w.Hello,
    accounts: dict[StreamId, Account],
    clocks: Clocks,
    now_ms: int,
) -> int:
    """Writes a HELLO down; returns how many records its floors give up.

    One that was said before another that has been heard changes nothing of what is known of the board.
    """
    clocks.hello((device, hello.epoch), hello.t_ms, now_ms)
    row = hello_row(device, hello, now_ms)
    del row["device"]
    columns = devices.c
    later = sa.or_(
        columns.epoch.is_(None),
        columns.epoch < hello.epoch,
        (columns.epoch == hello.epoch) & (sa.func.coalesce(columns.hello_t_ms, 0) <= hello.t_ms),
    )
    written = await connection.execute(sa.update(devices).where(columns.device == device, later).values(row))
    if written.rowcount:
        await take_in(connection, device, hello, now_ms)
    dropped = 0
    for epoch, *floors in hello.floors:
        for stream, floor in zip(wire.STREAMS, floors, strict=True):
            dropped += await streams.drop_below(connection, accounts[StreamId(device, epoch, stream)], floor)
    # All that is on its way of an epoch it has forgotten, such as with a wiped flash, is in the broker's queue at most.
    listed = {floors[0] for floors in hello.floors}
    if hello.epoch in listed and len(listed) < wire.MAX_FLOORS:
        for account in list(accounts.values()):
            if account.device == device and account.epoch < hello.epoch and account.epoch not in listed:
                dropped += await streams.drop_below(connection, account, account.high_seq)
    return dropped

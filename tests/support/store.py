"""A real database, written to as by a process that has just started."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.ingest.writer import Outcome, Writer
from cloud.settings import Settings
from cloud.store import tables as t
from cloud.store.engine import make_engine, writing
from contract import wire
from tests.support.messages import item

BOARD = "board-1"
NOW_MS = 1_900_000_000_000
_T = TypeVar("_T")


class Store:
    """The database of a data folder. Each call has an engine and a writer of its own: nothing is remembered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def add(self, *devices: str) -> None:
        """Devices that may talk."""

        async def insert(engine: AsyncEngine) -> None:
            rows = [{"device": device, "kind": "pump", "credential": 1, "created_ms": 0} for device in devices]
            async with writing(engine).begin() as connection:
                await connection.execute(sa.insert(t.devices), rows)

        self.run(insert)

    def write(self, *messages: Any, device: str = BOARD, at_ms: int = NOW_MS) -> Outcome:
        """One committed batch of messages of one board."""
        return self.write_items([item(device, message) for message in messages], at_ms)

    def write_items(self, items: Sequence[Any], at_ms: int = NOW_MS) -> Outcome:
        """One committed batch."""
        return self.run(lambda engine: Writer(engine).write(items, at_ms))

    def run(self, work: Callable[[AsyncEngine], Awaitable[_T]]) -> _T:
        """The result of `await work(engine)`."""

        async def use() -> _T:
            engine = make_engine(self.settings)
            try:
                return await work(engine)
            finally:
                await engine.dispose()

        return asyncio.run(use())

    def rows(self, table: sa.Table, device: str = BOARD) -> list[dict[str, Any]]:
        """The rows of a table that belong to a board, by primary key."""

        async def read(engine: AsyncEngine) -> list[dict[str, Any]]:
            query = sa.select(table).where(table.c.device == device).order_by(*table.primary_key.columns)
            async with engine.connect() as connection:
                return [dict(row) for row in (await connection.execute(query)).mappings()]

        return self.run(read)

    def account(self, stream: int = wire.EVENT, epoch: int = 1, device: str = BOARD) -> dict[str, int]:
        """The books of one stream, without its name."""
        (row,) = [row for row in self.rows(t.streams, device) if (row["epoch"], row["stream"]) == (epoch, stream)]
        return {name: value for name, value in row.items() if name not in ("device", "epoch", "stream")}

    def next_seq(self, stream: int = wire.EVENT, epoch: int = 1) -> int:
        """What the ACK would say."""
        return self.account(stream, epoch)["next_seq"]

"""When epochs began: from the board's clock in HELLO, or as well as it can be told without one.

A record's own time is `t_ms` since its epoch began, so one number per epoch places all its records. A message cannot
have been made after it arrived: `arrival - t_ms` is never earlier than the true start by more than the board's clock
runs fast, and too late by as long as the message waited. So the lowest value seen is the best, whoever brought it: a
HELLO that lay in the broker's queue while ingest was down is put right by the next message. A HELLO that names the
epoch turns the estimate into a known start. A value that would move the start back by more than MAX_SHIFT_MS comes
from a clock that jumped: then nothing is moved, and the epoch is marked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.store.engine import insert
from cloud.store.tables import QUALITY_ESTIMATED, QUALITY_HELLO, QUALITY_JUMPED, epochs

MAX_SHIFT_MS = 30 * 86_400_000
"""Real clocks gain minutes a month; simulated boards run hundreds of times faster, but not for this long."""

EpochId = tuple[str, int]
"""Device and epoch."""


@dataclass(slots=True)
class Clock:
    """One row of `epochs`."""

    device: str
    epoch: int
    began_ms: int
    quality: int = QUALITY_ESTIMATED
    hello_ms: int | None = None

    def tell(self, t_ms: int, arrival_ms: int) -> bool:
        """A message with this board time arrived; True when that changed anything."""
        began_ms = arrival_ms - t_ms
        if began_ms >= self.began_ms or self.quality == QUALITY_JUMPED:
            return False
        if self.began_ms - began_ms > MAX_SHIFT_MS:
            self.quality = QUALITY_JUMPED
        else:
            self.began_ms = began_ms
        return True

    def hello(self, now_ms: int) -> None:
        """A HELLO named this epoch."""
        self.hello_ms = now_ms
        if self.quality == QUALITY_ESTIMATED:
            self.quality = QUALITY_HELLO


class Clocks:
    """The clocks of a batch's epochs."""

    def __init__(self, known: dict[EpochId, Clock]) -> None:
        self._known = known
        self._changed: dict[EpochId, Clock] = {}

    def tell(self, id_: EpochId, t_ms: int, arrival_ms: int) -> None:
        """See Clock.tell; an epoch not heard of before begins here."""
        clock = self._known.get(id_)
        if clock is None:
            self._known[id_] = self._changed[id_] = Clock(*id_, began_ms=arrival_ms - t_ms)
        elif clock.tell(t_ms, arrival_ms):
            self._changed[id_] = clock

    def hello(self, id_: EpochId, t_ms: int, arrival_ms: int) -> None:
        """A HELLO of this epoch told its clock."""
        self.tell(id_, t_ms, arrival_ms)
        self._known[id_].hello(arrival_ms)
        self._changed[id_] = self._known[id_]

    def wants_hello(self, id_: EpochId) -> bool:
        """Whether no HELLO has named this epoch yet."""
        clock = self._known.get(id_)
        return clock is None or clock.hello_ms is None

    async def save(self, connection: AsyncConnection) -> None:
        """Writes what changed."""
        if not self._changed:
            return
        statement = insert(epochs, connection.dialect)
        new = {name: statement.excluded[name] for name in ("began_ms", "quality", "hello_ms")}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["device", "epoch"], set_=new),
            [asdict(clock) for clock in self._changed.values()],
        )


async def load_clocks(connection: AsyncConnection, ids: Iterable[EpochId]) -> Clocks:
    """The clocks of these epochs, as far as they are known."""
    wanted = set(ids)
    query = sa.select(epochs).where(epochs.c.device.in_({device for device, _ in wanted}))
    query = query.where(epochs.c.epoch.in_({epoch for _, epoch in wanted}))
    known: dict[EpochId, Clock] = {}
    for row in await connection.execute(query) if wanted else ():
        if (row[0], row[1]) in wanted:
            known[row[0], row[1]] = Clock(*row)
    return Clocks(known)

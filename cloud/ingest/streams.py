"""The accounts of streams in the database: loaded for a batch, changed in memory, written back in the same transaction.

The arithmetic and its theory are in sequence.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.ingest.sequence import Range, Ranges, carve, first_gap
from cloud.store.engine import insert
from cloud.store.tables import RECORD_TABLES, SKIPPED_DROPPED, SKIPPED_SET_ASIDE, frames, skipped, streams
from contract import wire

_CHUNK = 500  # values of one IN (...)
_PAGE = 500  # records or numbers looked at in one step when a gap has closed
_T = TypeVar("_T")


class StreamId(NamedTuple):
    """Which stream of which epoch of which device."""

    device: str
    epoch: int
    stream: int


@dataclass(slots=True)
class Account:
    """One row of `streams`."""

    device: str
    epoch: int
    stream: int
    next_seq: int = 0
    high_seq: int = 0
    received: int = 0
    declared_dropped: int = 0
    set_aside: int = 0
    duplicates: int = 0

    @property
    def has_gap(self) -> bool:
        """Whether a number was seen above one that is not accounted for."""
        return self.next_seq < self.high_seq

    def extend(self, start: int, end: int) -> None:
        """[start, end) is accounted for. Moves next_seq along where no older gap lies between; see `advance`."""
        if self.next_seq == self.high_seq == start:
            self.next_seq = end
        self.high_seq = max(self.high_seq, end)


@dataclass(slots=True)
class Around:
    """What is stored, and what was given up, around the records of a batch."""

    stored: Ranges = field(default_factory=Ranges)
    times: dict[int, int] = field(default_factory=dict[int, int])  # seq -> time of a stored record, board ms
    given_up: Ranges = field(default_factory=Ranges)
    why: dict[int, int] = field(default_factory=dict[int, int])  # start of a given-up range -> SKIPPED_*


async def load(connection: AsyncConnection, ids: Iterable[StreamId]) -> dict[StreamId, Account]:
    """The accounts of these streams, new ones where there are none; locked until the end of the transaction."""
    accounts = {id_: Account(*id_) for id_ in ids}
    # A superset, each device with every epoch of the batch: simpler for the database than pairs, and seldom larger.
    device_chunks = _chunks(sorted({id_.device for id_ in accounts}))
    epoch_chunks = _chunks(sorted({id_.epoch for id_ in accounts}))
    for devices, epochs in product(device_chunks, epoch_chunks):
        query = sa.select(streams).where(streams.c.device.in_(devices), streams.c.epoch.in_(epochs))
        for row in await connection.execute(query.with_for_update()):
            id_ = StreamId(row[0], row[1], row[2])
            if id_ in accounts:
                accounts[id_] = Account(*row)
    return accounts


async def with_gaps(connection: AsyncConnection, devices: Iterable[str]) -> list[StreamId]:
    """The streams of devices that wait for something."""
    query = sa.select(streams.c.device, streams.c.epoch, streams.c.stream)
    found: list[StreamId] = []
    for part in _chunks(list(devices)):
        rows = await connection.execute(
            query.where(streams.c.device.in_(part), streams.c.next_seq < streams.c.high_seq)
        )
        found += [StreamId(*row) for row in rows]
    return found


async def save(connection: AsyncConnection, accounts: Iterable[Account]) -> None:
    """Writes accounts back."""
    rows = [asdict(account) for account in accounts]
    if not rows:
        return
    statement = insert(streams, connection.dialect)
    new = {name: statement.excluded[name] for name in rows[0] if name not in ("device", "epoch", "stream")}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["device", "epoch", "stream"], set_=new), rows
    )


async def around(connection: AsyncConnection, account: Account, records: Sequence[Range]) -> Around:
    """What lies around `records`. Empty, without asking the database, when they are all beyond what was ever seen."""
    found = Around()
    low, high = min(start for start, _ in records), max(end for _, end in records)
    if low >= account.high_seq:
        return found
    for window in _windows(records):
        for start, end, t_ms in await _stored(connection, account, window):
            found.stored.add(start, end)
            found.times[start] = t_ms
    for start, count, why in await _given_up(connection, account, low, high):
        found.given_up.add(start, start + count)
        found.why[start] = why
    return found


async def give_up(connection: AsyncConnection, account: Account, known: Around, start: int, end: int, why: int) -> int:
    """Notes that what is neither stored nor given up of [start, end) never will be; returns how many that are."""
    gaps = [gap for part in known.stored.gaps(start, end) for gap in known.given_up.gaps(*part)]
    if gaps:
        await connection.execute(sa.insert(skipped), [_skipped_row(account, *gap, why) for gap in gaps])
    count = sum(high - low for low, high in gaps)
    for gap in gaps:
        known.given_up.add(*gap)
        known.why[gap[0]] = why
    _count(account, why, count)
    account.extend(start, end)
    return count


async def take_back(connection: AsyncConnection, account: Account, known: Around, start: int, end: int) -> None:
    """Numbers that had been given up came after all: they are received now."""
    for held in known.given_up.touching(start, end):
        why = known.why.pop(held[0])
        known.given_up.remove(held)
        await connection.execute(
            sa.delete(skipped).where(
                *_of(skipped, account), skipped.c.stream == account.stream, skipped.c.seq == held[0]
            )
        )
        rest = carve(held, start, end)
        for part in rest:
            known.given_up.add(*part)
            known.why[part[0]] = why
            await connection.execute(sa.insert(skipped).values(_skipped_row(account, *part, why)))
        _count(account, why, sum(high - low for low, high in rest) - (held[1] - held[0]))


async def advance(connection: AsyncConnection, account: Account) -> None:
    """Moves next_seq to the first gap; the records of the batch have to be in the database by now."""
    while account.has_gap:
        low = account.next_seq
        stored = Ranges((start, end) for start, end, _ in await _stored(connection, account, (low, low + _PAGE)))
        gone = Ranges(
            (start, start + count) for start, count, _ in await _given_up(connection, account, low, low + _PAGE)
        )
        account.next_seq = first_gap(low, stored, gone)
        if account.next_seq < low + _PAGE:
            return


async def drop_below(connection: AsyncConnection, account: Account, floor: int) -> int:
    """Takes a board's word that it holds nothing below `floor`; returns how many records are given up by it."""
    dropped = 0
    while account.next_seq < floor:
        low = account.next_seq
        page = await _stored(connection, account, (low, floor), limit=_PAGE)
        end = floor if len(page) < _PAGE else min(floor, page[-1][1])
        known = Around(stored=Ranges((start, stop) for start, stop, _ in page))
        for start, count, why in await _given_up(connection, account, low, end):
            known.given_up.add(start, start + count)
            known.why[start] = why
        dropped += await give_up(connection, account, known, low, end, SKIPPED_DROPPED)
        account.next_seq = end
    if dropped:
        await advance(connection, account)
    return dropped


async def _stored(
    connection: AsyncConnection, account: Account, window: Range, limit: int | None = None
) -> list[tuple[int, int, int]]:
    """(start, end, time) of the stored records that share a number with the window, in order, the first `limit`."""
    table = RECORD_TABLES[account.stream]
    if table is frames:
        query = sa.select(frames.c.seq, frames.c.seq + frames.c.rows, frames.c.t0_ms).where(
            frames.c.seq > window[0] - wire.MAX_ROWS, frames.c.seq + frames.c.rows > window[0]
        )
    else:
        query = sa.select(table.c.seq, table.c.seq + 1, table.c.t_ms).where(table.c.seq >= window[0])
    query = query.where(*_of(table, account), table.c.seq < window[1]).order_by(table.c.seq).limit(limit)
    return [(row[0], row[1], row[2]) for row in await connection.execute(query)]


async def _given_up(connection: AsyncConnection, account: Account, low: int, high: int) -> list[tuple[int, int, int]]:
    """(start, count, why) of the given-up ranges that share a number with [low, high), in order."""
    query = (
        sa.select(skipped.c.seq, skipped.c["count"], skipped.c.why)
        .where(*_of(skipped, account), skipped.c.stream == account.stream)
        .where(skipped.c.seq < high, skipped.c.seq + skipped.c["count"] > low)
        .order_by(skipped.c.seq)
    )
    return [(row[0], row[1], row[2]) for row in await connection.execute(query)]


def _windows(records: Sequence[Range]) -> list[Range]:
    """Few ranges that cover the records without covering much else: what lies between them may be millions of rows."""
    windows: list[Range] = []
    for start, end in sorted(records):
        if windows and start - windows[-1][1] <= wire.MAX_ROWS:
            windows[-1] = (windows[-1][0], max(windows[-1][1], end))
        else:
            windows.append((start, end))
    return windows


def _of(table: sa.Table, account: Account) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return table.c.device == account.device, table.c.epoch == account.epoch


def _skipped_row(account: Account, start: int, end: int, why: int) -> dict[str, object]:
    return {
        "device": account.device,
        "epoch": account.epoch,
        "stream": account.stream,
        "seq": start,
        "count": end - start,
        "why": why,
    }


def _count(account: Account, why: int, change: int) -> None:
    if why == SKIPPED_SET_ASIDE:
        account.set_aside += change
    else:
        account.declared_dropped += change


def _chunks(values: Sequence[_T]) -> list[Sequence[_T]]:
    return [values[at : at + _CHUNK] for at in range(0, len(values), _CHUNK)]

"""One batch -> one transaction. What is acknowledged, to the broker and to boards, is what this committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud import wire_types as w
from cloud.ingest import streams
from cloud.ingest.clocks import Clocks, load_clocks
from cloud.ingest.decode import Numbers, Poison
from cloud.ingest.hello import apply_hello
from cloud.ingest.quarantine import keep, quarantine_row
from cloud.ingest.readings import LastRows, NoBase, RowId, Sealed, Values, WithBase, key_form, key_forms
from cloud.ingest.rows import OneRecord, Row, record_row, stream_of
from cloud.ingest.sequence import Fit, fit
from cloud.ingest.streams import Account, Around, StreamId
from cloud.store.engine import insert_new, writing
from cloud.store.tables import RECORD_TABLES, SKIPPED_SET_ASIDE, TELLING, devices
from contract import wire
from contract.wire import WireError

Record = w.Readings | OneRecord
Groups = dict[StreamId, list[tuple["Item", Numbers, Record | Poison]]]

_UNKNOWN_DEVICE = wire.BAD_NAMES[wire.BAD_DEVICE]
_STREAM_NAMES = dict[int, str](zip(wire.STREAMS, wire.STREAM_NAMES, strict=True))
OVERLAP = "overlapping frame"
CONFLICT = "number used twice"


@dataclass(frozen=True, slots=True)
class Item:
    """One message of a batch. `what` is the decoded message, why there is none, or whether the device is online.

    FETCH is none of these: it changes nothing in the store.
    """

    device: str
    topic: str
    payload: bytes
    what: w.Hello | Record | Poison | bool


@dataclass(slots=True)
class Outcome:
    """What a committed batch means for the world outside the database."""

    acks: dict[str, list[Account]] = field(default_factory=dict[str, list[Account]])
    """Devices to acknowledge, each with the accounts that may have changed."""
    need_key: set[str] = field(default_factory=set[str])
    say_hello: set[str] = field(default_factory=set[str])
    hellos: dict[str, w.Hello] = field(default_factory=dict[str, w.Hello])
    questions: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    """(device, epoch, seq) of each QUERY that was stored and wants an answer."""
    counts: Counter[str] = field(default_factory=Counter[str])


class Writer:
    """Writes batches, one at a time. Keeps nothing that a restart would miss: LastRows is a cache."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = writing(engine)
        self._last_rows = LastRows()

    async def write(self, items: Sequence[Item], now_ms: int) -> Outcome:
        """Commits a batch; on any error nothing of it is stored and it may be written again, as a whole or in parts."""
        async with self._engine.begin() as connection:
            batch = _Batch(connection, self._last_rows, now_ms)
            await batch.take(items)
        self._last_rows.keep(batch.last_rows)
        return batch.outcome


class _Batch:
    """The state of one transaction."""

    def __init__(self, connection: AsyncConnection, last_rows: LastRows, now_ms: int) -> None:
        self.outcome = Outcome()
        self.last_rows: dict[RowId, Values] = {}
        self._connection = connection
        self._known_rows = last_rows
        self._now_ms = now_ms
        self._inserts: dict[int, list[Row]] = {}
        self._quarantine: list[Row] = []
        self._seen: dict[str, Row] = {}
        self._clocks = Clocks({})
        self._sealed: dict[int, Sealed] = {}

    async def take(self, items: Sequence[Item]) -> None:
        """The whole batch, in an order in which what a record needs comes before it."""
        known = await self._known_devices({item.device for item in items})
        hellos: dict[str, list[w.Hello]] = {}
        groups: Groups = {}
        for item in items:
            if item.device not in known:
                if not isinstance(item.what, bool):  # retained states of removed devices come at every connect
                    self._set_aside(item, Poison(_UNKNOWN_DEVICE, ""))
                continue
            self._seen.setdefault(
                item.device, {"b_contact_ms": None, "b_online": None, "b_set_aside": 0, "b_unknown_codes": 0}
            )
            self._sort(item, groups, hellos)
        ids = [*groups, *(id_ for device, said in hellos.items() for id_ in _hello_streams(device, said))]
        ids += await streams.with_gaps(self._connection, hellos)
        accounts = await streams.load(self._connection, ids)
        self._clocks = await load_clocks(self._connection, ((id_.device, id_.epoch) for id_ in ids))
        self._decode_together(groups)
        gaps = {id_: accounts[id_].next_seq for id_ in groups if accounts[id_].has_gap}
        for id_, records in groups.items():
            await self._place(accounts[id_], records)
        for stream, rows in self._inserts.items():
            await insert_new(self._connection, RECORD_TABLES[stream], rows)
        for id_ in groups:
            await streams.advance(self._connection, accounts[id_])
        for device, said in hellos.items():
            for hello in said:
                self.outcome.counts["records_declared_dropped"] += await apply_hello(
                    self._connection, device, hello, accounts, self._clocks, self._now_ms
                )
            self.outcome.hellos[device] = max(said, key=lambda hello: (hello.epoch, hello.t_ms))
            self.outcome.acks.setdefault(device, []).extend(accounts[id_] for id_ in _hello_streams(device, said))
        for id_ in groups:
            nameless = id_.epoch >= known[id_.device] and self._clocks.wants_hello((id_.device, id_.epoch))
            # A gap older than this batch: what fills it may be gone from the board (this store may be a restored
            # backup), and only the floors of a HELLO can tell.
            if nameless or gaps.get(id_) == accounts[id_].next_seq:
                self.outcome.say_hello.add(id_.device)
        await self._finish(accounts)

    async def _known_devices(self, names: set[str]) -> dict[str, int]:
        """Of the devices that exist, the epoch of the last HELLO."""
        query = sa.select(devices.c.device, devices.c.epoch).where(devices.c.device.in_(names))
        return {device: epoch or 0 for device, epoch in await self._connection.execute(query)}

    def _sort(self, item: Item, groups: Groups, hellos: dict[str, list[w.Hello]]) -> None:
        """Puts one message of a known device where it is dealt with."""
        what, seen = item.what, self._seen[item.device]
        if not isinstance(what, bool):  # `state` is retained, and published by the broker for a dead board
            seen["b_contact_ms"] = self._now_ms
        match what:
            case bool():
                seen["b_online"] = what
            case w.Hello():
                hellos.setdefault(item.device, []).append(what)
            case Poison():
                if what.numbers is None:
                    self._set_aside(item, what)
                else:
                    id_ = StreamId(item.device, what.numbers.epoch, what.numbers.stream)
                    groups.setdefault(id_, []).append((item, what.numbers, what))
            case w.Readings() | w.Event() | w.Query() | w.Health() | w.Update():
                end = what.seq + (what.rows if isinstance(what, w.Readings) else 1)
                numbers = Numbers(stream_of(what), what.epoch, what.seq, end)
                groups.setdefault(StreamId(item.device, what.epoch, numbers.stream), []).append((item, numbers, what))

    def _decode_together(self, groups: Groups) -> None:
        """Decodes the frames of the batch whose bases are at hand; what is left is decoded one by one, as it is met."""
        together: list[WithBase] = []
        for id_, records in groups.items():
            for _, _, record in records:
                if isinstance(record, w.Readings):
                    base = None if record.base is None else self._known_rows.peek((id_.device, *record.base))
                    if record.base is None or base is not None:
                        together.append((record, base))
        self._sealed = key_forms(together)

    async def _place(self, account: Account, records: list[tuple[Item, Numbers, Record | Poison]]) -> None:
        """Decides for each record of one stream, in the order of arrival, whether it is stored."""
        known = await streams.around(self._connection, account, [(n.seq, n.end) for _, n, _ in records])
        self.outcome.acks.setdefault(account.device, []).append(account)
        latest_ms = -1
        for item, numbers, record in records:
            if isinstance(record, Poison):
                await self._give_up(account, known, item, numbers, record)
                continue
            latest_ms = max(latest_ms, record.t_ms)
            match fit(known.stored, numbers.seq, numbers.end):
                case Fit.NEW if numbers.end <= account.next_seq and not known.given_up.touching(
                    numbers.seq, numbers.end
                ):
                    account.duplicates += numbers.end - numbers.seq  # stored once, and deleted since: pruning.py
                case Fit.NEW:
                    await self._store(account, known, item, numbers, record)
                case Fit.OVERLAP:
                    detail = f"{numbers.seq}..{numbers.end - 1} is stored under other boundaries"
                    await self._give_up(account, known, item, numbers, Poison(OVERLAP, detail))
                case Fit.DUPLICATE if known.times[numbers.seq] != record.t_ms:
                    self._set_aside(item, Poison(CONFLICT, f"{numbers.seq} was stored with another time"))
                case Fit.DUPLICATE:
                    account.duplicates += numbers.end - numbers.seq
        if latest_ms >= 0:
            self._clocks.tell((account.device, account.epoch), latest_ms, self._now_ms)

    async def _store(self, account: Account, known: Around, item: Item, numbers: Numbers, record: Record) -> None:
        if isinstance(record, w.Readings):
            try:
                row = await self._frame_row(account.device, record)
            except NoBase:
                self.outcome.need_key.add(account.device)
                self.outcome.counts["frames_without_base"] += 1
                return
            except WireError as error:
                bad = Poison(wire.BAD_NAMES[error.code], error.detail)
                await self._give_up(account, known, item, numbers, bad)
                return
        else:
            row = record_row(account.device, record, self._now_ms)
            if isinstance(record, w.Query) and record.reason not in TELLING:
                self.outcome.questions.append((account.device, record.epoch, record.seq))
        if known.given_up.touching(numbers.seq, numbers.end):
            await streams.take_back(self._connection, account, known, numbers.seq, numbers.end)
        self._inserts.setdefault(account.stream, []).append(row)
        known.stored.add(numbers.seq, numbers.end)
        known.times[numbers.seq] = record.t_ms
        account.received += numbers.end - numbers.seq
        account.extend(numbers.seq, numbers.end)

    async def _frame_row(self, device: str, record: w.Readings) -> Row:
        """The row of a frame, in key form, whose last row is a base from now on; raises NoBase or WireError."""
        sealed = self._sealed.get(id(record))
        if sealed is None:
            base = None
            if record.base is not None:
                base = self.last_rows.get((device, *record.base))
                if base is None:
                    base = await self._known_rows.find(self._connection, device, *record.base)
            sealed = key_form(record, base)
        self.last_rows[device, record.epoch, record.seq + record.rows - 1] = sealed.last_row
        return {
            "device": device,
            "epoch": record.epoch,
            "seq": record.seq,
            "rows": record.rows,
            "t0_ms": record.t_ms,
            "t1_ms": sealed.t1_ms,
            "cols": record.cols,
            "lows": sealed.lows,
            "highs": sealed.highs,
            "first": sealed.first,
            "body": record.body,
            "received_ms": self._now_ms,
        }

    async def _give_up(self, account: Account, known: Around, item: Item, numbers: Numbers, why: Poison) -> None:
        """Sets a frame aside and goes on behind it, so that its board does not send it for ever."""
        seq, end = numbers.seq, numbers.end
        again = not known.stored.touching(seq, end) and not known.given_up.gaps(seq, end)
        await streams.give_up(self._connection, account, known, seq, end, SKIPPED_SET_ASIDE)
        if again:
            self.outcome.counts["poison_again"] += 1  # its bytes are in quarantine already
        else:
            self._set_aside(item, why)

    def _set_aside(self, item: Item, why: Poison) -> None:
        self._quarantine.append(quarantine_row(item.topic, item.device, why, item.payload, self._now_ms))
        self.outcome.counts["frames_set_aside"] += 1
        if seen := self._seen.get(item.device):
            seen["b_set_aside"] += 1
            seen["b_unknown_codes"] += why.is_unknown_code

    async def _finish(self, accounts: dict[StreamId, Account]) -> None:
        await streams.save(self._connection, accounts.values())
        await self._clocks.save(self._connection)
        self.outcome.counts["quarantine_removed"] += await keep(self._connection, self._quarantine)
        if self._seen:
            rows = [{"b_device": name, "b_now_ms": self._now_ms, **seen} for name, seen in self._seen.items()]
            await self._connection.execute(_SEEN, rows)
        for stream, rows in self._inserts.items():
            self.outcome.counts[f"{_STREAM_NAMES[stream]}_records"] += len(rows)


# One device of a batch. `b_contact_ms` and `b_online` are None when the batch says nothing about them.
_ONLINE = sa.func.coalesce(sa.bindparam("b_online", type_=sa.Boolean), devices.c.online)
_SEEN = (
    sa.update(devices)
    .where(devices.c.device == sa.bindparam("b_device"))
    .values(
        last_seen_ms=sa.func.coalesce(sa.bindparam("b_contact_ms", type_=sa.BigInteger), devices.c.last_seen_ms),
        online=_ONLINE,
        online_ms=sa.case(
            (devices.c.online != _ONLINE, sa.bindparam("b_now_ms", type_=sa.BigInteger)), else_=devices.c.online_ms
        ),
        set_aside=devices.c.set_aside + sa.bindparam("b_set_aside", type_=sa.BigInteger),
        unknown_codes=devices.c.unknown_codes + sa.bindparam("b_unknown_codes", type_=sa.BigInteger),
    )
)


def _hello_streams(device: str, said: Sequence[w.Hello]) -> list[StreamId]:
    """The accounts that the floors of HELLOs speak of."""
    epochs = {floors[0] for hello in said for floors in hello.floors} | {hello.epoch for hello in said}
    return [StreamId(device, epoch, stream) for epoch in epochs for stream in wire.STREAMS]

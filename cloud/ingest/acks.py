"""The retained ACK of each device: what is stored, in the epochs it may still ask about, and the cloud's clock.

An ACK replaces the one before it, so it repeats what was acknowledged earlier. It names up to four epochs: the device's
newest one, and those it sent records of last. They are remembered for devices that talked lately and read from the
store for others; a restart loses nothing. It also says which HELLO the cloud heard last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud import wire_types
from cloud.ingest.streams import Account
from cloud.store.tables import devices, epochs, streams
from contract import wire

_MAX_DEVICES = 20_000
_STREAM_INDEX = dict[int, int]((stream, index) for index, stream in enumerate(wire.STREAMS))

NextSeqs = list[int]
"""Next expected seq of each stream, in the order of wire.STREAMS."""


class Acks:
    """What was acknowledged to whom lately."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._devices: OrderedDict[str, OrderedDict[int, NextSeqs]] = OrderedDict()
        self._heard: dict[str, tuple[int, int]] = {}  # (epoch, t_ms) of the latest HELLO

    async def note(self, changed: Mapping[str, Iterable[Account]], hellos: Mapping[str, wire_types.Hello]) -> None:
        """Takes over the accounts of a committed batch by device, and the latest HELLO of each that said one."""
        await self._load(changed)
        for device, hello in hellos.items():
            self._heard[device] = max(self._heard.get(device, (0, 0)), (hello.epoch, hello.t_ms))
        for device, accounts in changed.items():
            known = self._devices[device]
            self._devices.move_to_end(device)
            for account in accounts:
                next_seqs = known.setdefault(account.epoch, [0] * len(wire.STREAMS))
                next_seqs[_STREAM_INDEX[account.stream]] = account.next_seq
                known.move_to_end(account.epoch)
            _forget_epochs(known)
        while len(self._devices) > _MAX_DEVICES:
            forgotten, _ = self._devices.popitem(last=False)
            self._heard.pop(forgotten, None)

    def message(self, device: str, flags: int, now_ms: int) -> bytes:
        """The ACK frame of a device that `note` was told about; `flags` are wire.ACK_*."""
        known = self._devices[device]
        acks = tuple((epoch, *known[epoch]) for epoch in sorted(known))
        epoch, t_ms = self._heard.get(device, (0, 0))
        heard_ms = t_ms if epoch == max(known, default=0) else 0
        return wire_types.encode(wire_types.Ack(now_ms, acks, flags, heard_ms))  # pyright: ignore[reportArgumentType]

    async def _load(self, changed: Mapping[str, Iterable[Account]]) -> None:
        """Reads what the next ACK needs and is not remembered: whole epochs, and a new device's newest ones."""
        strangers = {device for device in changed if device not in self._devices}
        missing = {
            (device, account.epoch)
            for device, accounts in changed.items()
            for account in accounts
            if device in strangers or account.epoch not in self._devices[device]
        }
        if not strangers and not missing:
            return
        newest = (
            sa.select(epochs.c.device, sa.func.max(epochs.c.epoch).label("epoch"))
            .where(epochs.c.device.in_(strangers))
            .group_by(epochs.c.device)
            .subquery()
        )
        recent = (
            sa.select(streams)
            .join(newest, newest.c.device == streams.c.device)
            .where(streams.c.epoch > newest.c.epoch - wire.MAX_ACKS)
        )
        touched = sa.select(streams).where(
            streams.c.device.in_({device for device, _ in missing}),
            streams.c.epoch.in_({epoch for _, epoch in missing}),
        )
        said = sa.select(devices.c.device, devices.c.epoch, devices.c.hello_t_ms)
        said = said.where(devices.c.device.in_(strangers), devices.c.epoch.is_not(None))
        async with self._engine.connect() as connection:
            heard = (await connection.execute(said)).all()
            books = [*await connection.execute(recent), *await connection.execute(touched)]
        # Only now: a store that goes away in between must leave them strangers.
        self._heard |= {row.device: (row.epoch, row.hello_t_ms or 0) for row in heard}
        self._devices |= {device: OrderedDict[int, NextSeqs]() for device in strangers}
        for row in books:
            if row.device in strangers or (row.device, row.epoch) in missing:
                next_seqs = self._devices[row.device].setdefault(row.epoch, [0] * len(wire.STREAMS))
                next_seqs[_STREAM_INDEX[row.stream]] = row.next_seq


def _forget_epochs(known: OrderedDict[int, NextSeqs]) -> None:
    """Keeps the newest epoch and those touched last."""
    newest = max(known, default=0)
    while len(known) > wire.MAX_ACKS:
        oldest = next(epoch for epoch in known if epoch != newest)
        del known[oldest]

"""Devices that may talk to this cloud: added, given a new password, removed. Broker and store change together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud import broker
from cloud.broker import Credential
from cloud.clock import now_ms
from cloud.errors import BadRequest, Conflict, NotFound
from cloud.models.desired import require_free
from cloud.models.tables import assignments
from cloud.processes import broker_pid
from cloud.rollouts.tables import rollout_boards
from cloud.settings import Settings
from cloud.store.engine import insert, writing
from cloud.store.tables import commands, desired, device_tags, devices, streams
from contract import wire

MAX_AT_ONCE = 1_000
_MAX_KIND = 32


class BrokerLogin(msgspec.Struct, frozen=True):
    """How a device reaches the broker, as its config.json has it."""

    host: str
    port: int
    user: str
    password: str


class Provisioned(msgspec.Struct, frozen=True):
    """What belongs into a board's config.json. The password is not shown again; a new one can be made."""

    device: str
    kind: str
    broker: BrokerLogin
    first_epoch: int
    """Higher than any epoch stored of this id: a board whose flash was wiped must not use a number again."""


class Provisioner:
    """The only writer of `devices` rows' existence. One per process that changes them."""

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        self._settings = settings
        self._engine = engine
        self._lock = asyncio.Lock()  # the broker's file is made from the whole table: an older one must not come last

    async def add(self, names: Sequence[str], kind: str) -> list[Provisioned]:
        """Adds devices; returns when they can log in. Raises BadRequest, Conflict (none is added then), Unavailable."""
        _check(names, kind)
        rows = [{"device": name, "kind": kind, "credential": 1, "created_ms": now_ms()} for name in names]
        async with self._lock:
            async with writing(self._engine).begin() as connection:
                known = await connection.scalars(sa.select(devices.c.device).where(devices.c.device.in_(names)))
                if taken := sorted(known):
                    raise Conflict(
                        f"{', '.join(taken[:3])} exists already", "choose another id, or `edgewise device renew` it"
                    )
                await connection.execute(insert(devices, connection.dialect), rows)
            await self._tell_broker()
        epochs = await self._first_epochs(names)
        return [self._provisioned(name, kind, 1, epochs[name]) for name in names]

    async def renew(self, device: str) -> Provisioned:
        """Gives a device a new password; the old one ends at once. Raises NotFound, Unavailable."""
        async with self._lock:
            async with writing(self._engine).begin() as connection:
                change = (
                    sa.update(devices)
                    .where(devices.c.device == device)
                    .values(credential=devices.c.credential + 1)
                    .returning(devices.c.kind, devices.c.credential)
                )
                row = (await connection.execute(change)).one_or_none()
                if row is None:
                    raise _unknown(device)
            await self._tell_broker()
        epochs = await self._first_epochs([device])
        return self._provisioned(device, row.kind, row.credential, epochs[device])

    async def remove(self, device: str) -> None:
        """Takes a device's login away and closes its connection; its records and its configuration stay.

        Raises NotFound, Conflict (a rollout that is under way owns it), Unavailable.
        """
        async with self._lock:
            async with writing(self._engine).begin() as connection:
                await require_free(connection, [device])
                for table in (assignments, device_tags, rollout_boards):
                    await connection.execute(sa.delete(table).where(table.c.device == device))
                unsent = (commands.c.device == device) & commands.c.sent_ms.is_(None)
                await connection.execute(sa.delete(commands).where(unsent))
                # Nobody is told to run them any more: the models may be deleted.
                wishes = sa.update(desired).where(desired.c.device == device)
                await connection.execute(wishes.values(artifact_sha256=None, shadow_sha256=None))
                gone = await connection.execute(sa.delete(devices).where(devices.c.device == device))
                if not gone.rowcount:
                    raise _unknown(device)
            await self._tell_broker()

    async def _tell_broker(self) -> None:
        found = await credentials(self._engine)
        pid = await asyncio.to_thread(broker_pid, self._settings)
        await asyncio.to_thread(broker.reload_credentials, self._settings, found, pid)

    async def _first_epochs(self, names: Sequence[str]) -> dict[str, int]:
        query = sa.select(streams.c.device, sa.func.max(streams.c.epoch)).where(streams.c.device.in_(names))
        async with self._engine.connect() as connection:
            known = {row[0]: row[1] for row in await connection.execute(query.group_by(streams.c.device))}
        return {name: known.get(name, 0) + 1 for name in names}

    def _provisioned(self, device: str, kind: str, generation: int, first_epoch: int) -> Provisioned:
        settings = self._settings
        password = broker.device_password(settings, device, generation)
        return Provisioned(
            device, kind, BrokerLogin(settings.mqtt_host, settings.mqtt_port, device, password), first_epoch
        )


async def credentials(engine: AsyncEngine) -> list[Credential]:
    """Every device that may log in, by id."""
    async with engine.connect() as connection:
        query = sa.select(devices.c.device, devices.c.credential).order_by(devices.c.device)
        return [Credential(*row) for row in await connection.execute(query)]


def _check(names: Sequence[str], kind: str) -> None:
    if not 1 <= len(names) <= MAX_AT_ONCE or len(set(names)) < len(names):
        raise BadRequest(f"{len(names)} device ids", f"give 1 to {MAX_AT_ONCE} different ones at once")
    for name in names:
        if not wire.valid_device_id(name):
            raise BadRequest(
                f"device id {name[:40]!r} is not valid",
                f"use 1 to {wire.MAX_DEVICE_ID} of the characters a-z, 0-9 and -",
            )
    if not 1 <= len(kind) <= _MAX_KIND:
        raise BadRequest(f"kind {kind[:40]!r} is not valid", f"use 1 to {_MAX_KIND} characters")


def _unknown(device: str) -> NotFound:
    return NotFound(f"no device {device}", "`edgewise device list` shows them")

"""Changes to the list of devices, under /api/v1/devices. Admin only."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Router, delete, post, put
from litestar.datastructures import State
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from cloud.auth import admin_only
from cloud.devices.commands import command
from cloud.devices.configuration import configure
from cloud.devices.provisioning import Provisioned, Provisioner
from cloud.devices.pruning import Pruned, prune
from cloud.devices.routes import DeviceId
from cloud.devices.tags import tag
from cloud.store.engine import writing
from contract import wire


class Tags(Struct, frozen=True, forbid_unknown_fields=True):
    """Tags for 1 to 1,000 devices."""

    devices: list[str]
    add: list[str] = []
    remove: list[str] = []


class Prune(Struct, frozen=True, forbid_unknown_fields=True):
    """Which samples to delete."""

    before_ms: Annotated[int, Meta(ge=0, le=wire.MAX_TIME_MS)]
    """Unix time in milliseconds; samples from it on stay."""


class Command(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device shall do, with its arguments."""

    verb: str
    args: list[Any] = []


class NewDevices(Struct, frozen=True, forbid_unknown_fields=True):
    """Ids of devices to add, 1 to 1,000, and what kind of machine they watch."""

    devices: list[str]
    kind: str


@post("/devices", summary="Add devices")
async def add_devices(state: State, data: NewDevices) -> list[Provisioned]:
    """They can log in when this returns. The passwords are shown here and never again."""
    provisioner: Provisioner = state.provisioner
    return await provisioner.add(data.devices, data.kind)


@post("/devices/{device:str}/credential", summary="Give a device a new password")
async def renew_device(state: State, device: DeviceId) -> Provisioned:
    """The old one ends at once."""
    provisioner: Provisioner = state.provisioner
    return await provisioner.renew(device)


@put("/devices/{device:str}/configuration", summary="Change what a device's configuration shall be")
async def configure_device(state: State, device: DeviceId, data: dict[str, Any]) -> dict[str, Any]:
    """Keys that are not named stay; null takes a key out. Returns the whole desired configuration."""
    return await configure(state.engine, device, data)


@post("/devices/{device:str}/commands", summary="Have a device do something")
async def command_device(state: State, device: DeviceId, data: Command) -> dict[str, int]:
    """Returns the number of the command. A device that sleeps gets it in its next session, and does it once."""
    async with writing(state.engine).begin() as connection:
        return {"id": await command(connection, device, data.verb, data.args)}


@post("/tags", status_code=HTTP_200_OK, summary="Put tags on devices")
async def tag_devices(state: State, data: Tags) -> dict[str, list[str]]:
    """All of it or nothing. Returns the tags of each device; without anything to add or remove that is all."""
    async with writing(state.engine).begin() as connection:
        return await tag(connection, data.devices, data.add, data.remove)


@post("/prune", status_code=HTTP_200_OK, summary="Delete samples of old")
async def prune_samples(state: State, data: Prune) -> Pruned:
    """Readings of all boards before a time; events, health reports and updates stay. Call again while there is more."""
    return await prune(state.engine, data.before_ms)


@delete("/devices/{device:str}", summary="Remove a device")
async def remove_device(state: State, device: DeviceId) -> None:
    """It cannot log in any more; its records stay."""
    provisioner: Provisioner = state.provisioner
    await provisioner.remove(device)


router = Router(
    path="/",
    tags=["Boards"],
    guards=[admin_only],
    security=[{"adminToken": []}],
    route_handlers=[
        add_devices,
        renew_device,
        configure_device,
        command_device,
        tag_devices,
        remove_device,
        prune_samples,
    ],
)

"""/api/v1/devices, /readings of a device, /events: what the boards said."""

from typing import Annotated

from litestar import Router, get
from litestar.datastructures import State
from litestar.params import Parameter

from cloud.clock import now_ms
from cloud.devices import queries, readings
from cloud.devices.history import History, read_history
from cloud.devices.presence import Presence
from cloud.devices.views import Device, DeviceDetail, Event, Health, Readings, UpdateStep
from cloud.errors import BadRequest
from cloud.models.queries import model_at, model_runs_of
from cloud.models.views import ModelRun
from contract import wire

DeviceId = Annotated[
    str, Parameter(pattern=r"^[a-z0-9-]{1,32}$", description="1 to 32 characters of a-z, 0-9 and '-'.")
]
Find = Annotated[
    str, Parameter(max_length=wire.MAX_DEVICE_ID, description="Only boards with this in their id or kind, or as a tag.")
]
Millis = Annotated[int, Parameter(ge=0, le=wire.MAX_TIME_MS, description="Unix time in milliseconds.")]
Before = Annotated[Millis | None, Parameter(description="Only those received before.")]
AfterEvent = Annotated[
    str | None,
    Parameter(
        pattern=r"^[0-9]{1,15}/[a-z0-9-]{1,32}/[0-9]{1,10}/[0-9]{1,10}$",
        description="Go on after the event with this `key`.",
    ),
]
_DAY_MS = 86_400_000
_MAX_RANGE_MS = 400 * _DAY_MS


@get("/devices", summary="Boards, by id")
async def list_devices(
    state: State,
    after: Annotated[str, Parameter(max_length=wire.MAX_DEVICE_ID, description="Go on after this id.")] = "",
    limit: Annotated[int, Parameter(ge=1, le=queries.MAX_DEVICES)] = 100,
    find: Find = "",
    presence: Annotated[Presence | None, Parameter(description="Only boards in this state.")] = None,
) -> list[Device]:
    """One page; the next one begins `after` the last id of this one."""
    async with state.engine.connect() as connection:
        chosen = queries.Chosen(find, presence)
        return await queries.list_devices(connection, now_ms(), after, limit, chosen=chosen)


@get("/devices/{device:str}", summary="One board")
async def show_device(state: State, device: DeviceId) -> DeviceDetail:
    """Last HELLO, health, updates with their reasons, the books of its streams, desired and reported configuration."""
    async with state.engine.connect() as connection:
        return await queries.show_device(connection, device, now_ms())


@get("/devices/{device:str}/readings", summary="Samples of a board")
async def list_readings(
    state: State,
    device: DeviceId,
    from_ms: Annotated[Millis | None, Parameter(description="Begin, inclusive. Without it: the last samples.")] = None,
    to_ms: Annotated[Millis | None, Parameter(description="End, exclusive. Without it: now and a day.")] = None,
    limit: Annotated[int, Parameter(ge=1, le=readings.MAX_ROWS)] = 1000,
    channel: Annotated[str | None, Parameter(max_length=64, description="Only this channel, by name.")] = None,
) -> Readings:
    """Expanded from the stored frames, oldest first. Values are in the channel's unit."""
    async with state.engine.connect() as connection:
        if from_ms is None:
            found = await readings.read_last(connection, device, limit)
        else:
            end_ms = now_ms() + _DAY_MS if to_ms is None else to_ms
            if not 0 < end_ms - from_ms <= _MAX_RANGE_MS:
                raise BadRequest("the range of time is empty or longer than 400 days", "ask for less at a time")
            found = await readings.read_range(connection, device, from_ms, end_ms, limit)
    return found if channel is None else readings.only_channel(found, channel)


@get("/devices/{device:str}/events", summary="Events of a board")
async def list_device_events(
    state: State,
    device: DeviceId,
    limit: Annotated[int, Parameter(ge=1, le=queries.MAX_EVENTS)] = 100,
    before_ms: Before = None,
    after: AfterEvent = None,
) -> list[Event]:
    """The last received first. One page; the next one begins `after` the `key` of the last event of this one."""
    async with state.engine.connect() as connection:
        await queries.require_device(connection, device)
        return await queries.list_events(connection, device, limit, before_ms, after)


@get("/devices/{device:str}/health", summary="Health reports of a board")
async def list_health(
    state: State, device: DeviceId, limit: Annotated[int, Parameter(ge=1, le=1000)] = 100
) -> list[Health]:
    """Newest first."""
    async with state.engine.connect() as connection:
        await queries.require_device(connection, device)
        return await queries.list_health(connection, device, limit)


@get("/devices/{device:str}/history", summary="What a board's records say of a stretch of its life")
async def show_history(
    state: State,
    device: DeviceId,
    from_ms: Annotated[Millis, Parameter(description="Begin, inclusive.")],
    to_ms: Annotated[Millis, Parameter(description="End, exclusive.")],
) -> History:
    """Health reports, events, and frames of readings without their samples, oldest first."""
    if not 0 < to_ms - from_ms <= _MAX_RANGE_MS:
        raise BadRequest("the range of time is empty or longer than 400 days", "ask for less at a time")
    async with state.engine.connect() as connection:
        return await read_history(connection, device, from_ms, to_ms)


@get("/devices/{device:str}/updates", summary="Model updates of a board")
async def list_updates(
    state: State, device: DeviceId, limit: Annotated[int, Parameter(ge=1, le=1000)] = 50
) -> list[UpdateStep]:
    """Every step it reported, newest first, with the reason where one was refused or rolled back."""
    async with state.engine.connect() as connection:
        await queries.require_device(connection, device)
        return await queries.list_updates(connection, device, limit)


@get("/devices/{device:str}/models", summary="Models a board ran")
async def list_models(
    state: State,
    device: DeviceId,
    at_ms: Annotated[Millis | None, Parameter(description="Only the one it ran then.")] = None,
) -> list[ModelRun]:
    """From which time on the board reported which model, newest first."""
    async with state.engine.connect() as connection:
        await queries.require_device(connection, device)
        if at_ms is None:
            return await model_runs_of(connection, device)
        run = await model_at(connection, device, at_ms)
        return [] if run is None else [run]


@get("/events", summary="Events of all boards")
async def list_events(
    state: State,
    limit: Annotated[int, Parameter(ge=1, le=queries.MAX_EVENTS)] = 100,
    before_ms: Before = None,
    after: AfterEvent = None,
) -> list[Event]:
    """The last received first. One page; the next one begins `after` the `key` of the last event of this one."""
    async with state.engine.connect() as connection:
        return await queries.list_events(connection, None, limit, before_ms, after)


router = Router(
    path="/",
    tags=["Boards"],
    route_handlers=[
        list_devices,
        show_device,
        list_readings,
        list_device_events,
        list_health,
        show_history,
        list_updates,
        list_models,
        list_events,
    ],
)

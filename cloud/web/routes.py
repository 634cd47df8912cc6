"""The pages at /, /devices/<id>, /rollouts/<id> and /models, and their event streams."""

from typing import Annotated, Any, Literal

from litestar import MediaType, Response, Router, get
from litestar.datastructures import State
from litestar.params import Parameter
from litestar.response import ServerSentEvent

from cloud.devices.presence import Presence
from cloud.devices.queries import Chosen
from cloud.devices.routes import DeviceId, Find
from cloud.errors import BadRequest, NotFound
from cloud.problems import PAGE_HEADERS
from cloud.rollouts.routes import RolloutId
from cloud.web.pages import SAMPLE_CHOICES, Pages, fleet_query
from cloud.web.sse import Live
from contract import wire

After = Annotated[str, Parameter(pattern=r"^[a-z0-9-]*$", max_length=wire.MAX_DEVICE_ID)]
InState = Presence | Literal[""]  # a form sends what is not chosen as well
Samples = Annotated[int, Parameter(ge=1, le=max(SAMPLE_CHOICES))]


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def fleet_page(state: State, after: After = "", find: Find = "", presence: InState = "") -> str:
    """The fleet at a glance."""
    pages: Pages = state.pages
    chosen = Chosen(find.strip(), presence or None)
    parts = await pages.fleet_parts(after, chosen)
    live = f"/live/fleet?{fleet_query(chosen, after)}"
    return pages.render("fleet.html", here="fleet", live=live, parts=parts, chosen=chosen)


@get("/devices/{device:str}", media_type=MediaType.HTML, include_in_schema=False)
async def device_page(state: State, device: DeviceId, samples: Samples = SAMPLE_CHOICES[0]) -> str:
    """One board."""
    _check(samples)
    pages: Pages = state.pages
    parts = await pages.device_parts(device, samples)
    live = f"/live/devices/{device}?samples={samples}"
    return pages.render("device.html", here="fleet", live=live, parts=parts, device=device)


@get("/models", media_type=MediaType.HTML, include_in_schema=False)
async def models_page(state: State) -> str:
    """The registry."""
    pages: Pages = state.pages
    return await pages.models_page()


@get("/rollouts/{rollout:int}", media_type=MediaType.HTML, include_in_schema=False)
async def rollout_page(state: State, rollout: RolloutId) -> str:
    """One rollout."""
    pages: Pages = state.pages
    parts = await pages.rollout_parts(rollout)
    return pages.render("rollout.html", here="fleet", live=f"/live/rollouts/{rollout}", parts=parts, number=rollout)


@get("/live/rollouts/{rollout:int}", include_in_schema=False)
async def rollout_live(state: State, rollout: RolloutId) -> Response[Any]:
    """Parts of a rollout's page as they change."""
    pages: Pages = state.pages
    live: Live = state.live
    live.admit()

    async def render() -> Any:
        return await pages.rollout_parts(rollout)

    await render()  # raises NotFound
    return ServerSentEvent(live.watch(f"rollout {rollout}", pages.fleet_stamp, render))


@get("/live/fleet", include_in_schema=False)
async def fleet_live(state: State, after: After = "", find: Find = "", presence: InState = "") -> Response[Any]:
    """Parts of the fleet page as they change."""
    pages: Pages = state.pages
    live: Live = state.live
    live.admit()

    chosen = Chosen(find, presence or None)

    async def render() -> Any:
        return await pages.fleet_parts(after, chosen)

    return ServerSentEvent(live.watch(f"fleet {fleet_query(chosen, after)}", pages.fleet_stamp, render))


@get("/live/devices/{device:str}", include_in_schema=False)
async def device_live(state: State, device: DeviceId, samples: Samples = SAMPLE_CHOICES[0]) -> Response[Any]:
    """Parts of a device's page as they change."""
    pages: Pages = state.pages
    live: Live = state.live
    live.admit()
    _check(samples)

    async def stamp() -> Any:
        return await pages.device_stamp(device)

    if await stamp() is None:
        raise NotFound(f"no device {device}", "`edgewise device list` shows them")

    async def render() -> Any:
        return await pages.device_parts(device, samples)

    return ServerSentEvent(live.watch(f"device {device} {samples}", stamp, render))


def _check(samples: int) -> None:
    """Raises BadRequest for a number that no page offers: each has a poller of its own."""
    if samples not in SAMPLE_CHOICES:
        raise BadRequest(f"samples={samples}", f"use one of {', '.join(map(str, SAMPLE_CHOICES))}")


router = Router(
    path="/",
    response_headers=PAGE_HEADERS,
    route_handlers=[
        fleet_page,
        device_page,
        models_page,
        fleet_live,
        device_live,
        rollout_page,
        rollout_live,
    ],
)

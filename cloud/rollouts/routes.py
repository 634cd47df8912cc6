"""/api/v1/rollouts."""

from typing import Annotated, Any

from litestar import Router, get, post
from litestar.datastructures import State as AppState
from litestar.params import Parameter
from litestar.status_codes import HTTP_200_OK
from msgspec import Struct

from cloud.auth import admin_only
from cloud.clock import now_ms
from cloud.rollouts import queries
from cloud.rollouts.plan import Plan
from cloud.rollouts.service import Rollouts
from cloud.rollouts.views import Disagreement, Rollout, RolloutDetail

RolloutId = Annotated[int, Parameter(ge=1, le=2**53)]
_ADMIN: dict[str, Any] = {"guards": [admin_only], "security": [{"adminToken": []}]}


class RollBack(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go back to."""

    to: str | None = None
    """A version other than the plan's fallback."""


@get("/rollouts", summary="Every rollout")
async def list_rollouts(state: AppState, limit: Annotated[int, Parameter(ge=1, le=500)] = 50) -> list[Rollout]:
    """The newest first."""
    async with state.engine.connect() as connection:
        return await queries.list_rollouts(connection, now_ms(), limit)


@get("/rollouts/{rollout:int}", summary="One rollout")
async def show_rollout(state: AppState, rollout: RolloutId) -> RolloutDetail:
    """Its plan, where it is and why, what the gates found last, and each board."""
    return await _shown(state, rollout)


@get("/rollouts/{rollout:int}/disagreements", summary="Windows on which two models differ")
async def list_disagreements(
    state: AppState, rollout: RolloutId, limit: Annotated[int, Parameter(ge=1, le=1000)] = 100
) -> list[Disagreement]:
    """Of a comparison in the shadow: the windows that boards sent with their features, the newest first."""
    async with state.engine.connect() as connection:
        return await queries.list_disagreements(connection, rollout, limit)


@post("/rollouts", summary="Plan a rollout", **_ADMIN)
async def plan_rollout(state: AppState, data: Plan) -> RolloutDetail:
    """Writes the plan and its cohort down; no board is touched before `start`. A period_ms of 0 is measured."""
    rollouts: Rollouts = state.rollouts
    return await _shown(state, await rollouts.plan(data))


@post("/rollouts/{rollout:int}/start", status_code=HTTP_200_OK, summary="Start it", **_ADMIN)
async def start(state: AppState, rollout: RolloutId) -> RolloutDetail:
    """Takes hold of the boards and tells the canaries."""
    await state.rollouts.start(rollout)
    return await _shown(state, rollout)


@post("/rollouts/{rollout:int}/pause", status_code=HTTP_200_OK, summary="Pause it", **_ADMIN)
async def pause(state: AppState, rollout: RolloutId) -> RolloutDetail:
    """No further board is added; the gates go on."""
    await state.rollouts.pause(rollout)
    return await _shown(state, rollout)


@post("/rollouts/{rollout:int}/resume", status_code=HTTP_200_OK, summary="Resume it", **_ADMIN)
async def resume(state: AppState, rollout: RolloutId) -> RolloutDetail:
    """The stage it was paused in begins anew."""
    await state.rollouts.resume(rollout)
    return await _shown(state, rollout)


@post("/rollouts/{rollout:int}/approve", status_code=HTTP_200_OK, summary="Approve its ramp", **_ADMIN)
async def approve(state: AppState, rollout: RolloutId) -> RolloutDetail:
    """For plans that ask for approval after the soak."""
    await state.rollouts.approve(rollout)
    return await _shown(state, rollout)


@post("/rollouts/{rollout:int}/abort", status_code=HTTP_200_OK, summary="Abort it", **_ADMIN)
async def abort(state: AppState, rollout: RolloutId) -> RolloutDetail:
    """Ends it at once: its boards follow the champion again, and nobody watches them do so."""
    await state.rollouts.abort(rollout)
    return await _shown(state, rollout)


@post("/rollouts/{rollout:int}/rollback", status_code=HTTP_200_OK, summary="Take the candidate back", **_ADMIN)
async def roll_back(state: AppState, rollout: RolloutId, data: RollBack) -> RolloutDetail:
    """Every board is told to go back, and the rollout ends when none runs the candidate."""
    await state.rollouts.roll_back(rollout, data.to)
    return await _shown(state, rollout)


async def _shown(state: AppState, rollout: int) -> RolloutDetail:
    async with state.engine.connect() as connection:
        return await queries.show_rollout(connection, rollout, now_ms())


router = Router(
    path="/",
    tags=["Rollouts"],
    route_handlers=[
        list_rollouts,
        show_rollout,
        list_disagreements,
        plan_rollout,
        start,
        pause,
        resume,
        approve,
        abort,
        roll_back,
    ],
)

"""/api/v1/frames: what ingest set aside."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get, post
from litestar.datastructures import State
from litestar.params import Parameter
from litestar.status_codes import HTTP_202_ACCEPTED

from cloud.auth import admin_only
from cloud.frames import service
from cloud.frames.service import MAX_FRAMES, Frame, FrameBytes

FrameId = Annotated[int, Parameter(ge=1, le=2**63 - 1)]


@get("/frames", summary="Frames that were set aside")
async def list_frames(
    state: State,
    device: Annotated[str | None, Parameter(max_length=64, description="Only of this device.")] = None,
    before: Annotated[int | None, Parameter(ge=1, le=2**63 - 1, description="Go on before this id.")] = None,
    limit: Annotated[int, Parameter(ge=1, le=MAX_FRAMES)] = 100,
) -> list[Frame]:
    """The newest first."""
    return await service.list_frames(state.engine, device, before, limit)


@get("/frames/{frame:int}", summary="One frame with its bytes")
async def show_frame(state: State, frame: FrameId) -> FrameBytes:
    """The payload is in hex, at most its first 8 kB."""
    return await service.show_frame(state.engine, frame)


@post(
    "/frames/{frame:int}/replay",
    summary="Take a frame once more",
    status_code=HTTP_202_ACCEPTED,
    guards=[admin_only],
    security=[{"adminToken": []}],
)
async def replay_frame(state: State, frame: FrameId) -> Frame:
    """Ingest does it within a second: `replayed_ms` tells when. What is still bad stays where it is."""
    return await service.ask_replay(state.engine, frame)


router = Router(path="/", tags=["Frames"], route_handlers=[list_frames, show_frame, replay_frame])

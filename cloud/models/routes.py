"""/api/v1/models, /artifacts, /keys and /desired."""

from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from litestar import Request, Router, asgi, delete, get, post, put
from litestar.datastructures import State, UploadFile
from litestar.enums import RequestEncodingType
from litestar.exceptions import MethodNotAllowedException
from litestar.params import Body, Parameter
from litestar.status_codes import HTTP_200_OK
from litestar.types import Receive, Scope, Send
from msgspec import Meta, Struct

from cloud.auth import admin_only
from cloud.clock import now_ms
from cloud.devices.routes import DeviceId
from cloud.errors import BadRequest, NotFound
from cloud.models import compare, housekeeping, keys, queries
from cloud.models.intake import MAX_ARTIFACTS, MAX_CARD_BYTES
from cloud.models.service import Audience, Registry
from cloud.models.views import (
    AliasChange,
    Announced,
    Board,
    Collected,
    Deployed,
    Difference,
    PublisherKey,
    Trace,
    Version,
    VersionDetail,
)
from cloud.store.engine import writing
from contract import wire

ModelName = Annotated[str, Parameter(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]
VersionText = Annotated[str, Parameter(pattern=r"^[0-9a-z.-]{5,32}$", description="MAJOR.MINOR.PATCH[-suffix]")]
U32 = Annotated[int, Parameter(ge=0, le=wire.MAX_U32)]
_MAX_PUBLISH_BYTES = MAX_ARTIFACTS * (wire.MAX_ARTIFACT_BYTES + MAX_CARD_BYTES) + 65_536
_ADMIN: dict[str, Any] = {"guards": [admin_only], "security": [{"adminToken": []}]}


@dataclass
class PublishForm:
    """multipart/form-data of a publish."""

    artifact: list[UploadFile]
    """One signed file per target, at most 16."""
    card: list[UploadFile] = field(default_factory=list[UploadFile])
    """The model cards these artifacts were signed with, JSON; each artifact's manifest names its own by digest."""
    to: str = "none"
    """Who shall run it: `none`, `all` (it becomes the champion), `kind:<kind>` or device ids with commas."""
    note: str = ""


class Deploy(Struct, frozen=True, forbid_unknown_fields=True):
    """Tells boards to run a version."""

    name: str
    version: str
    to: str
    note: str = ""


class Promote(Struct, frozen=True, forbid_unknown_fields=True):
    """Moves an alias."""

    version: str
    note: str = ""


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be said of a version."""

    note: Annotated[str, Meta(max_length=2000)]


class Trust(Struct, frozen=True, forbid_unknown_fields=True):
    """A publisher's public key."""

    public_key: str
    """x || y, 128 hex digits."""
    label: Annotated[str, Meta(max_length=64)] = ""


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """A publisher's signed statement."""

    statement: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){1,256}$")]
    """The bytes of the file, hex."""


@post("/models", request_max_body_size=_MAX_PUBLISH_BYTES, summary="Publish the artifacts of one version", **_ADMIN)
async def publish(
    state: State, data: Annotated[PublishForm, Body(media_type=RequestEncodingType.MULTI_PART)]
) -> Deployed:
    """Checks digests, signatures and sequence, stores the artifacts, tells `to` to run them: all of it or nothing."""
    files = [await _read(upload, wire.MAX_ARTIFACT_BYTES) for upload in data.artifact]
    cards = [await _read(upload, MAX_CARD_BYTES) for upload in data.card]
    registry: Registry = state.registry
    return await registry.publish(files, cards, Audience.parse(data.to), data.note)


@post(
    "/models/raw",
    request_max_body_size=wire.MAX_ARTIFACT_BYTES,
    summary="Publish one artifact, its bytes as the body",
    **_ADMIN,
)
async def publish_raw(
    state: State,
    request: Request[Any, Any, Any],
    to: Annotated[str, Parameter(max_length=8192, description="As in POST /models.")] = "none",
    note: Annotated[str, Parameter(max_length=1000)] = "",
) -> Deployed:
    """The same as POST /models for a single artifact without a card."""
    registry: Registry = state.registry
    return await registry.publish([await request.body()], [], Audience.parse(to), note)


@get("/models", summary="Every version of every model")
async def list_models(state: State) -> list[Version]:
    """By name, the newest version first."""
    async with state.engine.connect() as connection:
        return await queries.list_versions(connection)


@get("/models/{name:str}", summary="The versions of a model")
async def list_versions(state: State, name: ModelName) -> list[Version]:
    """The newest first."""
    async with state.engine.connect() as connection:
        return await queries.list_versions(connection, name)


@get("/models/{name:str}/{version:str}", summary="One version")
async def show_version(state: State, name: ModelName, version: VersionText) -> VersionDetail:
    """Its artifacts with their manifests, the model card, and where it runs."""
    async with state.engine.connect() as connection:
        return await queries.show_version(connection, name, version)


@put("/models/{name:str}/{version:str}/note", summary="Say something of a version", **_ADMIN)
async def note(state: State, name: ModelName, version: VersionText, data: Note) -> Note:
    """In place of what was said before; nothing else of a version ever changes."""
    registry: Registry = state.registry
    await registry.note(name, version, data.note)
    return data


@delete("/models/{name:str}/{version:str}", status_code=HTTP_200_OK, summary="Delete a version", **_ADMIN)
async def delete_version(state: State, name: ModelName, version: VersionText) -> Version:
    """Refused while an alias, an assignment, a rollout or a board uses it. Its blobs go with the next collection."""
    async with writing(state.engine).begin() as connection:
        return await housekeeping.delete_version(connection, name, version)


@get("/models/{name:str}/diff", summary="In what two versions differ")
async def diff(
    state: State,
    name: ModelName,
    before: Annotated[str, Parameter(max_length=32)],
    after: Annotated[str, Parameter(max_length=32)],
) -> list[Difference]:
    """Manifests by target, the trees two forests share, and the cards; keys as dotted paths."""
    async with state.engine.connect() as connection:
        return await compare.diff(connection, state.blobs, name, before, after)


@get("/models/{name:str}/history", summary="How the aliases of a model moved")
async def history(state: State, name: ModelName) -> list[AliasChange]:
    """The last change first."""
    async with state.engine.connect() as connection:
        return await queries.alias_changes(connection, name)


@put("/models/{name:str}/aliases/{alias:str}", summary="Point an alias to a version", **_ADMIN)
async def promote(
    state: State, name: ModelName, alias: Annotated[str, Parameter(max_length=32)], data: Promote
) -> Deployed:
    """`champion` or `challenger`. Boards that follow the champion are told in the same transaction."""
    registry: Registry = state.registry
    return await registry.promote(name, data.version, alias, data.note)


@post("/desired", status_code=HTTP_200_OK, summary="Tell boards to run a version", **_ADMIN)
async def deploy(state: State, data: Deploy) -> Deployed:
    """`to` as in POST /models; ids and kinds are pinned to the version, `all` makes it the champion."""
    registry: Registry = state.registry
    return await registry.deploy(data.name, data.version, Audience.parse(data.to), data.note)


@delete("/desired/{device:str}", status_code=HTTP_200_OK, summary="Unpin a board", **_ADMIN)
async def follow(state: State, device: DeviceId) -> list[Board]:
    """It follows the champion of its model again."""
    registry: Registry = state.registry
    return await registry.follow(device)


@get("/trace/{device:str}/{epoch:int}/{seq:int}", summary="From an event to model, data and code")
async def trace(state: State, device: DeviceId, epoch: U32, seq: U32) -> Trace:
    """Which artifact raised it, since when the board ran it and why, and what it was trained on."""
    async with state.engine.connect() as connection:
        return await queries.trace(connection, device, epoch, seq)


@post("/collect", status_code=HTTP_200_OK, summary="Remove blobs nothing refers to", **_ADMIN)
async def collect(state: State) -> Collected:
    """Young blobs stay: a publish may be about to name them."""
    return await housekeeping.collect(state.engine, state.blobs)


@get("/keys", summary="Publisher keys")
async def list_keys(state: State) -> list[PublisherKey]:
    """Every key ever trusted, also those revoked since."""
    async with state.engine.connect() as connection:
        return await keys.list_keys(connection)


@post("/keys", status_code=HTTP_200_OK, summary="Trust a publisher's key", **_ADMIN)
async def trust(state: State, data: Trust) -> PublisherKey:
    """From now on artifacts signed with it are accepted."""
    async with writing(state.engine).begin() as connection:
        return await keys.trust(connection, data.public_key, data.label, now_ms())


@post("/keys/statements", status_code=HTTP_200_OK, summary="Take a publisher's statement", **_ADMIN)
async def announce(state: State, data: Said) -> Announced:
    """A handover, a revocation, or leave to go back. The boards concerned are told in the same transaction."""
    registry: Registry = state.registry
    return await registry.announce(bytes.fromhex(data.statement))


@delete("/keys/{key_id:str}", status_code=HTTP_200_OK, summary="Revoke a publisher's key", **_ADMIN)
async def revoke(state: State, key_id: Annotated[str, Parameter(pattern=r"^[0-9a-f]{16}$")]) -> PublisherKey:
    """For ever. Artifacts that were published stay; nothing new signed with it is accepted."""
    async with writing(state.engine).begin() as connection:
        return await keys.revoke(connection, key_id, now_ms())


@asgi("/artifacts/", is_mount=True, copy_scope=False)
async def download(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the ASGI signature
    """GET and HEAD of an artifact or a model card by its SHA-256."""
    app = scope["litestar_app"]
    method: str = cast("dict[str, Any]", scope)["method"]  # a mount also takes websockets, and those have none
    if method not in ("GET", "HEAD"):
        raise MethodNotAllowedException("artifacts are read with GET or HEAD", headers={"Allow": "GET, HEAD"})
    served = await app.state.artifact_server.answer(method, scope["path"], scope["headers"], send)
    if not served:
        raise NotFound("no artifact of that name", "artifacts are named by their SHA-256, 64 hex digits")


async def _read(upload: UploadFile, limit: int) -> bytes:
    data = await upload.read(limit + 1)
    if len(data) > limit:
        raise BadRequest(f"{upload.filename} has more than {limit} bytes", "send the files of one export")
    return data


router = Router(
    path="/",
    tags=["Models"],
    route_handlers=[
        publish,
        publish_raw,
        list_models,
        list_versions,
        show_version,
        note,
        delete_version,
        diff,
        history,
        promote,
        deploy,
        follow,
        trace,
        collect,
        list_keys,
        trust,
        announce,
        revoke,
        download,
    ],
)

"""The web process: API under /api/v1, the operator's pages, health and metrics. `python -m cloud.app` runs it."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from cloud import health, metrics, problems
from cloud.devices.provisioning import Provisioner
from cloud.devices.provisioning_routes import router as provisioning_router
from cloud.devices.routes import router as devices_router
from cloud.frames.routes import router as frames_router
from cloud.logs import set_up_logging
from cloud.models.blobs import Blobs
from cloud.models.download import ArtifactServer, Shortcut
from cloud.models.follower import keep_following
from cloud.models.routes import router as models_router
from cloud.models.service import Registry
from cloud.rollouts.controller import keep_moving
from cloud.rollouts.routes import router as rollouts_router
from cloud.rollouts.service import Rollouts
from cloud.settings import Settings, admin_token, load_settings
from cloud.store.engine import make_engine
from cloud.web.assets import shipped
from cloud.web.pages import Pages
from cloud.web.routes import router as web_router
from cloud.web.schema import ReferencePage, complete
from cloud.web.sse import Live

# Requests without a limit of their own; only a publish carries more.
_MAX_BODY_BYTES = 65_536
_STOP_SECONDS = 3

_DESCRIPTION = (
    "Boards, readings, events, models and what boards are told to run. Reading needs nothing, changing needs the "
    "admin token as a bearer. Every error is an RFC 9457 problem with a `next_step`."
)


def create_app(settings: Settings) -> Litestar:
    """The application; it opens the database and the blob store when it starts and closes them when it ends."""
    live = Live()
    app = Litestar(
        route_handlers=[
            Router(
                path="/api/v1",
                route_handlers=[devices_router, provisioning_router, frames_router, models_router, rollouts_router],
            ),
            health.live,
            health.ready,
            metrics.metrics,
            problems.problem_type,
            web_router,
            shipped,
        ],
        lifespan=[_parts(settings, live)],
        state=State({"settings": settings, "live": live}, deep_copy=False),
        exception_handlers=problems.handlers(),
        middleware=[metrics.HTTP_METRICS.middleware],
        openapi_config=_openapi(),
        request_max_body_size=_MAX_BODY_BYTES,
        logging_config=None,
    )
    complete(app.openapi_schema)
    return app


def _parts(settings: Settings, live: Live):  # noqa: ANN202
    @asynccontextmanager
    async def parts(app: Litestar) -> AsyncGenerator[None, None]:
        engine = make_engine(settings)
        blobs = Blobs(settings.blobs_url)
        app.state.admin_token = admin_token(settings)
        app.state.engine = engine
        app.state.blobs = blobs
        app.state.artifact_server = ArtifactServer(blobs)
        app.state.registry = Registry(engine, blobs)
        app.state.provisioner = Provisioner(settings, engine)
        app.state.rollouts = Rollouts(engine)
        app.state.pages = Pages(engine)
        tasks = [
            asyncio.create_task(keep_following(engine, app.state.registry), name="follower"),
            asyncio.create_task(keep_moving(app.state.rollouts), name="rollouts"),
        ]
        try:
            yield
        finally:
            live.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await engine.dispose()

    return parts


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Edgewise",
        version="1",
        description=_DESCRIPTION,
        path="/schema",
        render_plugins=[ReferencePage(), JsonRenderPlugin()],
        components=Components(security_schemes={"adminToken": SecurityScheme(type="http", scheme="bearer")}),
        use_handler_docstrings=True,
    )


class _Server(uvicorn.Server):
    """Ends the event streams at the first signal: uvicorn waits for open responses, and those end last."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._live.close()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serves until SIGINT or SIGTERM."""
    settings = load_settings()
    set_up_logging(settings, "web")
    app = create_app(settings)
    config = uvicorn.Config(
        Shortcut(app),
        host=settings.host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    logging.getLogger("web").info("serving %s", settings.http_address)
    _Server(config, app.state.live).run()


if __name__ == "__main__":
    main()

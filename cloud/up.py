"""What `edgewise up` does: prepare the data folder, start the tree, announce it, wait, end it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cloud import broker
from cloud.devices.provisioning import credentials
from cloud.logs import set_up_logging
from cloud.processes import owned, running, signalled, with_free_ports
from cloud.settings import Settings, admin_token
from cloud.store.engine import make_engine
from cloud.store.migrate import migrate


async def run_up(
    settings: Settings, http_port: int | None, mqtt_port: int | None, announce: Callable[[Settings], None]
) -> None:
    """Runs until SIGINT or SIGTERM; `announce` gets the settings with the real ports. Raises our errors."""
    stopped = signalled()
    wanted = {"http_port": http_port, "mqtt_port": mqtt_port}
    settings = msgspec.structs.replace(settings, **{name: port for name, port in wanted.items() if port is not None})
    with owned(settings):
        settings = with_free_ports(settings)
        set_up_logging(settings, "up")
        await prepare(settings)
        async with running(settings):
            announce(settings)
            await stopped.wait()


async def prepare(settings: Settings) -> None:
    """Makes what the processes expect: the schema, the secrets, the broker's configuration."""
    admin_token(settings)
    engine = make_engine(settings)
    try:
        await migrate(engine)
        broker.write_config(settings, await credentials(engine))
    finally:
        await engine.dispose()

"""What `edgewise up` does: prepare the data folder, start the tree, announce it, wait, end it."""

from __future__ import annotations

from collections.abc import Callable

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud import broker
from cloud.devices.provisioning import credentials
from cloud.errors import BadSettings
from cloud.logs import set_up_logging
from cloud.models.blobs import Blobs
from cloud.processes import owned, running, signalled, with_free_ports
from cloud.settings import Settings, admin_token
from cloud.store.engine import make_engine
from cloud.store.migrate import migrate


async def run_up(settings: Settings, announce: Callable[[Settings], None]) -> None:
    """Runs until SIGINT or SIGTERM; `announce` gets the settings with the real ports. Raises our errors."""
    stopped = signalled()
    with owned(settings):
        settings = with_free_ports(settings)
        set_up_logging(settings, "up")
        await prepare(settings)
        async with running(settings):
            announce(settings)
            await stopped.wait()


async def prepare(settings: Settings) -> None:
    """Makes what the processes expect: the schema, the secrets, the broker's configuration. Raises BadSettings."""
    admin_token(settings)
    Blobs(settings.blobs_url)  # a URL that cannot be used ends here, not in a process that is started for ever
    engine = make_engine(settings)
    try:
        try:
            await migrate(engine)
            found = await credentials(engine)
        except Exception as error:
            if (unusable := _unusable(engine, error)) is None:
                raise
            raise unusable from None
        broker.write_config(settings, found)
    finally:
        await engine.dispose()


def _unusable(engine: AsyncEngine, error: Exception) -> BadSettings | None:
    """What to tell of a database that cannot be used; None for an error that is not the database's."""
    url = engine.url.render_as_string(hide_password=True)
    if isinstance(error, CommandError):  # Alembic does not know the revision that the database says it has
        cause = f"{url} was written by a newer release of Edgewise: {error}"
        return BadSettings(cause, "install that release, or put a backup of this one's back")
    # asyncpg refuses a login with exceptions of its own, which SQLAlchemy does not wrap; they have an SQLSTATE.
    if not isinstance(error, (SQLAlchemyError, OSError)) and not hasattr(error, "sqlstate"):
        return None
    reason = error.orig if isinstance(error, DBAPIError) else error
    next_step = "see that it runs and takes this login"
    if engine.dialect.name == "sqlite":
        next_step = "see that you may write its file and that its disk has room, or put a backup back"
    return BadSettings(f"{url} cannot be used: {str(reason).splitlines()[0]}", next_step)

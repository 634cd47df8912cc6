"""Brings a database to the newest schema: Alembic, without its ini file. `edgewise up` does it at every start."""

from __future__ import annotations

import importlib
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.store.engine import writing
from cloud.store.tables import metadata

MIGRATIONS = Path(__file__).with_name("migrations")


def all_tables() -> sa.MetaData:
    """The metadata with the tables of every part of the cloud in it."""
    importlib.import_module("cloud.models.tables")  # the registry's own
    return metadata


async def migrate(engine: AsyncEngine) -> None:
    """Runs the migrations that are missing, all of them in one transaction or none."""
    async with writing(engine).begin() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

"""Brings a database to the newest schema: Alembic, without its ini file. `edgewise up` does it at every start.

`python -m cloud.store.migrate "what changed"` writes the next migration from the difference between the tables and the
migrations there are. Read it before it is committed: Alembic sees neither renames nor what has to happen to the data.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.store.engine import writing
from cloud.store.tables import metadata

MIGRATIONS = Path(__file__).with_name("migrations")
_CLOUD = Path(__file__).parents[1]


def all_tables() -> sa.MetaData:
    """The metadata with the tables of every part of the cloud in it: each tables.py below cloud/."""
    for path in sorted(_CLOUD.glob("*/tables.py")):
        importlib.import_module(f"cloud.{path.parent.name}.tables")
    return metadata


async def migrate(engine: AsyncEngine) -> None:
    """Runs the migrations that are missing, all of them in one transaction or none."""
    async with writing(engine).begin() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: sa.Connection) -> None:
    command.upgrade(_config(connection), "head")


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def write_migration(summary: str) -> None:
    """Adds a file to migrations/versions/, numbered after the last one."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        config = _config(connection)
        number = len(list(ScriptDirectory.from_config(config).walk_revisions())) + 1
        _upgrade(connection)
        made = command.revision(config, summary, autogenerate=True, rev_id=f"{number:04d}")
    engine.dispose()
    for script in made if isinstance(made, list) else [made]:
        if script is not None:
            path = Path(script.path)
            path.write_text("".join(line for line in path.open() if not line.lstrip().startswith("# ###")))
            print(f"{path}: read it, then `ruff format` it")


if __name__ == "__main__":
    write_migration(sys.argv[1])

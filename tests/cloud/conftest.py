"""A store with one board in it, on each database."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud.settings import load_settings
from cloud.store.engine import writing
from cloud.store.migrate import all_tables
from tests.support.fleet import settings_in
from tests.support.postgres import Postgres
from tests.support.store import BOARD, Store


@pytest.fixture(scope="session")
def _database(postgres_or_none: Postgres | None, tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """A PostgreSQL database with the newest schema that the tests of this folder share, one after the other."""
    if postgres_or_none is None:
        return None
    url = postgres_or_none.database()
    settings_in(tmp_path_factory.mktemp("schema"), EDGEWISE_DATABASE_URL=url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, _database: str | None) -> Store:
    if request.param == "sqlite":
        made = Store(settings_in(tmp_path / "data"))
    else:
        request.getfixturevalue("postgres")  # skips where there is no server
        made = Store(load_settings({"EDGEWISE_DATABASE_URL": str(_database)}, data_dir=tmp_path / "data"))
        made.run(_empty)
    made.add(BOARD)
    return made


async def _empty(engine: Any) -> None:
    names = ", ".join(table.name for table in all_tables().sorted_tables)
    async with writing(engine).begin() as connection:
        await connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY"))

"""The migrations make exactly the tables the code uses, from nothing and from every earlier step."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cloud.settings import load_settings
from cloud.store.engine import make_engine, writing
from cloud.store.migrate import MIGRATIONS, _config, all_tables, migrate
from tests.support.store import BOARD, Store


def in_store(folder: Path, work: Any, environ: dict[str, str] | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    return Store(load_settings(environ or {}, data_dir=folder)).run(work)


def test_migrations_and_tables_agree(store: Store):
    """When this fails: `python -m cloud.store.migrate "what changed"` writes the migration that is missing."""

    async def difference(engine: Any) -> list[Any]:
        await migrate(engine)
        async with engine.connect() as connection:
            return await connection.run_sync(
                lambda inner: compare_metadata(
                    MigrationContext.configure(inner, opts={"compare_type": True}), all_tables()
                )
            )

    assert store.run(difference) == []


def test_migrating_again_changes_nothing_and_keeps_what_is_there(store: Store):
    store.run(migrate)
    assert len(store.rows(all_tables().tables["devices"])) == 1
    assert store.rows(all_tables().tables["devices"])[0]["device"] == BOARD


def test_record_tables_have_no_rowid(tmp_path: Path):
    """With one, SQLite keeps the key twice: in the table and in an index of its own."""

    async def definition(engine: Any) -> str:
        await migrate(engine)
        async with engine.connect() as connection:
            found = await connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'frames'")
            return str(found.scalar_one())

    assert "WITHOUT ROWID" in in_store(tmp_path, definition)


def test_the_engine_is_one_that_survives_power_cuts(tmp_path: Path):
    async def pragmas(_engine: Any) -> list[Any]:
        engine = make_engine(load_settings({}, data_dir=tmp_path))
        async with engine.connect() as connection:
            names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            found = [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in names]
        await engine.dispose()
        return found

    assert in_store(tmp_path, pragmas) == ["wal", 2, 5000, 1]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_rows_of_every_earlier_schema_come_through_all_migrations_after_it(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    environ: dict[str, str] = {}
    if database == "postgresql":
        environ["EDGEWISE_DATABASE_URL"] = request.getfixturevalue("postgres").database()

    async def climb(engine: Any) -> tuple[dict[str, int], dict[str, int]]:
        written: dict[str, int] = {}
        for revision in sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("0*.py")):
            async with writing(engine).begin() as connection:
                await connection.run_sync(_to, revision)
                await connection.run_sync(_fill, written, f"r{revision}")
        async with engine.connect() as connection:
            return written, await connection.run_sync(_count)

    written, found = in_store(tmp_path, climb, environ)
    assert len(written) > 20
    assert found == written


def _to(connection: sa.Connection, revision: str) -> None:
    command.upgrade(_config(connection), revision)


def _fill(connection: sa.Connection, written: dict[str, int], word: str) -> None:
    """A row in each table there is at this step; every column has a value, and each key leads somewhere."""
    schema = sa.MetaData()
    schema.reflect(connection)
    for table in schema.sorted_tables:
        if table.name == "alembic_version":
            continue
        row: dict[str, Any] = {}
        for column in table.columns:
            match column.type:
                case sa.JSON():
                    row[column.name] = []
                case sa.LargeBinary():
                    row[column.name] = b"\1"
                case sa.Boolean():
                    row[column.name] = False
                case sa.String():
                    row[column.name] = word
                case _:
                    row[column.name] = int(word[1:])
        connection.execute(sa.insert(table).values(row))
        written[table.name] = written.get(table.name, 0) + 1


def _count(connection: sa.Connection) -> dict[str, int]:
    return {
        name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for name, table in all_tables().tables.items()
    }

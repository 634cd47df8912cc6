"""The migrations make exactly the tables the code uses, from nothing and from every earlier step."""

from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cloud.settings import load_settings
from cloud.store.engine import make_engine
from cloud.store.migrate import all_tables, migrate
from tests.support.store import BOARD, Store


def in_store(folder: Path, work: Any) -> Any:
    folder.mkdir(exist_ok=True)
    return Store(load_settings({}, data_dir=folder)).run(work)


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

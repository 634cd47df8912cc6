"""Engines. One asynchronous engine per process; SQLite by default, PostgreSQL by URL.

SQLite runs in WAL mode with `synchronous=FULL`: a device forgets a record once it is acknowledged, so the commit before
the acknowledgement has to survive a power cut. `NORMAL` would not sync the log at commit. DESIGN.md has the costs.

Transactions that write take turns on both databases (`writing`), so what one has read holds until it has written:
SQLite has a single write lock, on PostgreSQL an advisory lock of the transaction does the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from cloud.errors import BadSettings
from cloud.settings import Settings

BUSY_TIMEOUT_MS = 5_000
_CONNECT_TIMEOUT_S = 10
_COMMAND_TIMEOUT_S = 60
_WRITE_LOCK = 0x65646765  # "edge": the key of PostgreSQL's advisory lock
_ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


def make_engine(settings: Settings) -> AsyncEngine:
    """The process's engine; it connects at first use. Raises BadSettings for a database that is not supported."""
    try:
        url = make_url(settings.database_url)
    except ArgumentError:
        raise BadSettings("EDGEWISE_DATABASE_URL is no URL", "use a sqlite:/// or postgresql:// URL") from None
    backend = url.get_backend_name()
    driver = _ASYNC_DRIVERS.get(backend)
    if driver is None:
        raise BadSettings(f"database {backend!r} is not supported", "use a sqlite:/// or postgresql:// URL")
    if backend == "sqlite":
        engine = create_async_engine(url.set(drivername=driver))
        event.listen(engine.sync_engine, "connect", set_pragmas)
        event.listen(engine.sync_engine, "begin", _begin)
        return engine
    if importlib.util.find_spec("asyncpg") is None:
        raise BadSettings("the PostgreSQL driver is not installed", "run `make setup`")
    limits = {"timeout": _CONNECT_TIMEOUT_S, "command_timeout": _COMMAND_TIMEOUT_S}
    session = {"application_name": "edgewise", "lock_timeout": str(BUSY_TIMEOUT_MS)}
    engine = create_async_engine(
        url.set(drivername=driver), pool_pre_ping=True, connect_args={**limits, "server_settings": session}
    )
    event.listen(engine.sync_engine, "begin", _take_turns)
    return engine


# SQLSTATE classes of conditions that pass: connection, transaction rollback (deadlock), resources, operator
# intervention (shutdown, cancelled), system error; and a lock that was not granted in time. PostgreSQL appendix A.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")
_LOCK_NOT_AVAILABLE = "55P03"
_DATA_EXCEPTION = "22"  # the class of values that a column cannot hold


def passes(error: BaseException) -> bool:
    """True when the store is locked, full, restarting or out of reach: the same statement may succeed later.

    False for what is wrong with the statement or its values. SQLAlchemy has one class for all that asyncpg reports, so
    there the SQLSTATE decides; without one, it is the connection that broke.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, OSError)
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        cause = error.orig.__cause__ if error.orig else None
        return isinstance(cause, OSError) or type(cause).__name__ in ("InterfaceError", "ConnectionDoesNotExistError")
    return state.startswith(_PASSING_CLASSES) or state == _LOCK_NOT_AVAILABLE


def refuses_values(error: DBAPIError) -> bool:
    """True when PostgreSQL cannot hold what was to be stored or looked for: a number too large, text with a NUL."""
    return (getattr(error.orig, "sqlstate", None) or "").startswith(_DATA_EXCEPTION)


def cause_of(error: BaseException) -> str:
    """What a log says of an error of the store: its first words, or its name where it has none (a deadline)."""
    return str(error.args[0]) if error.args else type(error).__name__


def insert(table: sa.Table, dialect: sa.Dialect) -> Any:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases spell alike.

    Both dialects have a class of their own without a common base, hence Any.
    """
    return postgresql_insert(table) if dialect.name == "postgresql" else sqlite_insert(table)


async def insert_new(connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows, each with every column, leaving out those whose primary key is there already.

    The statement goes to the driver as it is: for half a million rows a minute, what SQLAlchemy does with each
    parameter costs more than the insert itself (measured: 15 us a row, 5.5 this way).
    """
    sql, columns, converters = _prepared(table, connection.dialect)
    parameters = map(columns, rows)
    if converters:
        parameters = [
            tuple(converters[at](value) if at in converters else value for at, value in enumerate(row))
            for row in parameters
        ]
    await connection.exec_driver_sql(sql, list(parameters))


@lru_cache(maxsize=32)
def _prepared(
    table: sa.Table, dialect: sa.Dialect
) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]], dict[int, Callable[[Any], Any]]]:
    """(SQL, what takes a row's values in the order of the SQL, what has to be done to which of them)."""
    names = [column.name for column in table.columns]
    compiled = insert(table, dialect).on_conflict_do_nothing().compile(dialect=dialect, column_keys=names)
    converters: dict[int, Callable[[Any], Any]] = {}
    for at, column in enumerate(table.columns):
        if isinstance(column.type, sa.JSON):
            converter = column.type.dialect_impl(dialect).bind_processor(dialect)
            if converter is not None:
                converters[at] = converter
    return str(compiled), itemgetter(*names), converters


def set_pragmas(connection: DBAPIConnection, _record: ConnectionPoolEntry | None = None) -> None:
    """Prepare a new SQLite connection, synchronous or not."""
    # The driver would open transactions by itself, late and DEFERRED; _begin opens them.
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # A transaction that writes says so (`writing()`): IMMEDIATE takes the write lock at once, where the busy timeout
    # works; a DEFERRED one that upgrades later fails with "database is locked" without waiting.
    mode = "IMMEDIATE" if connection.get_execution_options().get("edgewise_writes") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")


def _take_turns(connection: sa.Connection) -> None:
    # READ COMMITTED lets two transactions read the same books and both write them. Released by commit, rollback, or
    # the end of the connection.
    if connection.get_execution_options().get("edgewise_writes"):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")


def writing(engine: AsyncEngine) -> AsyncEngine:
    """The same engine and pool for transactions that write: `async with writing(engine).begin() as connection`."""
    return engine.execution_options(edgewise_writes=True)

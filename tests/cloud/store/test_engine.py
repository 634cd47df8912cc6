"""Transactions that write wait for each other; rows go in once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cloud.errors import BadSettings
from cloud.settings import load_settings
from cloud.store import tables as t
from cloud.store.engine import insert_new, make_engine, passes, writing
from tests.support.fleet import settings_in
from tests.support.postgres import Postgres
from tests.support.store import BOARD, NOW_MS, Store


def test_writers_wait_for_each_other_instead_of_failing(store: Store):
    async def raise_by_one(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            query = sa.select(t.devices.c.set_aside).where(t.devices.c.device == BOARD)
            value = (await connection.execute(query)).scalar_one()
            await asyncio.sleep(0.01)
            await connection.execute(sa.update(t.devices).values(set_aside=value + 1))

    async def many(engine: Any) -> None:
        await asyncio.gather(*(raise_by_one(engine) for _ in range(20)))

    store.run(many)
    assert store.rows(t.devices)[0]["set_aside"] == 20


def test_a_reader_does_not_wait_for_a_writer(store: Store):
    async def read_while_writing(engine: Any) -> int:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.update(t.devices).values(set_aside=9))
            async with engine.connect() as other:
                return (await other.execute(sa.select(t.devices.c.set_aside))).scalar_one()

    assert store.run(read_while_writing) == 0


def test_insert_new_leaves_out_what_is_there_and_converts_json(store: Store):
    row = {
        "device": BOARD,
        "epoch": 1,
        "seq": 0,
        "t_ms": 5,
        "period_ms": 1,
        "wakes": 2,
        "battery_mv": 3,
        "rssi": -4,
        "free_heap": 5,
        "free_flash": 6,
        "awake_ms": 7,
        "energy_uj": [1, 2, 3, 4],
        "radio": [1, 2, 3, 4, 5],
        "drops": (0, 0, 0, 0, 1),
        "errors": ((1, 2),),
        "scores": (),
        "resets": 0,
        "next_contact_ms": 9,
        "sending_uj": 10,
        "energy_mj": 11,
        "line_holds": 12,
        "routes": None,
        "shadow_sha8": None,
        "shadow_compared": 0,
        "shadow_disagreed": 0,
        "profile": None,
        "received_ms": NOW_MS,
    }

    async def work(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await insert_new(connection, t.health, [row, row | {"wakes": 99}, row | {"seq": 1}])

    store.run(work)
    kept = store.rows(t.health)
    assert [(found["seq"], found["wakes"]) for found in kept] == [(0, 2), (1, 2)]
    assert (kept[0]["drops"], kept[0]["errors"], kept[0]["scores"]) == ([0, 0, 0, 0, 1], [[1, 2]], [])


def test_a_value_that_no_column_holds_does_not_pass(store: Store):
    async def work(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.update(t.devices).values(set_aside=2**70))

    with pytest.raises((OverflowError, DBAPIError)) as refused:
        store.run(work)
    assert not passes(refused.value)


def test_a_server_that_ends_our_connection_passes(postgres: Postgres, tmp_path: Path):
    settings = load_settings({"EDGEWISE_DATABASE_URL": postgres.database()}, data_dir=tmp_path)

    async def work(engine: Any) -> None:
        async with engine.connect() as connection, engine.connect() as other:
            pid = (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
            await other.execute(sa.text(f"SELECT pg_terminate_backend({pid})"))
            await connection.execute(sa.text("SELECT 1"))

    with pytest.raises(DBAPIError) as ended:
        Store(settings).run(work)
    assert passes(ended.value)


def test_a_server_that_is_not_there_passes(free_port: Callable[[], int], tmp_path: Path):
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with pytest.raises(OSError, match="Connect call failed") as refused:
        settings_in(tmp_path, EDGEWISE_DATABASE_URL=url)
    assert passes(refused.value)


def test_other_databases_are_refused(tmp_path: Path):
    settings = load_settings({"EDGEWISE_DATABASE_URL": "mysql://host/db"}, data_dir=tmp_path)
    with pytest.raises(BadSettings, match="mysql"):
        make_engine(settings)

"""The same server on PostgreSQL: nothing is lost when ingest, the database, or both die, and every part of it works."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.parts import Parts
from tests.support.postgres import Postgres
from tests.system.test_kills import DEVICES, READY_S, assert_stored_once, load_and_kill

_DOWN_S = (0.0, 0.5)


@pytest.fixture
def parts(tmp_path: Path, free_port: Callable[[], int], postgres: Postgres) -> Iterator[Parts]:
    made = Parts(tmp_path / "data", free_port(), DEVICES, EDGEWISE_DATABASE_URL=postgres.database())
    made.start_broker()
    made.start_ingest()
    yield made
    made.stop()


def test_ingest_killed_at_random_moments_stores_every_record_once(parts: Parts):
    def kill(_rng: random.Random) -> None:
        parts.kill_ingest()
        parts.start_ingest()

    talkers, ready = asyncio.run(load_and_kill(parts, 10, (0.0, 0.15), kill))
    records = assert_stored_once(parts, talkers)
    print(f"\n10 SIGKILLs of ingest on PostgreSQL: {records} records, 0 lost, 0 twice; ready in {max(ready):.2f} s")
    assert max(ready) < READY_S


def test_a_database_that_crashes_under_load_loses_nothing_and_nothing_is_set_aside(parts: Parts, postgres: Postgres):
    """A server that goes away says so in a dozen ways, none of which is the fault of a message."""

    def crash(rng: random.Random) -> None:
        postgres.crash()
        time.sleep(rng.uniform(*_DOWN_S))
        postgres.start()

    talkers, ready = asyncio.run(load_and_kill(parts, 4, (0.1, 0.6), crash))
    records = assert_stored_once(parts, talkers)
    print(f"\n4 crashes of PostgreSQL: {records} records, 0 lost, 0 twice; ingest ready in {max(ready):.2f} s at most")

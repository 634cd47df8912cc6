"""Asleep as announced, or lost."""

from itertools import product
from typing import get_args

import pytest
import sqlalchemy as sa

from cloud.devices.presence import Presence, presence, presence_is

NOW = 1_000_000_000
MINUTE = 60_000


@pytest.mark.parametrize(
    ("online", "last_seen_ms", "announced_ms", "expected"),
    [
        (False, None, None, "new"),
        (True, None, None, "new"),
        (True, NOW, None, "online"),
        (True, NOW - 60 * MINUTE, 10 * MINUTE, "online"),  # the broker still has its session
        (False, NOW - MINUTE, 10 * MINUTE, "sleeping"),
        (False, NOW - 14 * MINUTE, 10 * MINUTE, "sleeping"),  # late, but within half an interval
        (False, NOW - 16 * MINUTE, 10 * MINUTE, "lost"),
        (False, NOW - 65_000, 10_000, "sleeping"),  # a minute of slack at least
        (False, NOW - 75_000, 10_000, "lost"),
        (False, NOW - 20 * MINUTE, None, "sleeping"),  # it never said when it comes back
        (False, NOW - 30 * MINUTE, 0, "lost"),
    ],
)
def test_presence(online: bool, last_seen_ms: int | None, announced_ms: int | None, expected: str) -> None:
    assert presence(NOW, online, last_seen_ms, announced_ms) == expected


def test_the_condition_in_sql_says_the_same() -> None:
    boards = sa.table(
        "boards", sa.column("online", sa.Boolean), sa.column("seen", sa.BigInteger), sa.column("announced")
    )
    every = list(
        product(
            (False, True),
            (None, *(NOW - ago for ago in (0, 959_999, 960_000, 1_350_000, 1_350_001, 5_400_000, 5_400_001))),
            (None, 0, 1, 60_000, 120_000, 900_000, 3_600_000),
        )
    )
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE boards (online BOOLEAN, seen BIGINT, announced BIGINT)")
        connection.execute(sa.insert(boards), [{"online": a, "seen": b, "announced": c} for a, b, c in every])
        found = {
            (state, *row)
            for state in get_args(Presence)
            for row in connection.execute(
                sa.select(boards).where(presence_is(state, NOW, boards.c.online, boards.c.seen, boards.c.announced))
            )
        }
    assert found == {(presence(NOW, *row), *row) for row in every}

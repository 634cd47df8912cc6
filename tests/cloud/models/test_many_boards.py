"""What concerns every board takes its turn of writing once, with few statements: all other writers wait meanwhile."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.event import listen, remove
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.models.follower import follow_once
from cloud.models.service import Audience, Registry
from tests.support.rollout_fleet import NEW, RolloutFleet

BOARDS = 40
FEW = 20


@contextmanager
def statements(engine: AsyncEngine) -> Generator[list[str]]:
    """What is executed within."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found.append(statement)

    listen(engine.sync_engine, "before_cursor_execute", note)
    yield found
    remove(engine.sync_engine, "before_cursor_execute", note)


def test_telling_many_boards_takes_few_statements(tmp_path: Path) -> None:
    made = RolloutFleet(tmp_path, BOARDS, reports=0)

    async def work(engine: Any) -> tuple[list[int], list[int]]:
        registry = Registry(engine, made.blobs)
        told, cost = [], []
        with statements(engine) as found:
            told.append(len((await registry.promote("flow", NEW, "champion")).boards))
            cost.append(len(found))
            found.clear()
            told.append(len((await registry.deploy("flow", "1.0.0", Audience.parse("kind:pump"))).boards))
            cost.append(len(found))
            found.clear()
            told.append(len(await follow_once(engine, registry, {})))
            cost.append(len(found))
        return told, cost

    told, cost = made.run(work)
    assert told == [BOARDS] * 3
    assert max(cost) <= FEW, cost
    assert set(made.wanted().values()) == {"1.0.0"}

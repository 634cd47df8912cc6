"""Boards of real firmware that measure a flow, living beside a real cloud that has two versions of their model."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cloud.client import Client
from model_export import keys
from model_export.keys import PublisherKey
from tools.demo import stage
from tools.provision import BoardPlan, Broker, make_board
from tools.simulate import SimulatedBoard, supervised

SCHEMA = "v1;w=4;c=flow:l/s:100;f=mean,max,min"
WINDOW = 4
OLD, NEW = "1.0.0", "2.0.0"
PARALLEL = 3


class World(NamedTuple):
    """What is around one board: the rows it measures again and again, and what make_board takes as its world."""

    rows: list[list[int]]
    given: dict[str, Any]


class Lives(NamedTuple):
    """How many boards there are, how they are set up, and how much faster than the clock their time goes."""

    boards: int
    interval_ms: int
    settings: dict[str, Any]
    speed: float


@asynccontextmanager
async def living(
    folder: Path,
    lives: Lives,
    artifact_of: Callable[[PublisherKey, str, int], bytes],
    world_of: Callable[[int], World],
    program: Path | None,
) -> AsyncGenerator[tuple[Client, list[SimulatedBoard]]]:
    """The cloud, which has given OLD to all boards and NEW to none, and the boards; all end with the block.

    artifact_of: of a key, a version and a sequence; world_of: of a board's number; program: as for `supervised`.
    """
    key = keys.create(folder / "keys", "test")
    async with stage.server(folder / "data") as up:
        with up.client() as client:
            client.post("/keys", {"public_key": key.public.hex(), "label": "test"})
            for version, sequence, to in ((OLD, 1, "all"), (NEW, 2, "none")):
                files = [("artifact", (f"{version}.ewa", artifact_of(key, version, sequence)))]
                client.request("POST", "/models", files=files, data={"to": to, "note": ""})
            folders = await _make(folder / "boards", up, key, lives, world_of)
            async with supervised(folders, lives.speed, PARALLEL, program=program) as boards:
                running = [asyncio.create_task(board.run()) for board in boards]
                try:
                    yield client, boards
                finally:
                    for life in running:
                        life.cancel()
                    await asyncio.gather(*running, return_exceptions=True)


async def _make(
    folder: Path, up: stage.Server, key: PublisherKey, lives: Lives, world_of: Callable[[int], World]
) -> list[Path]:
    names = [f"flow-{number:03}" for number in range(lives.boards)]
    added = await stage.edgewise("device", "add", *names, "--kind", "flow", "--data", str(up.data))
    folders: list[Path] = []
    for number, given in enumerate(added):
        login = given["broker"]
        plan = BoardPlan(
            device=given["device"],
            kind="flow",
            schema=SCHEMA,
            interval_ms=lives.interval_ms,
            broker=Broker(login["port"], login["host"], login["user"], login["password"]),
            trusted_keys={key.key_id.hex(): key.public.hex()},
            settings=lives.settings,
        )
        world = world_of(number)
        folders.append(make_board(folder / given["device"], plan, world.rows, lives.interval_ms // WINDOW, world.given))
    return folders


async def until(seen: Callable[[], bool], deadline_s: float, what: str) -> None:
    """Waits for `seen`, asked twice a second; fails after deadline_s."""
    began = time.monotonic()
    while not await asyncio.to_thread(seen):
        assert time.monotonic() - began < deadline_s, f"waited {deadline_s:.0f} s in vain for {what}"
        await asyncio.sleep(0.5)


def on(client: Client, version: str) -> int:
    """Boards that say they run a version."""
    found = client.get("/devices", limit=500)
    return sum(1 for board in found if board["model"] and board["model"]["version"] == version)

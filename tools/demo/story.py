"""What happens in the demo, in order; each step waits for its own sign, never for a time that should be enough."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cloud.client import Client
from contract import wire
from model_export import keys
from tools.demo import audit, stage
from tools.demo.report import Outcome
from tools.simulate import SimulatedBoard, supervised

SPEED = 400.0
WAKES = 90  # of every board, at the least
_STEP_DEADLINE_S = 60.0
_LAST_WAKES = 40  # a board has drained after its next session; more are for a machine under load
_LOOK_S = 0.2
_COMMITTED = wire.UPDATE_NAMES[wire.UPDATE_COMMIT]

Watch = asyncio.Future[list[None]]

Say = Callable[[str], None]
AtEnd = Callable[[stage.Server, list[Outcome]], Awaitable[None]]


async def run(folder: Path, say: Say, at_end: AtEnd) -> list[Outcome]:
    """The whole demo in an empty folder; at_end is awaited while the server still runs.

    Raises DemoFailed, BoardFailed, AuditFailed.
    """
    say("training and exporting two models for each of two kinds of machine")
    publisher = keys.create(folder / "keys", "demo")
    async with stage.server(folder / "data") as up:
        models = await stage.make_models(folder / "models", folder / "keys" / "demo.pem")
        with up.client() as client:
            say(f"the server runs: {up.http}")
            client.post("/keys", {"public_key": publisher.public.hex(), "label": "demo"})
            outcomes = await Story(folder / "boards", up, client, models, say).tell(publisher)
        await at_end(up, outcomes)
    return outcomes


class Story:
    """Five boards that live through a model, a broker that dies, a better model, and an ingest that dies."""

    def __init__(self, folder: Path, up: stage.Server, client: Client, models: stage.Models, say: Say) -> None:
        self._folder = folder
        self._up = up
        self._client = client
        self._models = models
        self._say = say
        self._ending = False

    async def tell(self, publisher: keys.PublisherKey) -> list[Outcome]:
        """The story; returns how it ended for each board."""
        plays = await stage.make_boards(self._folder, self._up, publisher)
        await self._publish("1.0.0")
        self._say(f"{len(plays)} boards are switched on, their clock {SPEED:.0f} times as fast while they sleep")
        async with supervised((self._folder / device for device in plays), SPEED) as boards:
            lives = [asyncio.create_task(self._live(board)) for board in boards]
            watch = asyncio.gather(*lives)
            try:
                before = await self._outages_and_update(boards, watch)
                self._ending = True
                await asyncio.wait_for(watch, _STEP_DEADLINE_S)
            finally:
                watch.cancel()
                await asyncio.gather(watch, *lives, return_exceptions=True)
        return [self._outcome(board, plays[board.device], before[board.device]) for board in boards]

    async def _outages_and_update(self, boards: list[SimulatedBoard], watch: Watch) -> dict[str, str]:
        """Everything between switching on and the last session; returns what each board ran before the update."""
        await self._until("every board has taken model 1.0.0", watch, lambda: self._all_run("1.0.0"))
        before = self._running()
        await self._until("20 wakes", watch, lambda: _least_wakes(boards) >= 20)
        self._up.kill("broker")
        self._say("broker killed; it restarts, the boards keep their records and try again")
        await self._until("30 wakes", watch, lambda: _least_wakes(boards) >= 30)
        await self._publish("2.0.0")
        self._say("model 2.0.0 published for both kinds")
        await self._until("the first board downloads it", watch, lambda: self._any_updates("2.0.0"))
        self._up.kill("ingest")
        self._say("ingest killed in the middle of the update; what it had not stored comes again")
        await self._until("every board has taken model 2.0.0", watch, lambda: self._all_run("2.0.0"))
        await self._until(f"{WAKES} wakes", watch, lambda: _least_wakes(boards) >= WAKES)
        return before

    async def _live(self, board: SimulatedBoard) -> None:
        """Wake after wake to the end of the story, then until the cloud has all that the board made."""
        while not self._ending:
            await board.run(wakes=1)
        for _ in range(_LAST_WAKES):
            books = await asyncio.to_thread(audit.read_books, board.folder)
            if await asyncio.to_thread(audit.is_drained, self._client, board.device, books):
                return
            await board.run(wakes=1)
        raise stage.DemoFailed(f"{board.device} still held records {_LAST_WAKES} wakes after the last outage")

    async def _until(self, sign: str, watch: Watch, seen: Callable[[], bool]) -> None:
        """Wait for a sign; a board that fails meanwhile ends the story. Raises DemoFailed at the deadline."""
        deadline = time.monotonic() + _STEP_DEADLINE_S
        while not await asyncio.to_thread(seen):
            if watch.done():
                await watch
            if time.monotonic() > deadline:
                raise stage.DemoFailed(f"waited {_STEP_DEADLINE_S:.0f} s in vain for: {sign}")
            await asyncio.sleep(_LOOK_S)
        self._say(sign)

    async def _publish(self, version: str) -> None:
        commands = (
            ("model", "publish", str(artifact), "--to", f"kind:{kind}", "--data", str(self._up.data))
            for kind, artifact in self._models[version].items()
        )
        await asyncio.gather(*(stage.edgewise(*words) for words in commands))

    def _devices(self) -> list[dict[str, Any]]:
        return self._client.get("/devices", limit=100)

    def _running(self) -> dict[str, str]:
        return {device["device"]: audit.model_text(device["model"]) for device in self._devices()}

    def _all_run(self, version: str) -> bool:
        """True when every board has committed to `version`: HELLO names it, and its trial is over."""
        return all(
            device["model"]
            and device["model"]["version"] == version
            and device["update"]
            and (device["update"]["version"], device["update"]["state"]) == (version, _COMMITTED)
            for device in self._devices()
        )

    def _any_updates(self, version: str) -> bool:
        return any(device["update"] and device["update"]["version"] == version for device in self._devices())

    def _outcome(self, board: SimulatedBoard, played: stage.Recording, before: str) -> Outcome:
        books = audit.read_books(board.folder)
        return Outcome(audit.account(self._client, board.device, books, played), before, board.totals.wakes)


def _least_wakes(boards: list[SimulatedBoard]) -> int:
    return min(board.totals.wakes for board in boards)

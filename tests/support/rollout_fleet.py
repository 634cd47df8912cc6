"""Boards in a real store under a rollout, a report period at a time, on a clock that the test moves."""

import copy
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from cloud import wire_types as w
from cloud.models import keys
from cloud.models.blobs import Blobs
from cloud.models.follower import follow_once
from cloud.models.service import Audience, Registry
from cloud.rollouts.engine import State
from cloud.rollouts.plan import Plan
from cloud.rollouts.service import Rollouts
from cloud.store import tables as t
from cloud.store.engine import writing
from contract import wire
from tests.support.artifacts import digest, make, new_key
from tests.support.fleet import Fleet, settings_in

PERIOD_MS = 60_000
START_MS = 1_900_000_000_000
OLD, NEW = "1.0.0", "2.0.0"

Behaviour = Callable[[dict[str, Any]], None]
"""What the candidate does to a HEALTH record's fields."""


class RolloutFleet:
    """`boards` boards that run version OLD of a model called flow, of which NEW is published and on no board."""

    def __init__(self, folder: Path, boards: int, reports: int = 6, start_ms: int = START_MS, **new: Any) -> None:
        self.fleet = Fleet(settings_in(folder))
        self.now = start_ms
        self.fleet.now_ms = lambda: self.now
        self.key = new_key()
        self.files = {OLD: make(self.key, version=OLD, sequence=1), NEW: make(self.key, version=NEW, sequence=2, **new)}
        self.names = [f"pump-{at:03}" for at in range(boards)]
        self.asleep: set[str] = set()
        self.behaviour: Behaviour = lambda _fields: None
        self.refuses = False
        self._reported: dict[str, int] = {}
        self._random = random.Random(5)
        self.run(self._publish)
        self._running = dict.fromkeys(self.names, OLD)
        self._sequence = dict.fromkeys(self.names, 1)
        self.fleet.add(*self.names)
        with self.fleet.together():
            for name in self.names:
                self.fleet.say(name, True)
                self.hello(name)
        self.follow()
        for _ in range(reports):
            self.period()

    def period(self) -> None:
        """A report period later: every board that is awake takes what it is told and reports."""
        self.now += PERIOD_MS
        self.beat()

    def beat(self) -> None:
        """Every board that is awake takes what it is told and reports."""
        wanted = self.wanted()
        with self.fleet.together():
            for name, version in wanted.items():
                if name in self.asleep:
                    continue
                if version != self._running[name]:
                    self.take(name, version)
                self.report(name)
        self.follow()

    def joins(self, *names: str) -> None:
        """New boards that run the old version."""
        self.names += names
        self.fleet.add(*names)
        for name in names:
            self._running[name], self._sequence[name] = OLD, 1
            self.fleet.say(name, True)
            self.hello(name)
        self.follow()

    def wanted(self) -> dict[str, str]:
        """Board -> the version it is told to run."""
        query = sa.select(t.desired.c.device, t.artifacts.c.version).join(
            t.artifacts, t.artifacts.c.sha256 == t.desired.c.artifact_sha256
        )
        told = {row["device"]: row["version"] for row in self.fleet.rows(query)}
        return {name: told.get(name, OLD) for name in self.names}

    def on(self, version: str) -> list[str]:
        """Boards that say they run a version."""
        query = sa.select(t.devices.c.device).where(t.devices.c.model_version == version)
        return [row["device"] for row in self.fleet.rows(query.order_by(t.devices.c.device))]

    def take(self, name: str, version: str) -> None:
        """The board downloads and commits a version, or refuses the new one."""
        sha8 = bytes.fromhex(digest(self.files[version]))[:8]
        about: dict[str, Any] = {"name": "flow", "version": version, "sha8": sha8}
        if version == NEW and self.refuses:
            self.fleet.update(name, wire.UPDATE_ROLLBACK, wire.REASON_LOAD_FAILED, **about)
            return
        self.fleet.update(name, wire.UPDATE_COMMIT, **about)
        self._running[name] = version
        self._sequence[name] = max(self._sequence[name], 2 if version == NEW else 1)
        self.hello(name)

    def fails(self, name: str) -> None:
        """The board takes the new version back, or does not take it at all."""
        refuses, self.refuses = self.refuses, True
        self._running[name] = OLD
        self.take(name, NEW)
        self.hello(name)
        self.refuses = refuses

    def memory(self) -> Any:
        """What the boards remember, for `remember`."""
        return self.now, dict(self._running), dict(self._sequence), dict(self._reported), self.fleet.memory()

    def remember(self, memory: Any) -> None:
        """The boards are again as they were; the store is the caller's business."""
        self.now, self._running, self._sequence, self._reported, fleet = memory
        self.fleet.remember(fleet)

    def twin(self, folder: Path) -> Self:
        """The same boards with a life of their own from now on, in a copy of the store: made in a tenth of the time."""
        shutil.copytree(self.fleet.settings.data_dir, folder, dirs_exist_ok=True)
        made = copy.copy(self)
        made.fleet = Fleet(settings_in(folder))
        made.fleet.now_ms = lambda: made.now
        made.names, made.asleep = list(self.names), set(self.asleep)
        made._random = random.Random()
        made._random.setstate(self._random.getstate())
        made.remember(self.memory())
        return made

    def hello(self, name: str) -> None:
        """The board says what it runs."""
        version = self._running[name]
        facts = {"key_ids": (self.key.key_id,), "sequence": self._sequence[name]}
        self.fleet.runs(name, self.files[version], "flow", version, **facts)

    def report(self, name: str) -> None:
        """A HEALTH record: 300 windows of which 3 are above the threshold, give or take."""
        above = sum(self._random.random() < 0.01 for _ in range(300))
        fields: dict[str, Any] = {
            "period_ms": self.now - self._reported.get(name, self.now - PERIOD_MS),
            "wakes": 300,
            "awake_ms": round(6000 * self._random.uniform(0.97, 1.03)),
            "energy_uj": w.Energy(0, round(500_000 * self._random.uniform(0.95, 1.05)), 0, 0),
            "scores": (0, 0, 300 - above, 0, above, 0, 0, 0),
            "next_contact_ms": PERIOD_MS,
        }
        if self.on_candidate(name):
            self.behaviour(fields)
        self._reported[name] = self.now
        self.fleet.health(name, **fields)

    def on_candidate(self, name: str) -> bool:
        """Whether `behaviour` shows in the board's reports."""
        return self._running[name] == NEW

    def follow(self) -> None:
        """What the web process does after HELLOs."""

        async def work(engine: Any) -> None:
            await follow_once(engine, Registry(engine, self.blobs), {})

        self.run(work)

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.fleet.settings.blobs_url)

    def rollouts(self, call: Callable[[Rollouts], Any]) -> Any:
        """The result of a call on the rollouts, at the fleet's time."""

        async def work(engine: Any) -> Any:
            return await call(Rollouts(engine, lambda: self.now))

        return self.run(work)

    def planned(self, **changes: Any) -> int:
        """A rollout of NEW with short stages."""
        facts: dict[str, Any] = {
            "name": "flow",
            "version": NEW,
            "fallback": OLD,
            "period_ms": PERIOD_MS,
            "min_canaries": 7,
            "soak_periods": 4,
            "ramp_periods": 2,
            "steps": (10, 50, 100),
        }
        return self.rollouts(lambda rollouts: rollouts.plan(Plan(**(facts | changes))))

    def started(self, **changes: Any) -> int:
        rollout = self.planned(**changes)
        self.rollouts(lambda rollouts: rollouts.start(rollout))
        return rollout

    def step(self, rollout: int) -> State:
        """One move of the controller."""
        return self.rollouts(lambda rollouts: rollouts.step(rollout))

    def run(self, work: Any) -> Any:
        return self.fleet.run(work)

    async def _publish(self, engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await keys.trust(connection, self.key.public.hex(), "", self.now)
        registry = Registry(engine, self.blobs)
        await registry.publish([self.files[OLD]], [], Audience(champion=True))
        await registry.publish([self.files[NEW]], [], Audience())

"""Boards in a real store that take a shadow model beside the version they run."""

import struct
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from cloud import wire_types as w
from cloud.rollouts.plan import Mode
from cloud.rollouts.queries import show_rollout
from cloud.rollouts.views import RolloutDetail
from cloud.store import tables as t
from contract import wire
from tests.support.artifacts import digest
from tests.support.rollout_fleet import NEW, RolloutFleet

SHARE = 25  # per cent of the boards


class ShadowFleet(RolloutFleet):
    """Boards that take a shadow and count 300 windows a period beside it, three of them decided differently."""

    def __init__(self, folder: Path, boards: int, **facts: Any) -> None:
        self.beside: dict[str, str | None] = {}
        self.drops = False
        self._told: dict[str, str] = {}
        super().__init__(folder, boards, **facts)
        self.behaviour = self.scores

    def twin(self, folder: Path) -> Self:
        made = super().twin(folder)
        made.beside, made._told = dict(self.beside), dict(self._told)
        made.behaviour = made.scores
        return made

    def beat(self) -> None:
        self._told = self.wanted_beside()
        super().beat()

    def wanted_beside(self) -> dict[str, str]:
        """Board -> the version that is to score beside its model, for those that shall have one."""
        query = sa.select(t.desired.c.device, t.artifacts.c.version).join(
            t.artifacts, t.artifacts.c.sha256 == t.desired.c.shadow_sha256
        )
        return {row["device"]: row["version"] for row in self.fleet.rows(query)}

    def sha8(self, version: str) -> bytes:
        return bytes.fromhex(digest(self.files[version]))[:8]

    def report(self, name: str) -> None:
        told, has = self._told.get(name), self.beside.get(name)
        if told != has and not (told and self.drops):
            self.beside[name] = told
            state = wire.UPDATE_SHADOW if told else wire.UPDATE_SHADOW_ENDED
            self._say(name, state, wire.REASON_OK, told or NEW)
        elif told and self.drops:
            self.beside[name] = None
            self._say(name, wire.UPDATE_SHADOW_ENDED, wire.REASON_NO_MEMORY, told)
        super().report(name)

    def on_candidate(self, name: str) -> bool:
        return super().on_candidate(name) or self.beside.get(name) is not None

    def hello(self, name: str) -> None:
        beside = self.beside.get(name)
        facts = {"key_ids": (self.key.key_id,), "sequence": self._sequence[name]}
        shadow = None if beside is None else w.ModelRef("flow", beside, self.sha8(beside))
        version = self._running[name]
        self.fleet.runs(name, self.files[version], "flow", version, shadow=shadow, **facts)

    def _say(self, name: str, state: int, reason: int, version: str) -> None:
        self.fleet.update(name, state, reason, name="flow", version=version, sha8=self.sha8(version))
        self.hello(name)

    def scores(self, fields: dict[str, Any]) -> None:
        """What a board with the shadow says of it, for `behaviour`."""
        fields |= {"shadow": self.sha8(NEW), "shadow_compared": 300, "shadow_disagreed": 3}

    def disagree(self, name: str, seq: int, reason: int, score: float, features: tuple[int, ...]) -> None:
        raw = struct.pack(f"<{len(features)}i", *features)
        said = w.Query(1, seq, seq, 0, score, self.sha8(NEW), raw, reason, wire.ROUTE_DEFER)
        self.fleet.say(name, said)

    def shown(self, rollout: int) -> RolloutDetail:
        async def work(engine: Any) -> Any:
            async with engine.connect() as connection:
                return await show_rollout(connection, rollout, self.now)

        return self.run(work)

    def shadowed(self, **changes: Any) -> int:
        return self.started(**({"mode": Mode.SHADOW, "steps": (SHARE,)} | changes))

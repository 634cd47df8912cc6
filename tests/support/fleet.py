"""Boards in a real store: what they say goes through ingest's own writer, what is missing is the radio."""

import asyncio
from array import array
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from cloud import wire_types as w
from cloud.clock import now_ms
from cloud.ingest.writer import Item, Writer
from cloud.settings import Settings, load_settings
from cloud.store import tables as t
from cloud.store.engine import make_engine, writing
from cloud.store.migrate import migrate
from contract import delta, wire
from contract.delta_encoder import Encoder
from tests.support.artifacts import ABI, SCHEMA_HASH

_HOUR_MS = 3_600_000
_DATABASE = "edgewise.db"  # in a data folder, unless EDGEWISE_DATABASE_URL names another


def finished(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, run in a thread of its own: playwright keeps a loop in the test's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def settings_in(folder: Path, **environ: str) -> Settings:
    """Settings of a data folder with the newest schema."""
    settings = load_settings({**environ}, data_dir=folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.absolute() / _DATABASE
    if settings.database_url == f"sqlite:///{file}" and not file.exists():
        file.write_bytes(_empty_database())
    else:
        finished(_migrated(settings))
    return settings


@cache
def _empty_database() -> bytes:
    """An SQLite file with the newest schema: to copy it takes a hundredth of the time of all migrations."""
    with TemporaryDirectory() as folder:
        finished(_migrated(load_settings({}, data_dir=folder)))
        return (Path(folder) / _DATABASE).read_bytes()


async def _migrated(settings: Settings) -> None:
    engine = make_engine(settings)
    try:
        await migrate(engine)
    finally:
        await engine.dispose()


class Fleet:
    """Boards that began an hour ago. Each call is one committed batch, as from another process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._seqs: dict[tuple[str, int], int] = {}
        self.now_ms: Callable[[], int] = now_ms
        self._waiting: list[Item] | None = None

    def add(self, *devices: str, kind: str = "pump") -> None:
        """What `edgewise device add` writes."""

        async def insert(engine: Any) -> None:
            async with writing(engine).begin() as connection:
                rows = [{"device": name, "kind": kind, "credential": 1, "created_ms": now_ms()} for name in devices]
                await connection.execute(sa.insert(t.devices), rows)

        self.run(insert)

    def hello(self, device: str, **changes: Any) -> None:
        """A HELLO of an x64 board that takes native models for SCHEMA; `changes` replace its fields."""
        fields: dict[str, Any] = {
            "proto": 1,
            "epoch": 1,
            "t_ms": _HOUR_MS,
            "floors": ((1, 0, 0, 0, 0, 0),),
            "config_version": 0,
            "model": None,
            "firmware": "0.1.0",
            "arch": "x64",
            "abi": ABI,
            "formats": wire.FORMAT_NATIVE,
            "schema_hash": bytes.fromhex(SCHEMA_HASH),
            "kind": "pump",
            "free_flash": 1_000_000,
            "free_heap": 90_000,
            "wake_cause": wire.WAKE_TIMER,
            "battery_mv": 3700,
            "sequence": 0,
        }
        self.say(device, w.Hello(**(fields | changes)))

    def joined(self, device: str, *key_ids: bytes, kind: str = "pump", **changes: Any) -> None:
        """A board that was added, is online and has said HELLO; it trusts the given publisher keys."""
        self.add(device, kind=kind)
        self.say(device, True)
        self.hello(device, key_ids=key_ids, **changes)

    def runs(self, device: str, data: bytes, name: str, version: str, **changes: Any) -> None:
        """A HELLO of a board that runs the artifact `data`."""
        self.hello(device, model=w.ModelRef(name, version, sha256(data).digest()[:8]), **changes)

    def event(self, device: str, t_ms: int = _HOUR_MS, score: float = 12.5, **changes: Any) -> None:
        """An anomaly."""
        fields: dict[str, Any] = {
            "kind": wire.EVENT_ANOMALY,
            "threshold": 9.5,
            "route": wire.ROUTE_DEVICE,
            "reason": wire.WHY_CLEAR,
            "model": bytes(8),
            "features": b"",
        }
        seq = self._next(device, wire.EVENT)
        self.say(device, w.Event(epoch=1, seq=seq, t_ms=t_ms, score=score, **(fields | changes)))

    def health(self, device: str, **changes: Any) -> None:
        """Counters of the last ten minutes."""
        fields: dict[str, Any] = {
            "period_ms": 600_000,
            "wakes": 600,
            "battery_mv": 3650,
            "rssi": -61,
            "free_heap": 80_000,
            "free_flash": 900_000,
            "awake_ms": 12_000,
            "energy_uj": w.Energy(1200, 430_000, 800, 90),
            "radio": w.Radio(3, 2400, 9000, 1200, 1),
            "drops": (0, 0, 0, 0, 7),
            "errors": ((wire.FAULT_TIMEOUT, 2),),
            "scores": (5, 3, 1),
            "next_contact_ms": 600_000,
        }
        seq = self._next(device, wire.HEALTH)
        self.say(device, w.Health(epoch=1, seq=seq, t_ms=_HOUR_MS, **(fields | changes)))

    def update(self, device: str, state: int, reason: int = wire.REASON_OK, **changes: Any) -> None:
        """A step of a model update."""
        fields: dict[str, Any] = {"name": "flow", "version": "2.0.0", "sha8": b"\xab" * 8}
        seq = self._next(device, wire.UPDATE)
        self.say(device, w.Update(epoch=1, seq=seq, t_ms=_HOUR_MS, state=state, reason=reason, **(fields | changes)))

    def readings(self, device: str, rows: Sequence[Sequence[int]], t_ms: int = 0, gap_ms: int = 1000) -> None:
        """A sealed frame of counts, one row each `gap_ms` from `t_ms` on."""
        cols = len(rows[0])
        values = array("i", [value for row in rows for value in row])
        times = array("q", [at * gap_ms for at in range(len(rows))])
        out = bytearray(wire.MAX_UP_BYTES)
        first = bytes(out[: delta.first_row(values, None, cols, out)])
        body = bytes(out[: Encoder().body(times, values, len(rows), cols, out)])
        seq = self._next(device, wire.READINGS, len(rows))
        self.say(device, w.Readings(1, seq, t_ms, len(rows), cols, None, first, body))

    @contextmanager
    def together(self) -> Generator[None]:
        """What is said within is committed as one batch at the end."""
        self._waiting = []
        yield
        items, self._waiting = self._waiting, None

        async def write(engine: Any) -> None:
            await Writer(engine).write(items, self.now_ms())

        self.run(write)

    def say(self, device: str, what: Any) -> None:
        """One message of a board, committed."""
        item = Item(device, wire.topic(device, wire.KIND_UP), b"", what)
        if self._waiting is not None:
            self._waiting.append(item)
            return

        async def write(engine: Any) -> None:
            await Writer(engine).write([item], self.now_ms())

        self.run(write)

    def run(self, work: Any) -> Any:
        """The result of `await work(engine)` on an engine of its own."""

        async def use() -> Any:
            engine = make_engine(self.settings)
            try:
                return await work(engine)
            finally:
                await engine.dispose()

        return finished(use())

    def memory(self) -> dict[tuple[str, int], int]:
        """The boards' sequence numbers, for `remember`."""
        return dict(self._seqs)

    def remember(self, seqs: dict[tuple[str, int], int]) -> None:
        """The boards go on from there again."""
        self._seqs = dict(seqs)

    def rows(self, query: Any) -> list[dict[str, Any]]:
        """The rows of a query."""

        async def read(engine: Any) -> list[dict[str, Any]]:
            async with engine.connect() as connection:
                return [dict(row) for row in (await connection.execute(query)).mappings()]

        return self.run(read)

    def _next(self, device: str, stream: int, count: int = 1) -> int:
        seq = self._seqs.get((device, stream), 0)
        self._seqs[device, stream] = seq + count
        return seq

"""Ingest, beside a bare aiomqtt loop, a bare bulk insert and a key/value table."""

import asyncio
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiomqtt
import msgspec
import sqlalchemy as sa

from cloud import broker, wire_types
from cloud.broker import Credential, device_password
from cloud.clock import now_ms
from cloud.ingest.decode import read
from cloud.ingest.readings import key_form
from cloud.ingest.session import MAX_BATCH
from cloud.ingest.writer import Item, Writer
from cloud.settings import Settings, load_settings
from cloud.store import tables as t
from cloud.store.engine import make_engine, set_pragmas, writing
from cloud.up import prepare
from contract import delta, wire
from contract.delta_encoder import Encoder
from tools.bench import Row
from tools.firmware import ROOT

DEVICES = tuple(f"bench-{number}" for number in range(8))
MESSAGES = 6_000
ROUNDS = 3
_PUBLISHES_AT_ONCE = 500
_T = TypeVar("_T")

_COLUMNS = ", ".join(column.name for column in t.frames.columns)
CREATE_FRAMES = f"CREATE TABLE frames ({_COLUMNS}, PRIMARY KEY (device, epoch, seq)) WITHOUT ROWID"
# Without a rowid: the smaller of its two forms, and the faster one.
CREATE_POINTS = (
    "CREATE TABLE points (device TEXT, key TEXT, time INTEGER, value INTEGER, "
    "PRIMARY KEY (device, key, time)) WITHOUT ROWID"
)


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder))
        rows = [
            *_messages(settings, "stored, 30 rows of 1 channel", rows=30, cols=1, aim=">= 0.8 x"),
            *_messages(settings, "stored, 30 rows of 8 channels", rows=30, cols=8),
            *_bulk(settings, rows=30, cols=8),
        ]
        return rows + _bytes(Path(folder))


def _messages(settings: Settings, what: str, rows: int, cols: int, aim: str = "") -> list[Row]:
    """Both empty the same queue of the same broker on the same kind of event loop, in turns; medians."""
    rates: dict[str, list[float]] = {"bare": [], "whole": []}
    with _broker(settings):
        _drain(settings, "bare", 0)
        for number in range(ROUNDS):
            payloads = make_payloads(epoch=1 + number + 100 * cols, rows=rows, cols=cols)
            for mode in ("bare", "whole"):
                asyncio.run(_fill(settings, payloads))
                rates[mode].append(_drain(settings, mode, MESSAGES))
    rate = {mode: statistics.median(found) for mode, found in rates.items()}
    return [Row(what, rate["whole"], "messages/s", "bare loop, counts only", rate["bare"], aim)]


def _bulk(settings: Settings, rows: int, cols: int) -> list[Row]:
    """The writer against executemany of the very rows it makes, in batches of the same size, both with FULL sync."""
    payloads = make_payloads(epoch=9_999, rows=rows, cols=cols)
    items = [Item(device, wire.topic(device, wire.KIND_UP), payload, read(payload)) for device, payload in payloads]  # type: ignore[arg-type]
    whole = asyncio.run(_write(settings, items))
    readings = len(items) * rows
    some = items[: len(items) // 8]  # eight rows of a key/value table for each row of ours
    points = [point for item in some for point in _points(item.device, item)]
    bare = _executemany(settings.data_dir / "bulk.db", CREATE_FRAMES, [_frame(item) for item in items])
    key_value = _executemany(settings.data_dir / "bulk-points.db", CREATE_POINTS, points)
    of_points = len(some) * rows / key_value
    return [
        Row("readings written", readings / whole, "rows/s", "(device, key, time) rows, bulk insert alone", of_points),
        Row("", readings / whole, "rows/s", "sealed frames, bulk insert alone", readings / bare),
    ]


def _executemany(path: Path, create: str, rows: Sequence[tuple[object, ...]]) -> float:
    """Seconds to insert rows in batches of MAX_BATCH, with the settings of the store."""
    connection: Any = sqlite3.connect(path)
    set_pragmas(connection)
    connection.execute(create)
    table = create.split()[2]
    statement = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))}) ON CONFLICT DO NOTHING"
    began = time.perf_counter()
    for batch in _batches(rows):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, batch)
        connection.execute("COMMIT")
    taken = time.perf_counter() - began
    connection.close()
    return taken


def _bytes(folder: Path) -> list[Row]:
    """Files of two fresh databases with the same datapoints."""
    rows, cols = 30, 8
    payloads = make_payloads(epoch=1, rows=rows, cols=cols)
    ours, key_value = sqlite3.connect(folder / "ours.db"), sqlite3.connect(folder / "points.db")
    ours.execute(CREATE_FRAMES)
    key_value.execute(CREATE_POINTS)
    marks = ", ".join("?" * len(t.frames.columns))
    for device, payload in payloads:
        item = Item(device, "", payload, read(payload))  # type: ignore[arg-type]
        frame = _frame(item)
        ours.execute(f"INSERT INTO frames VALUES ({marks})", frame)
        key_value.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", _points(device, item))
    sizes: list[float] = []
    for connection, name in ((ours, "ours.db"), (key_value, "points.db")):
        connection.commit()
        connection.execute("VACUUM")
        connection.close()
        sizes.append((folder / name).stat().st_size / (len(payloads) * rows * cols))
    return [Row("in the store", sizes[0], "B/datapoint", "(device, key, time) table", sizes[1], "<= 1/20 = 0.05 x")]


def make_payloads(epoch: int, rows: int, cols: int) -> list[tuple[str, bytes]]:
    """(device, READINGS frame): random walks of integers, the devices in turn, seq and time going on."""
    rng, encoder, out = random.Random(epoch), Encoder(), bytearray(wire.MAX_UP_BYTES)
    levels = {device: [20_000 + 1_000 * channel for channel in range(cols)] for device in DEVICES}
    times = array("q", [1_000 * row for row in range(rows)])
    payloads: list[tuple[str, bytes]] = []
    for number in range(MESSAGES):
        device = DEVICES[number % len(DEVICES)]
        level = levels[device]
        values = array("i")
        for _ in range(rows):
            for channel in range(cols):
                level[channel] += round(rng.gauss(0, 4))
            values.extend(level)
        seq = number // len(DEVICES) * rows
        first = bytes(out[: delta.first_row(values, None, cols, out)])
        body = bytes(out[: encoder.body(times, values, rows, cols, out)])
        message = wire_types.Readings(epoch, seq, 1_000 * seq, rows, cols, None, first, body)
        payloads.append((device, wire_types.encode(message)))
    return payloads


def _frame(item: Item) -> tuple[object, ...]:
    record = item.what
    assert isinstance(record, wire_types.Readings)
    sealed = key_form(record, None)
    return (
        *(item.device, record.epoch, record.seq, record.rows, record.t_ms, sealed.t1_ms, record.cols),
        *(sealed.lows, sealed.highs, sealed.first, record.body, now_ms()),
    )


def _points(device: str, item: Item) -> Iterator[tuple[str, str, int, int]]:
    record = item.what
    assert isinstance(record, wire_types.Readings)
    offsets, values = delta.decode(record.rows, record.cols, record.first, record.body)
    began_ms = now_ms()
    for at, value in enumerate(values):
        row, channel = divmod(at, record.cols)
        yield device, f"channel-{channel}", began_ms + record.t_ms + offsets[row], value


async def _write(settings: Settings, items: Sequence[Item]) -> float:
    engine = make_engine(settings)
    writer = Writer(engine)
    began = time.perf_counter()
    for batch in _batches(items):
        await writer.write(batch, now_ms())
    taken = time.perf_counter() - began
    await engine.dispose()
    return taken


def _batches(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for at in range(0, len(rows), MAX_BATCH):
        yield rows[at : at + MAX_BATCH]


def _settings(folder: Path) -> Settings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = load_settings({"EDGEWISE_MQTT_PORT": str(port)}, data_dir=folder / "data")
    asyncio.run(_provision(settings))
    return settings


async def _provision(settings: Settings) -> None:
    await prepare(settings)
    engine = make_engine(settings)
    async with writing(engine).begin() as connection:
        rows = [{"device": name, "kind": "bench", "credential": 1, "created_ms": now_ms()} for name in DEVICES]
        await connection.execute(sa.insert(t.devices), rows)
    await engine.dispose()
    broker.write_config(settings, [Credential(name, 1) for name in DEVICES])


@contextmanager
def _broker(settings: Settings) -> Generator[None]:
    process = subprocess.Popen(broker.server_command(settings), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not broker.is_listening(settings):
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(10)


async def _fill(settings: Settings, payloads: Sequence[tuple[str, bytes]]) -> None:
    """Leaves the messages in the broker's queue for ingest, who is away."""

    async def publish(device: str) -> None:
        password = device_password(settings, device, 1)
        async with aiomqtt.Client(
            settings.host,
            settings.mqtt_port,
            username=device,
            password=password,
            identifier=device,
            max_inflight_messages=_PUBLISHES_AT_ONCE,
        ) as client:
            client.pending_calls_threshold = 2 * _PUBLISHES_AT_ONCE
            mine = [payload for name, payload in payloads if name == device]
            for at in range(0, len(mine), _PUBLISHES_AT_ONCE):
                part = mine[at : at + _PUBLISHES_AT_ONCE]
                topic = wire.topic(device, wire.KIND_UP)
                await asyncio.gather(*(client.publish(topic, payload, qos=1, timeout=30) for payload in part))

    await asyncio.gather(*(publish(device) for device in DEVICES))


def _drain(settings: Settings, mode: str, count: int) -> float:
    path = os.pathsep.join([str(ROOT), str(ROOT / "firmware")])
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench._drain", mode, str(count)],
        env={**os.environ, **settings.environment(), "PYTHONPATH": path},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return msgspec.json.decode(done.stdout, type=float)

"""A model reaches a running board over the air: offered, fetched, proven, tried and reported, by the whole firmware."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud import wire_types as w
from contract import artifact, wire
from contract.table import LINEAR
from model_export import keys, table
from model_export.artifact import golden_bytes, pack
from model_export.detectors.trees import Ensemble, IntegerTree
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.device.update.conftest import raw_deflate
from tests.support import boards
from tests.support.boards import SPEED, WINDOW, press, samples_taken
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud
from tools.provision import set_world
from tools.simulate import SimulatedBoard, WakeServer, supervised

N_FEATURES = 12  # of boards.SCHEMA
# The smallest heap in which a board takes an update, on this 64-bit machine; only lowered, but for what a wake came to
# need: 8 kB for questions, answers, the breaker that outlasts a power loss, wake causes and statements of publishers, 2
# kB for what a download waits for, 4 kB for counting in the bins of the model.
LEAST_HEAP = "222k"
# ... when the model is a table blob: the modules that check and score it come on top.
LEAST_HEAP_FOR_A_TABLE = "228k"


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> PublisherKey:
    return keys.create(tmp_path_factory.mktemp("keys"), "main")


def made(publisher: PublisherKey, version: str, sequence: int, pad: int = 4000, margin: float = 1.0) -> bytes:
    """An artifact for boards.SCHEMA whose score is 10,000 and more above its threshold of 0 for every window."""
    offset = 10_000 + sequence
    vectors = [([n] * N_FEATURES, float(3 * n + offset)) for n in (0, 5, -7)]
    fields = forge.manifest(
        version=version, sequence=sequence, schema=boards.SCHEMA, n_features=N_FEATURES, threshold=0.0, margin=margin
    )
    payload = forge.payload(offset, n_features=N_FEATURES, pad=pad)
    return pack(fields, golden_bytes(vectors), payload, publisher)  # pyright: ignore[reportArgumentType]


def made_table(publisher: PublisherKey) -> bytes:
    """A table blob for boards.SCHEMA: three trees that ask whether the first feature is below 0."""
    three = np.array([0, 1, 2])
    tree = IntegerTree(np.array([1, -1, -1]), np.array([2, -1, -1]), 0 * three, 0 * three, np.array([0, 0, 1]))
    blob = table.forest(Ensemble([tree] * 3, np.array([0.0, 0.5]), N_FEATURES, 0.75, LINEAR, 0.25), 0.1875)
    fields = forge.manifest(
        version="3.0.0", sequence=3, schema=boards.SCHEMA, n_features=N_FEATURES, threshold=0.1875, margin=0.0, abi=0
    ) | {"arch": artifact.ANY_ARCH, "format": artifact.FORMAT_BLOB}
    vectors = [([n] * N_FEATURES, 0.0 if n < 0 else 0.375) for n in (0, -1, 5, -100_000)]
    return pack(fields, golden_bytes(vectors), blob, publisher)


def offered(cloud: TinyCloud, data: bytes, deflated: bool = False) -> w.Offer:
    """The offer of an artifact, which the cloud serves from now on; `deflated`: as a patch without a base, too."""
    digest = hashlib.sha256(data).digest()
    manifest = artifact.Head(data).manifest()
    form = wire.FORMAT_NATIVE if manifest.format == artifact.FORMAT_NATIVE else wire.FORMAT_BLOB
    cloud.artifacts[digest[:8]] = data
    patch, patch_size = None, 0
    if deflated:
        content = raw_deflate(data)
        patch, patch_size = hashlib.sha256(content).digest()[:8], len(content)
        cloud.artifacts[patch] = content
    return w.Offer(
        manifest.name,
        manifest.version,
        manifest.sequence,
        digest,
        len(data),
        form,
        manifest.arch,
        patch=patch,
        patch_size=patch_size,
    )


async def publish(cloud: TinyCloud, version: int, data: bytes, deflated: bool = False, **settings: Any) -> bytes:
    """Offer an artifact to pump-1, with settings; returns its sha8."""
    offer = offered(cloud, data, deflated)
    await cloud.want("pump-1", version, settings, offer)
    return offer.sha256[:8]


def steps(cloud: TinyCloud) -> list[tuple[str, int, int]]:
    """(version, state, reason) of each UPDATE record."""
    return [(record.version, record.state, record.reason) for record in cloud.of("pump-1", wire.UPDATE)]


def trusting(publisher: PublisherKey) -> dict[str, Any]:
    return {"trusted_keys": {publisher.key_id.hex(): publisher.public.hex()}}


def test_two_models_one_after_the_other_in_a_small_heap(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    async def live() -> tuple[TinyCloud, SimulatedBoard]:
        folder = boards.make(tmp_path / "pump-1", broker.port, **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, WakeServer() as server:
            board = SimulatedBoard(folder, server, SPEED, heap=LEAST_HEAP)
            await board.run(wakes=2)
            await publish(cloud, 1, made(publisher, "1.0.0", 1))
            await board.run(wakes=20)
            await publish(cloud, 2, made(publisher, "2.0.0", 2), deflated=True)
            await board.run(wakes=20)
            await press(board)
            assert not (folder / "log.txt").read_text()
        return cloud, board

    cloud, board = asyncio.run(live())
    happy = [wire.UPDATE_DOWNLOAD, wire.UPDATE_TRIAL, wire.UPDATE_COMMIT]
    assert steps(cloud) == [(version, state, wire.REASON_OK) for version in ("1.0.0", "2.0.0") for state in happy]
    assert cloud.fetches == 2 + 1, "the second came deflated"
    models = [hello.model.version if hello.model else None for hello in cloud.hellos["pump-1"]]
    assert models[0] is None
    assert list(dict.fromkeys(models)) == [None, "1.0.0", "2.0.0"]
    assert len(models) <= 6
    first = cloud.of("pump-1", wire.EVENT)[0]
    assert (first.kind, first.reason) == (wire.EVENT_ANOMALY, wire.WHY_CLEAR), "scored by the model, and it is sure"
    stored = cloud.of("pump-1", wire.READINGS)
    # A wake that installs starts anew without sampling; its window is the next one's.
    assert len(stored) == samples_taken(board) - 2 * WINDOW
    assert [values[1] for _, values in stored] == list(range(len(stored)))


def test_a_table_blob_takes_over_from_machine_code(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    async def live() -> TinyCloud:
        folder = boards.make(tmp_path / "pump-1", broker.port, **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, WakeServer() as server:
            board = SimulatedBoard(folder, server, SPEED, heap=LEAST_HEAP_FOR_A_TABLE)
            await board.run(wakes=2)
            await publish(cloud, 1, made(publisher, "1.0.0", 1))
            await board.run(wakes=20)
            await publish(cloud, 2, made_table(publisher))
            await board.run(wakes=20)
            await press(board)
            assert not (folder / "log.txt").read_text()
        return cloud

    cloud = asyncio.run(live())
    assert steps(cloud)[-1] == ("3.0.0", wire.UPDATE_COMMIT, wire.REASON_OK), cloud.of("pump-1", wire.UPDATE)[-1]
    assert {hello.formats for hello in cloud.hellos["pump-1"]} == {wire.FORMAT_NATIVE | wire.FORMAT_BLOB}
    model = cloud.hellos["pump-1"][-1].model
    assert model is not None
    assert model.version == "3.0.0"


def test_a_download_waits_for_charge_and_for_its_hours_unless_it_is_urgent(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    data = made(publisher, "1.0.0", 1)

    async def live() -> tuple[TinyCloud, list[int]]:
        fetches: list[int] = []
        folder = boards.make(tmp_path / "pump-1", broker.port, world={"battery_mv": 3400}, **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await publish(cloud, 1, data)
            await press(board, 3)
            fetches.append(cloud.fetches)
            set_world(folder, {"battery_mv": 3900})
            await publish(cloud, 2, data, update_hours=[0, 0])
            await press(board, 3)
            fetches.append(cloud.fetches)
            before = board.totals.wakes
            await board.run(wakes=3)
            assert board.totals.wakes == before + 3
            set_world(folder, {"battery_mv": 3400})
            await publish(cloud, 3, data, update_hours=[0, 0], update_urgent=True)
            await press(board, 2)
            fetches.append(cloud.fetches)
            set_world(folder, {"battery_mv": 3900})
            await board.run(wakes=10)
            await press(board)
        return cloud, fetches

    cloud, fetches = asyncio.run(live())
    assert fetches[:2] == [0, 0]
    assert fetches[2] >= 1
    reasons = [(state, reason) for _, state, reason in steps(cloud) if state == wire.UPDATE_DOWNLOAD]
    expected = [wire.REASON_OK, wire.REASON_LOW_BATTERY, wire.REASON_NOT_NOW, wire.REASON_OK]
    assert reasons == [(wire.UPDATE_DOWNLOAD, reason) for reason in expected]
    assert steps(cloud)[-1] == ("1.0.0", wire.UPDATE_COMMIT, wire.REASON_OK)


def test_a_download_goes_on_where_a_reset_broke_it_off(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    data = made(publisher, "1.0.0", 1, pad=32_000)  # of what is downloaded, this is free in one piece to load it

    async def live() -> TinyCloud:
        folder = boards.make(tmp_path / "pump-1", broker.port, **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=2)
            await publish(cloud, 1, data)
            waking = asyncio.create_task(board.run(wakes=20))
            while cloud.fetches < 4:
                await asyncio.sleep(0.001)
            board.kill()
            await waking
        return cloud

    cloud = asyncio.run(live())
    assert steps(cloud)[-1] == ("1.0.0", wire.UPDATE_COMMIT, wire.REASON_OK), cloud.of("pump-1", wire.UPDATE)[-1]
    pieces = -(-len(data) // wire.MAX_CHUNK_BYTES)
    assert cloud.fetches <= pieces + 2, "what was on flash was not fetched again"


def test_a_model_of_a_stranger_is_refused_after_its_first_piece(
    broker: Broker, tmp_path: Path, publisher: PublisherKey, tmp_path_factory: pytest.TempPathFactory
):
    stranger = keys.create(tmp_path_factory.mktemp("stranger"), "stranger")

    async def live() -> TinyCloud:
        folder = boards.make(tmp_path / "pump-1", broker.port, **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            await board.run(wakes=2)
            await publish(cloud, 1, made(stranger, "1.0.0", 1))
            await board.run(wakes=12)
            await press(board)
        return cloud

    cloud = asyncio.run(live())
    assert steps(cloud) == [
        ("1.0.0", wire.UPDATE_DOWNLOAD, wire.REASON_OK),
        ("1.0.0", wire.UPDATE_REFUSED, wire.REASON_UNKNOWN_KEY),
    ]
    assert cloud.fetches == 1
    assert cloud.hellos["pump-1"][-1].model is None


def test_a_board_that_is_not_sure_asks_and_does_not_wait_for_the_schedule(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    async def live() -> tuple[TinyCloud, list[int]]:
        settings = {"sync_interval_ms": 86_400_000, "deadline_ms": 60_000}
        folder = boards.make(tmp_path / "pump-1", broker.port, settings=settings, **trusting(publisher))
        asked: list[int] = []
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            cloud.answers = lambda query: [w.Answer(query.epoch, query.seq, wire.VERDICT_UNKNOWN, 0.0)]
            await publish(cloud, 1, made(publisher, "1.0.0", 1, margin=1e6))
            for _ in range(15):
                await board.run(wakes=1)
                asked.append(len(cloud.of("pump-1", wire.QUERY)))
        return cloud, asked

    cloud, asked = asyncio.run(live())
    queries = cloud.of("pump-1", wire.QUERY)
    assert {(query.reason, query.deadline_ms) for query in queries} == {(wire.WHY_MARGIN, 60_000)}
    assert all(len(query.features) == 4 * N_FEATURES for query in queries)
    first = next(wake for wake, count in enumerate(asked) if count)
    assert asked[first:] == list(range(1, len(asked) - first + 1)), "one in each wake, answered for in that wake"

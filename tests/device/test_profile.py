"""device/profile.py by real firmware: windows counted in the bins of the model that scored them, and reported."""

import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cloud import wire_types as w
from contract import wire
from model_export import keys
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey
from tests.device.test_over_the_air import N_FEATURES
from tests.device.test_verdict import SURE, live, remembered
from tests.device.update import forge
from tests.support import boards
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud
from tools.simulate import SimulatedBoard

TEN_MINUTES = {"interval_ms": 600_000, "sync_interval_ms": 600_000}
FAST = 50 * boards.SPEED  # ten minutes of sleep pass in 6 ms
SHARES = bytes([32] * 7 + [31]) + bytes([64, 64, 64, 63]) * N_FEATURES


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> PublisherKey:
    return keys.create(tmp_path_factory.mktemp("keys"), "main")


def model(publisher: PublisherKey, sequence: int, bins: bool = True) -> bytes:
    """A model that calls every window normal; its scores are three times a feature plus 10,000 and its sequence."""
    offset = 10_000 + sequence
    fields: dict[str, Any] = forge.manifest(
        version=f"{sequence}.0.0",
        sequence=sequence,
        schema=boards.SCHEMA,
        n_features=N_FEATURES,
        threshold=1e9,
        margin=SURE,
    )
    if bins:
        edges = struct.pack("<7f", *(offset + 1000 * at for at in range(7)))
        fields |= {"bins": edges + struct.pack("<3i", 0, 500, 1000) * N_FEATURES, "shares": SHARES}
    vectors = [([n] * N_FEATURES, float(3 * n + offset)) for n in (0, 5, -7)]
    return pack(fields, golden_bytes(vectors), forge.payload(offset, n_features=N_FEATURES), publisher)


def profiles(cloud: TinyCloud) -> list[w.Profile]:
    return [health.profile for health in cloud.of("pump-1", wire.HEALTH) if health.profile is not None]


def counted(board: SimulatedBoard) -> int:
    return sum(remembered(board.folder, "profile_scores"))


def test_each_window_is_counted_through_deep_sleep_and_counting_begins_anew_at_a_report(
    broker: Broker,
    tmp_path: Path,
    publisher: PublisherKey,
):
    seen: list[int] = []

    async def meanwhile(cloud: TinyCloud, board: SimulatedBoard) -> None:
        before, left = sum(sum(found.scores) for found in profiles(cloud)), counted(board)
        await board.run(wakes=30)
        seen.append(sum(sum(found.scores) for found in profiles(cloud)) - before + counted(board) - left)
        seen.append(max(remembered(board.folder, "profile_features")))

    artifact = model(publisher, 1)
    story = live(tmp_path, broker.port, publisher, [artifact], settings=TEN_MINUTES, speed=FAST, meanwhile=meanwhile)
    assert seen[0] == 30, "every window once, whatever was reported meanwhile"
    told = profiles(story.cloud)
    assert len(told) >= 4
    assert [found.first for found in told] == [6 * (at % 2) for at in range(len(told))], (
        "twelve features, six at a time"
    )
    for found in told:
        parts = [found.features[at : at + 4] for at in range(0, 24, 4)]
        assert {sum(part) for part in parts} == {sum(found.scores)}, "each feature of the six at each window"


def test_another_model_begins_anew(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    artifacts = [model(publisher, 1), model(publisher, 2)]
    names = [sha256(data).digest()[:8] for data in artifacts]
    story = live(tmp_path, broker.port, publisher, artifacts, settings=TEN_MINUTES, speed=FAST, wakes=20)
    told = profiles(story.cloud)
    assert [found.model for found in told[-2:]] == [names[1]] * 2
    assert {found.model for found in told} <= set(names)
    first = next(found for found in told if found.model == names[1])
    # Scores lie 1 higher by the second model, in bins that lie 1 higher: no count of the first one's is among them.
    assert first.first == 0
    assert sum(first.scores) <= 8


def test_power_loss_begins_anew_and_a_model_without_bins_is_not_counted(
    broker: Broker,
    tmp_path: Path,
    publisher: PublisherKey,
):
    seen: list[int] = []

    async def meanwhile(_cloud: TinyCloud, board: SimulatedBoard) -> None:
        await board.run(wakes=3)
        board.cut_power()
        await board.run(wakes=4)
        seen.append(counted(board))

    live(tmp_path / "with", broker.port, publisher, [model(publisher, 1)], meanwhile=meanwhile)
    live(tmp_path / "without", broker.port, publisher, [model(publisher, 1, bins=False)], meanwhile=meanwhile)
    assert seen == [3, 0], "the wake after a power loss takes no window"


def test_a_head_that_flash_spoiled_is_no_reason_not_to_judge(
    broker: Broker,
    tmp_path: Path,
    publisher: PublisherKey,
):
    async def meanwhile(_cloud: TinyCloud, board: SimulatedBoard) -> None:
        for head in board.folder.rglob("head"):
            head.write_bytes(bytes(head.stat().st_size))
        before = remembered(board.folder)
        await board.run(wakes=3)
        after = remembered(board.folder)
        assert after[wire.ROUTE_DEVICE] - before[wire.ROUTE_DEVICE] == 3

    live(tmp_path, broker.port, publisher, [model(publisher, 1)], meanwhile=meanwhile)

"""A shadow model in the whole firmware: it scores beside the active model, sends where they disagree, and decides
nothing; a board gets rid of one that kills it."""

from __future__ import annotations

import asyncio
import random
import struct
from array import array
from pathlib import Path
from typing import Any

import pytest

from cloud import wire_types as w
from contract import wire
from contract.features import Features
from model_export import keys
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey
from tests.device.test_over_the_air import N_FEATURES, offered, trusting
from tests.device.update import forge
from tests.support import boards
from tests.support.boards import SPEED, WINDOW, press
from tests.support.broker import Broker
from tests.support.tiny_cloud import TinyCloud, without_opinion
from tools.simulate import SimulatedBoard, supervised

# Of noise evenly spread over 200 about boards.CALM: 6 % of the windows have a mean above the one, and 11 % a value
# above the other.
CHAMPION_THRESHOLD = 1045.0
CHALLENGER_THRESHOLD = 1197.0
WAKES = 100
SETTINGS = {"interval_ms": 120_000, "sync_interval_ms": 600_000}  # a HEALTH record is due after 30 wakes
FAST = 20 * SPEED  # the sleeps between its windows pass in 3 ms


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> PublisherKey:
    return keys.create(tmp_path_factory.mktemp("keys"), "main")


def made(publisher: PublisherKey, feature: int, threshold: float, version: str, sequence: int, body: str = "") -> bytes:
    """An artifact for boards.SCHEMA whose score is one of the features."""
    vectors = [([n + at for at in range(N_FEATURES)], float(n + feature)) for n in (0, 5, -7)]
    fields = forge.manifest(
        version=version,
        sequence=sequence,
        schema=boards.SCHEMA,
        n_features=N_FEATURES,
        threshold=threshold,
        margin=0.0,
    )
    payload = forge.payload(
        sequence, body=(body + "\n    " if body else "") + f"return f[{feature}] + 0.0", n_features=N_FEATURES
    )
    return pack(fields, golden_bytes(vectors), payload, publisher)  # pyright: ignore[reportArgumentType]


def champion(publisher: PublisherKey) -> bytes:
    return made(publisher, 0, CHAMPION_THRESHOLD, "1.0.0", 1)  # the mean of the flow


def challenger(publisher: PublisherKey, body: str = "") -> bytes:
    return made(publisher, 3, CHALLENGER_THRESHOLD, "2.0.0", 2, body)  # its greatest value


def recording() -> list[list[int]]:
    """Rows (flow, row number) of noise, so that the two models disagree about some windows."""
    noise = random.Random(3)
    return [[boards.CALM + noise.randint(-200, 200), n] for n in range(8000)]


def features_of(rows: list[tuple[int, ...]]) -> list[array[int]]:
    """The features of each window of rows, one after the other."""
    features = Features(boards.SCHEMA)
    found: list[array[int]] = []
    for at in range(0, len(rows) - WINDOW + 1, WINDOW):
        window = array("i", [value for row in rows[at : at + WINDOW] for value in row])
        vector = array("i", [0] * N_FEATURES)
        features.compute_into(window, vector)
        found.append(vector)
    return found


def disagreement(vector: array[int]) -> int | None:
    """The reason under which a window is sent, None where the models agree: worked out without the board."""
    champion_says, challenger_says = vector[0] > CHAMPION_THRESHOLD, vector[3] > CHALLENGER_THRESHOLD
    if champion_says == challenger_says:
        return None
    return wire.WHY_SHADOW_ANOMALY if challenger_says else wire.WHY_SHADOW_NORMAL


def told(cloud: TinyCloud) -> list[w.Query]:
    return [query for query in cloud.of("pump-1", wire.QUERY) if query.reason >= wire.WHY_SHADOW_ANOMALY]


def shadow_steps(cloud: TinyCloud) -> list[tuple[int, int]]:
    return [(u.state, u.reason) for u in cloud.of("pump-1", wire.UPDATE) if u.state >= wire.UPDATE_SHADOW]


async def installed(cloud: TinyCloud, board: SimulatedBoard, publisher: PublisherKey) -> w.Offer:
    """Brings the board to its champion."""
    cloud.answers = without_opinion  # in silence the board would listen for 3 s whenever its verdicts waver
    offer = offered(cloud, champion(publisher))
    await cloud.want("pump-1", 1, {}, offer)
    states: list[int] = []
    for _ in range(30):
        await board.run(wakes=1)
        states = [record.state for record in cloud.of("pump-1", wire.UPDATE)]
        if wire.UPDATE_COMMIT in states:
            return offer
    raise AssertionError(states)


def run(broker: Broker, folder: Path, publisher: PublisherKey, shadow: bool, **settings: Any) -> TinyCloud:
    """A board's life with its champion, with or without a shadow."""

    async def live() -> TinyCloud:
        settings_of = SETTINGS | settings
        made_board = boards.make(
            folder / "pump-1", broker.port, recording(), settings=settings_of, **trusting(publisher)
        )
        async with TinyCloud(broker.port) as cloud, supervised([made_board], FAST) as [board]:
            offer = await installed(cloud, board, publisher)
            if shadow:
                await cloud.want("pump-1", 2, {}, offer, shadow=offered(cloud, challenger(publisher)))
            await board.run(wakes=WAKES)
            await press(board, 2)
            log = (made_board / "log.txt").read_text()
            assert not log, log[-2000:]
        return cloud

    return asyncio.run(live())


@pytest.fixture(scope="module")
def with_shadow(tmp_path_factory: pytest.TempPathFactory, free_port: Any, publisher: PublisherKey) -> TinyCloud:
    broker = Broker(tmp_path_factory.mktemp("nats"), free_port(), free_port())
    broker.start()
    try:
        return run(broker, tmp_path_factory.mktemp("boards"), publisher, True)
    finally:
        broker.kill()


def test_what_is_sent_are_the_windows_on_which_an_offline_comparison_finds_them_to_disagree(with_shadow: TinyCloud):
    cloud = with_shadow
    assert shadow_steps(cloud) == [(wire.UPDATE_SHADOW, wire.REASON_OK)]
    hello = cloud.hellos["pump-1"][-1]
    assert hello.shadow is not None
    assert (hello.shadow.version, hello.model.version if hello.model else "") == ("2.0.0", "1.0.0")
    windows = features_of([values for _, values in cloud.of("pump-1", wire.READINGS)])
    expected = [(tuple(vector), disagreement(vector)) for vector in windows]
    differ = [pair for pair in expected if pair[1] is not None]
    sent = [(struct.unpack(f"<{N_FEATURES}i", query.features), query.reason) for query in told(cloud)]
    health = [record for record in cloud.of("pump-1", wire.HEALTH) if record.shadow]
    assert {record.shadow for record in health} == {hello.shadow.sha8}
    compared, disagreed = (
        sum(getattr(record, name) for record in health) for name in ("shadow_compared", "shadow_disagreed")
    )
    print(f"{len(windows)} windows, {compared} compared, {disagreed} disagreements counted, {len(sent)} sent")
    # From the first window after it was installed on, all of them and nothing else; the last are not counted yet.
    assert sent == differ[differ.index(sent[0]) :]
    assert len(sent) > 5
    first = next(at for at, pair in enumerate(expected) if pair in sent) - 1
    assert compared > 60
    assert disagreed <= len(sent) < disagreed + 6
    begin = len(windows) - WAKES
    starts = range(begin, first + 1)
    assert disagreed in {sum(pair[1] is not None for pair in expected[at : at + compared]) for at in starts}
    assert {query.model for query in told(cloud)} == {hello.shadow.sha8}
    assert {query.route for query in told(cloud)} == {wire.ROUTE_DEFER}


def test_the_champion_decides_bit_for_bit_as_without_a_shadow(
    broker: Broker, tmp_path: Path, publisher: PublisherKey, with_shadow: TinyCloud
):
    alone = run(broker, tmp_path, publisher, False)
    assert not told(alone)
    assert shadow_steps(alone) == []

    def decisions(cloud: TinyCloud) -> list[tuple[Any, ...]]:
        return [
            (event.kind, event.score, event.threshold, event.route, event.reason, event.model, event.features)
            for event in cloud.of("pump-1", wire.EVENT)
        ]

    with_one, without = decisions(with_shadow), decisions(alone)
    both = min(len(with_one), len(without))
    assert both > 6
    assert with_one[:both] == without[:both]
    # The wake that proves the shadow measures nothing: the board alone is a window or two ahead, and no more.
    assert abs(len(with_one) - len(without)) <= 2
    assert all(boards.faults(health) == {} for health in with_shadow.of("pump-1", wire.HEALTH))


def test_nothing_of_a_sensitive_board_is_sent(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    cloud = run(broker, tmp_path, publisher, True, sensitive=True)
    health = [record for record in cloud.of("pump-1", wire.HEALTH) if record.shadow]
    assert sum(record.shadow_disagreed for record in health) > 5
    assert told(cloud) == []


def test_a_shadow_that_kills_the_board_is_gone_after_three_wakes(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    deadly = challenger(publisher, "if f[1] > 100:\n        import os\n        os.system('kill -9 $PPID')")

    async def live() -> TinyCloud:
        folder = boards.make(tmp_path / "pump-1", broker.port, recording(), **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            offer = await installed(cloud, board, publisher)
            await cloud.want("pump-1", 2, {}, offer, shadow=offered(cloud, deadly))
            await board.run(wakes=40)
            await cloud.want("pump-1", 3, {}, offer, shadow=offered(cloud, deadly))
            await board.run(wakes=12)
            await press(board)
        return cloud

    cloud = asyncio.run(live())
    assert shadow_steps(cloud) == [
        (wire.UPDATE_SHADOW, wire.REASON_OK),
        (wire.UPDATE_SHADOW_ENDED, wire.REASON_TRIAL_FAILED),
        (wire.UPDATE_SHADOW_ENDED, wire.REASON_KNOWN_BAD),
    ]
    hello = cloud.hellos["pump-1"][-1]
    assert (hello.shadow, hello.model.version if hello.model else "") == (None, "1.0.0")
    resets = cloud.of("pump-1", wire.HEALTH)[-1].resets
    assert resets in (0, 3), "three wakes died, and their board went on"


def test_a_shadow_is_taken_off_a_board_that_shall_have_none(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    async def live() -> tuple[TinyCloud, Path]:
        folder = boards.make(tmp_path / "pump-1", broker.port, recording(), **trusting(publisher))
        async with TinyCloud(broker.port) as cloud, supervised([folder], SPEED) as [board]:
            offer = await installed(cloud, board, publisher)
            await cloud.want("pump-1", 2, {}, offer, shadow=offered(cloud, challenger(publisher)))
            await board.run(wakes=20)
            await cloud.want("pump-1", 3, {}, offer)
            await board.run(wakes=8)
            await press(board)
        return cloud, folder

    cloud, folder = asyncio.run(live())
    assert shadow_steps(cloud) == [
        (wire.UPDATE_SHADOW, wire.REASON_OK),
        (wire.UPDATE_SHADOW_ENDED, wire.REASON_OK),
    ]
    assert cloud.hellos["pump-1"][-1].shadow is None
    assert list((folder / "flash" / "models" / "s").iterdir()) == []

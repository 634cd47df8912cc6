"""Who has the last word: answers of higher tiers, deadlines, and the models a board falls back to; by real firmware."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud import wire_types as w
from contract import wire
from model_export import keys
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey
from tests.device.test_over_the_air import N_FEATURES, publish, trusting
from tests.device.update import forge
from tests.support import boards
from tests.support.boards import SPEED
from tests.support.broker import Broker
from tests.support.micropython import evaluate
from tests.support.tiny_cloud import TinyCloud, without_opinion
from tools.simulate import SimulatedBoard, supervised

DAY_MS = 86_400_000
SURE = 1.0  # margins of a model whose scores lie 10,000 and more above its threshold
DOUBTFUL = 1e9
Answers = Callable[[w.Query], list[w.Answer]]


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> PublisherKey:
    return keys.create(tmp_path_factory.mktemp("keys"), "main")


def model(publisher: PublisherKey, sequence: int, margin: float, threshold: float = 0.0) -> bytes:
    """A model that calls each window of boards.SCHEMA anomalous, or with a great threshold normal."""
    offset = 10_000 + sequence
    vectors = [([n] * N_FEATURES, float(3 * n + offset)) for n in (0, 5, -7)]
    fields = forge.manifest(
        version=f"{sequence}.0.0",
        sequence=sequence,
        schema=boards.SCHEMA,
        n_features=N_FEATURES,
        threshold=threshold,
        margin=margin,
    )
    payload = forge.payload(offset, n_features=N_FEATURES)
    return pack(fields, golden_bytes(vectors), payload, publisher)  # pyright: ignore[reportArgumentType]


class Story:
    """What came of a board with the given models, the last of them active, after `wakes` more wakes."""

    def __init__(self, cloud: TinyCloud, board: SimulatedBoard, settled_at: int) -> None:
        self.events: list[w.Event] = [e for e in cloud.of("pump-1", wire.EVENT) if e.t_ms >= settled_at]
        self.queries: list[w.Query] = cloud.of("pump-1", wire.QUERY)
        self.cloud = cloud
        counted = [health.routes for health in cloud.of("pump-1", wire.HEALTH)] + [remembered(board.folder)]
        self.routes = {name: sum(counts) for name, counts in zip(wire.OUTCOME_NAMES, zip(*counted), strict=True)}


def remembered(folder: Path, counter: str = "routes") -> list[int]:
    """What RTC memory counts since the last HEALTH record."""
    return evaluate(
        f"""
        from device.rtc_layout import FIELDS, unpack
        with open({str(folder / "rtc.bin")!r}, "rb") as file:
            result = list(dict(unpack(FIELDS, bytearray(file.read())))[{counter!r}])
        """
    )


def live(
    folder: Path,
    port: int,
    publisher: PublisherKey,
    models: list[bytes],
    answers: Answers = lambda _query: [],
    wakes: int = 4,
    settings: dict[str, Any] | None = None,
    meanwhile: Callable[[TinyCloud, SimulatedBoard], Any] | None = None,
    speed: float = SPEED,
    **config: Any,
) -> Story:
    async def story() -> Story:
        given = {"sync_interval_ms": 4 * boards.INTERVAL_MS} | (settings or {})
        made = boards.make(folder / "pump-1", port, settings=given, **trusting(publisher), **config)
        async with TinyCloud(port) as cloud, supervised([made], speed) as [board]:
            cloud.answers = without_opinion
            for number, data in enumerate(models, 1):
                await publish(cloud, number, data)
                while not cloud.of("pump-1", wire.UPDATE) or last_update(cloud) != (
                    f"{number}.0.0",
                    wire.UPDATE_COMMIT,
                ):
                    assert board.totals.wakes < 40
                    await board.run(wakes=1)
            cloud.answers = answers
            assert board.last is not None
            before = board.last.clock_ms - (1 << 41)
            await (meanwhile(cloud, board) if meanwhile else board.run(wakes=wakes))
            return Story(cloud, board, before)

    return asyncio.run(story())


def since(before: list[int], folder: Path) -> dict[str, int]:
    """What was counted meanwhile, without the zeros."""
    counts = zip(wire.OUTCOME_NAMES, before, remembered(folder), strict=True)
    return {name: after - early for name, early, after in counts if after != early}


def last_update(cloud: TinyCloud) -> tuple[str, int]:
    step = cloud.of("pump-1", wire.UPDATE)[-1]
    return step.version, step.state


def answered(verdict: int, tier: int = wire.ROUTE_CLOUD, seq: int = 0, epoch: int = 0) -> Answers:
    return lambda query: [w.Answer(query.epoch + epoch, query.seq + seq, verdict, 0.5, tier)]


def test_the_answer_of_the_cloud_has_the_last_word_in_the_wake_that_asked(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    """The model calls every window anomalous and is never sure; the cloud says normal, then anomaly."""
    said = {"verdict": wire.VERDICT_NORMAL}
    told: list[int] = []

    async def meanwhile(cloud: TinyCloud, board: SimulatedBoard) -> None:
        cloud.answers = lambda query: [w.Answer(query.epoch, query.seq, said["verdict"], 0.5)]
        await board.run(wakes=4)  # the alarm of the fallback ends
        before = len(cloud.of("pump-1", wire.EVENT))
        await board.run(wakes=6)
        told.append(len(cloud.of("pump-1", wire.EVENT)) - before)
        said["verdict"] = wire.VERDICT_ANOMALY
        await board.run(wakes=1)
        told.append(len(cloud.of("pump-1", wire.EVENT)) - before)

    story = live(
        tmp_path,
        broker.port,
        publisher,
        [model(publisher, 1, DOUBTFUL)],
        meanwhile=meanwhile,
        settings={"deadline_ms": 60_000},
    )
    assert told == [0, 1], "told in the very session that asked"
    event = story.events[-1]
    assert (event.kind, event.route, event.reason) == (wire.EVENT_ANOMALY, wire.ROUTE_CLOUD, wire.WHY_MARGIN)
    assert len(event.features) == 4 * N_FEATURES
    assert story.routes["cloud"] >= 10


def test_fog_is_asked_first_and_the_cloud_is_heard_where_fog_does_not_know(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    def one(query: w.Query, verdict: int, tier: int) -> w.Answer:
        return w.Answer(query.epoch, query.seq, verdict, 0.5, tier)

    counted: list[dict[str, int]] = []

    async def meanwhile(cloud: TinyCloud, board: SimulatedBoard) -> None:
        for answers in (
            lambda query: [one(query, wire.VERDICT_ANOMALY, wire.ROUTE_FOG)],
            lambda query: [
                one(query, wire.VERDICT_UNKNOWN, wire.ROUTE_FOG),
                one(query, wire.VERDICT_ANOMALY, wire.ROUTE_CLOUD),
            ],
            lambda query: [one(query, wire.VERDICT_ANOMALY, wire.ROUTE_CLOUD)] * 2,
        ):
            cloud.answers = answers  # pyright: ignore[reportUnknownLambdaType]
            before = remembered(board.folder)
            await board.run(wakes=3)
            counted.append(since(before, board.folder))

    settings = {"fog": True, "deadline_ms": 60_000}
    data = [model(publisher, 1, DOUBTFUL)]
    story = live(tmp_path, broker.port, publisher, data, settings=settings, meanwhile=meanwhile)
    assert {query.route for query in story.queries} == {wire.ROUTE_FOG}
    fog, cloud, twice = counted
    assert fog == {"fog": 3}
    assert cloud == {"cloud": 3}
    assert twice.pop("stray answers") in (2, 3), "the second answer, or the one that is late for its session"
    assert twice == {"cloud": 3}


def test_without_a_usable_answer_the_previous_model_judges_where_it_is_sure(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    """The active model doubts that all is normal; the one before is sure that nothing is."""
    unusable: dict[str, Answers] = {
        "silence": lambda _query: [],
        "a cloud that does not know": answered(wire.VERDICT_UNKNOWN),
        "the answer to another question": answered(wire.VERDICT_ANOMALY, seq=1),
        "the answer to another epoch": answered(wire.VERDICT_ANOMALY, epoch=1),
        "a verdict of a later version": answered(77),
    }
    strays: dict[str, int] = {}

    async def meanwhile(cloud: TinyCloud, board: SimulatedBoard) -> None:
        for name, answers in unusable.items():
            cloud.answers = answers
            before = remembered(board.folder)
            await board.run(wakes=2)
            counted = since(before, board.folder)
            strays[name] = counted.pop("stray answers", 0)
            assert counted.pop("fallback") == 2, name
            assert counted.get("unanswered", 0) + counted.get("drop", 0) == 2, (name, counted)

    before, active = model(publisher, 1, SURE), model(publisher, 2, DOUBTFUL, 1e8)
    settings = {"deadline_ms": 1000}
    story = live(tmp_path, broker.port, publisher, [before, active], settings=settings, meanwhile=meanwhile)
    assert story.routes["unanswered"] > 0
    cleared = [event for event in story.cloud.of("pump-1", wire.EVENT) if event.kind == wire.EVENT_CLEARED]
    assert cleared == [], "the previous model's verdict keeps the alarm up"
    print("stray answers of two wakes:", strays)
    assert strays["silence"] == 0
    assert strays["the answer to another question"] > 0


def test_without_a_previous_model_the_safe_limits_judge(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    data = [model(publisher, 1, DOUBTFUL)]
    story = live(tmp_path, broker.port, publisher, data, wakes=3, settings={"deadline_ms": 1000})
    assert story.routes["fallback"] >= 3
    assert story.events == [], "the model calls it an anomaly and doubts it, the limits say that all is well"


def test_without_anybody_else_the_active_model_has_the_last_word(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    data = [model(publisher, 1, DOUBTFUL)]
    story = live(tmp_path, broker.port, publisher, data, wakes=1, limits={})
    assert story.routes["unanswered"] > 0
    assert story.routes["fallback"] == 0
    told = story.cloud.of("pump-1", wire.EVENT)[0]
    assert (told.kind, told.route, told.reason) == (wire.EVENT_ANOMALY, wire.ROUTE_DEVICE, wire.WHY_DEADLINE)
    assert told.model == hashlib.sha256(data[0]).digest()[:8]


def test_a_board_on_a_low_battery_asks_once_and_takes_the_answer_of_a_later_session(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    async def meanwhile(cloud: TinyCloud, board: SimulatedBoard) -> None:
        cloud.answers = answered(wire.VERDICT_NORMAL)
        await board.run(wakes=3)
        cloud.answers = lambda _query: []
        (board.folder / "sim.json").write_text('{"battery_mv": 3400}')
        asked = len(cloud.of("pump-1", wire.QUERY))
        await board.run(wakes=10)
        await boards.press(board)
        queries = cloud.of("pump-1", wire.QUERY)[asked:]
        assert [query.route for query in queries] == [wire.ROUTE_DEFER], "one spell of doubt, one question"
        await cloud.do("pump-1", w.Answer(queries[0].epoch, queries[0].seq, wire.VERDICT_ANOMALY, 7.5))
        await asyncio.sleep(0.3)
        await boards.press(board)

    story = live(tmp_path, broker.port, publisher, [model(publisher, 1, DOUBTFUL)], meanwhile=meanwhile)
    event = story.events[0]
    assert (event.kind, event.route, event.score) == (wire.EVENT_ANOMALY, wire.ROUTE_CLOUD, 7.5)
    assert event.features == b""
    assert story.routes["defer"] >= 10


def test_a_model_that_fails_to_score_is_passed_over_for_the_one_before(
    broker: Broker, tmp_path: Path, publisher: PublisherKey
):
    async def meanwhile(cloud: TinyCloud, board: SimulatedBoard) -> None:
        slot = next(board.folder.glob("flash/models/*/slot_b.mpy"))
        good = (board.folder / "flash/models/a/slot_a.mpy").read_bytes()
        assert slot.read_bytes() != good
        slot.write_bytes(forge.payload(0, n_features=N_FEATURES, body="raise ValueError"))
        await board.run(wakes=2)
        faults.extend(remembered(board.folder, "faults"))

    faults: list[int] = []

    before, active = model(publisher, 1, SURE), model(publisher, 2, SURE, 1e8)
    story = live(tmp_path, broker.port, publisher, [before, active], meanwhile=meanwhile, log=False)
    first = story.events[0]
    assert (first.kind, first.model) == (wire.EVENT_ANOMALY, hashlib.sha256(before).digest()[:8])
    assert faults[wire.FAULT_MODEL] == 2


def test_a_sensitive_board_in_doubt_asks_nobody(broker: Broker, tmp_path: Path, publisher: PublisherKey):
    settings = {"sensitive": True, "fog": True}
    story = live(tmp_path, broker.port, publisher, [model(publisher, 1, DOUBTFUL)], settings=settings)
    assert story.queries == []
    assert story.cloud.of("pump-1", wire.READINGS) == []
    assert all(event.features == b"" for event in story.cloud.of("pump-1", wire.EVENT))
    assert story.routes["device"] >= 4

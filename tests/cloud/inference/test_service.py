"""Questions of boards, answered by a real ingest process over a real broker; by hand, and by a board that doubts."""

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud import wire_types as w
from cloud.broker import device_password
from cloud.clock import now_ms
from cloud.inference.tables import answers
from cloud.models.blobs import Blobs
from cloud.models.service import Audience, Registry
from cloud.store import tables as t
from cloud.store.engine import make_engine, writing
from contract import wire
from contract.features import Features
from model_export import keys
from tests.cloud.ingest.test_service import BOARD, board, stored
from tests.device.test_verdict import DOUBTFUL, model
from tests.support import boards, parts, references
from tests.support.artifacts import SCHEMA, SCHEMA_HASH, gaussian_of
from tests.support.messages import hello
from tools.simulate import supervised

BOUND = 500
NOTED_S = 10.0
CLOUD_MODEL = "big"
Made = Callable[..., parts.Parts]


@pytest.fixture
def made(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Made]:
    running: list[parts.Parts] = []

    def make(devices: tuple[str, ...] = (BOARD,), **environ: str) -> parts.Parts:
        found = parts.Parts(tmp_path / "data", free_port(), devices, **environ)
        running.append(found)
        found.start_broker()
        return found

    yield make
    for found in running:
        found.stop()


def question(seq: int, *features: int, deadline_ms: int = 0, **changes: Any) -> w.Query:
    fields: dict[str, Any] = {
        "score": 9.4,
        "model": b"12345678",
        "reason": wire.WHY_MARGIN,
        "route": wire.ROUTE_CLOUD,
    } | changes
    return w.Query(1, seq, 1000, deadline_ms, features=struct.pack(f"<{len(features)}i", *features), **fields)


def said(heard: list[Any], seq: int) -> list[w.Answer]:
    return [message for message in heard if isinstance(message, w.Answer) and message.seq == seq]


async def asked(running: parts.Parts, *questions: w.Query, schema_hash: str = SCHEMA_HASH) -> list[Any]:
    """What a board hears that says HELLO and asks."""
    async with board(running.settings) as talking:
        await talking.send(hello(schema_hash=bytes.fromhex(schema_hash)))
        for asking in questions:
            await talking.send(asking)
        for asking in questions:
            await talking.hear(lambda message, seq=asking.seq: bool(said([message], seq)))
        await asyncio.sleep(0.2)
        return talking.heard


def started(running: parts.Parts) -> parts.Parts:
    running.start_ingest()
    asyncio.run(running.seconds_to_ready())
    return running


def test_the_reference_of_the_boards_features_answers_and_the_answer_is_kept(made: Made):
    running = made()
    references.publish(running.settings, BOUND, SCHEMA)
    started(running)
    heard = asyncio.run(asked(running, question(0, BOUND, 0), question(1, BOUND + 1, 0, deadline_ms=60_000)))
    (calm,), (loud,) = said(heard, 0), said(heard, 1)
    assert (calm.verdict, calm.score, calm.tier) == (wire.VERDICT_NORMAL, 0.0, wire.ROUTE_CLOUD)
    assert (loud.verdict, loud.score) == (wire.VERDICT_ANOMALY, 1.0)
    rows = stored(running, answers)
    assert [(row["seq"], row["name"], row["why"]) for row in rows] == [(0, CLOUD_MODEL, ""), (1, CLOUD_MODEL, "")]
    received = [row["received_ms"] for row in stored(running, t.queries)]
    print(
        "ms from the commit of a question to its answer:",
        [row["sent_ms"] - ms for row, ms in zip(rows, received, strict=True)],
    )


def test_a_reference_may_be_a_gaussian(made: Made):
    running = made()
    references.publish(running.settings, 0, SCHEMA, payload=gaussian_of(references.THRESHOLD))
    started(running)
    heard = asyncio.run(asked(running, question(0, 512, -512), question(1, 513, 512)))
    (calm,), (loud,) = said(heard, 0), said(heard, 1)
    assert (calm.verdict, calm.score) == (wire.VERDICT_NORMAL, 0.5)
    assert (loud.verdict, loud.score) == (wire.VERDICT_ANOMALY, (513**2 + 512**2) / 2**20)


def test_a_question_that_comes_twice_is_answered_once(made: Made):
    running = made()
    references.publish(running.settings, BOUND, SCHEMA)
    started(running)
    heard = asyncio.run(asked(running, question(0, 1, 2), question(0, 1, 2)))
    assert len(said(heard, 0)) == 1
    assert len(stored(running, answers)) == 1


def test_where_nobody_can_decide_the_answer_says_so_and_the_reason_is_kept(made: Made):
    running = started(made())
    heard = asyncio.run(asked(running, question(0, 1, 2)))
    assert said(heard, 0)[0].verdict == wire.VERDICT_UNKNOWN
    artifact = references.publish(running.settings, BOUND, SCHEMA)
    from hashlib import sha256

    asking = [question(1, 1, 2, 3), question(2, 1, 2, model=sha256(artifact).digest()[:8]), question(3, 1, 2)]
    heard = asyncio.run(asked(running, *asking))
    assert [said(heard, seq)[0].verdict for seq in (1, 2, 3)] == [wire.VERDICT_UNKNOWN] * 2 + [wire.VERDICT_NORMAL]
    whys = [row["why"] for row in stored(running, answers)]
    assert "--alias reference" in whys[0]
    assert whys[1] == "3 features came, not 2"
    assert whys[2] == f"{CLOUD_MODEL} 1.0.0 is the model that asks"
    assert whys[3] == ""


def test_a_reference_that_does_not_give_its_golden_score_answers_nobody(made: Made):
    running = made()
    references.publish(running.settings, BOUND, SCHEMA, golden=1.0)
    started(running)
    heard = asyncio.run(asked(running, question(0, 1, 2)))
    assert said(heard, 0)[0].verdict == wire.VERDICT_UNKNOWN
    assert "golden vector 0 scores 0, not 1" in stored(running, answers)[0]["why"]


def test_what_waited_while_ingest_was_dead_is_answered_unless_its_deadline_has_passed(made: Made):
    running = made()
    references.publish(running.settings, BOUND, SCHEMA)

    async def wait() -> None:
        """As a process leaves it that was killed behind the commit."""
        common = {"device": BOARD, "epoch": 1, "t_ms": 0, "score": 1.0, "model_sha8": "0" * 16, "reason": 1, "route": 2}
        rows = [
            common | {"seq": seq, "deadline_ms": deadline_ms, "received_ms": now_ms() - 60_000, "features": bytes(8)}
            for seq, deadline_ms in ((0, 0), (1, 59_000), (2, 600_000))
        ]
        engine = make_engine(running.settings)
        async with writing(engine).begin() as connection:
            await connection.execute(sa.insert(t.queries), rows)
            await connection.execute(sa.update(t.devices).values(schema_hash=SCHEMA_HASH))
        await engine.dispose()

    async def story() -> list[Any]:
        async with board(running.settings) as talking:
            running.start_ingest()
            for seq in (0, 2):
                await talking.hear(lambda message, seq=seq: bool(said([message], seq)))
            return talking.heard

    asyncio.run(wait())
    heard = asyncio.run(story())
    assert said(heard, 1) == []
    deadline = time.monotonic() + NOTED_S
    while any(row["sent_ms"] is None for row in stored(running, answers)[::2]) and time.monotonic() < deadline:
        time.sleep(0.05)  # an answer is on its way before it is noted as sent
    rows = stored(running, answers)
    assert [(row["verdict"], row["why"], row["sent_ms"] is not None) for row in rows] == [
        (wire.VERDICT_NORMAL, "", True),
        (wire.VERDICT_UNKNOWN, "its deadline had passed", False),
        (wire.VERDICT_NORMAL, "", True),
    ]


@pytest.mark.parametrize("tier", ["fog", "cloud"])
def test_a_board_in_doubt_takes_the_word_of_the_tier_on_its_broker(made: Made, tmp_path: Path, tier: str):
    """Its own model calls every window anomalous and doubts it; the reference knows that these are normal."""
    running = made(("pump-1",), EDGEWISE_TIER=tier)
    settings = running.settings
    references.publish(settings, 2**20, boards.SCHEMA)
    started(running)
    publisher = keys.create(tmp_path / "keys", "main")
    login = {"host": settings.host, "port": settings.mqtt_port, "user": "pump-1"}

    async def live() -> None:
        folder = boards.make(
            tmp_path / "pump-1",
            settings.mqtt_port,
            settings={"fog": tier == "fog", "deadline_ms": 60_000},
            broker=login | {"password": device_password(settings, "pump-1", 1)},
            trusted_keys={publisher.key_id.hex(): publisher.public.hex()},
        )
        engine = make_engine(settings)
        registry = Registry(engine, Blobs(settings.blobs_url))
        async with writing(engine).begin() as connection:
            from cloud.models import keys as trusted

            await trusted.trust(connection, publisher.public.hex(), "main", 1)
        async with supervised([folder], boards.SPEED) as [pump]:
            await pump.run(wakes=2)
            await registry.publish([model(publisher, 1, DOUBTFUL)], [], Audience.parse("pump-1"))
            for _ in range(40):
                await pump.run(wakes=1)
                if len(await found(engine)) >= 6:
                    break
        await engine.dispose()

    async def found(engine: Any) -> list[Any]:
        async with engine.connect() as connection:
            return list(await connection.execute(sa.select(answers)))

    asyncio.run(live())
    kept = stored(running, answers, "pump-1")
    assert len(kept) >= 6
    assert {wire.ROUTE_NAMES[row["tier"]] for row in kept} == {tier}
    assert {row["verdict"] for row in kept} == {wire.VERDICT_NORMAL}
    assert {wire.ROUTE_NAMES[row["route"]] for row in stored(running, t.queries, "pump-1")} == {tier}
    events = [(row["kind"], row["route"]) for row in stored(running, t.events, "pump-1")]
    assert events == [], "the tier's word, and not the board's own, went into the alarm"
    assert Features(boards.SCHEMA).n_features == 12

"""The cloud and a board agree at the end, whatever becomes of what they say to each other on the way.

The whole firmware and the real registry, rollouts and ingest; between them a network that reorders, repeats, delays and
loses messages of either side, power that goes at any write to flash, and operators who change their minds. Then the
network is fair. A broker that keeps its word does less than this one: it loses nothing it has confirmed.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.errors import EdgewiseError
from cloud.ingest.downlink import publish_wants
from cloud.ingest.mqtt import Delivery
from cloud.ingest.session import Parts, Session
from cloud.models import keys
from cloud.models.blobs import Blobs
from cloud.models.follower import follow_once
from cloud.models.service import Audience, Registry
from cloud.rollouts.plan import Plan, in_bucket_order
from cloud.rollouts.service import Rollouts
from cloud.settings import load_settings
from cloud.store import tables as t
from cloud.store.engine import make_engine, writing
from contract import wire
from contract.features import Features
from model_export.artifact import golden_bytes, pack
from model_export.keys import PublisherKey
from tests.device.update import forge
from tests.support.fleet import Fleet, settings_in
from tests.support.micropython import environment
from tests.support.whole_board import CALM, Downlink, WholeBoard
from tools.provision import BoardPlan, Broker, make_board
from tools.scenario.program import Program

SCHEMA = "v1;w=4;c=flow:l/s:100;f=mean,max,min"
INTERVAL_MS = 600_000
OTHERS = [f"pump-{number:02}" for number in range(24)]
CANARIES = 10
# One of the canaries in each of the rollouts there may be.
BOARD = next(
    name
    for name in (f"board-{number}" for number in range(1000))
    if all(in_bucket_order(rollout, [name, *OTHERS]).index(name) < CANARIES for rollout in (1, 2, 3))
)
SOUND = ("1.0.0", "2.0.0", "3.0.0")
FAULTS = {"4.0.0": "raises", "5.0.0": "dies"}
VERSIONS = (*SOUND, *FAULTS)
FAIR_WAKES = 60
QUIET_WAKES = 3  # without a change: it is over


def artifact_of(key: PublisherKey, number: int) -> bytes:
    """A model whose score tells its number."""
    n_features = Features(SCHEMA).n_features
    vectors = [([n] * n_features, float(3 * n + number)) for n in (0, 5, -7)]
    fields = forge.manifest("flow", VERSIONS[number], number + 1, schema=SCHEMA, n_features=n_features, threshold=1e6)
    payload = forge.payload(number, n_features=n_features, pad=6000 if number == 2 else 0)
    return pack(fields, golden_bytes(vectors), payload, key)  # pyright: ignore[reportArgumentType]


AFTER = ARRIVE, ARRIVE_BACKWARDS, LOST, LATER = range(4)


class Turn(NamedTuple):
    """What happens between two wakes, how the next one goes, and what the network does in it."""

    operator: str
    wake: tuple[str, int, int] = ("calm", 0, 0)
    network: tuple[int, ...] = ()
    after: int = 0
    """What becomes of messages of the board that are still under way: one of AFTER."""


class Chance:
    """Decisions from a list; 0, which is always the harmless one, when it is used up."""

    def __init__(self, given: Sequence[int] = ()) -> None:
        self._left = list(given[::-1])

    def __call__(self, choices: int) -> int:
        return self._left.pop() % choices if self._left else 0


class Post:
    """The broker and the air: ingest's link on one side, the board's on the other."""

    def __init__(self, ingest: Session) -> None:
        self.chance = Chance()
        self._ingest = ingest
        self._retained: dict[str, bytes] = {}
        self._open = False
        self._down: list[Downlink] = []
        self._old: list[Downlink] = []
        self._held: list[bytes] = []
        self._talked = False

    def talked(self) -> bool:
        """Whether there was a session since this was asked last."""
        talked, self._talked = self._talked, False
        return talked

    # As cloud.ingest.mqtt.Link

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        kind = wire.split_topic(topic)[1]
        if wire.split_topic(topic)[0] != BOARD:
            return
        if retain:
            self._retained[kind] = payload
        message = Downlink(kind, payload, False)
        self._old = [*self._old[-30:], message]
        if self._open:
            self._down.append(message)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.send(topic, payload, retain=retain)

    def acknowledge(self, _deliveries: Any) -> None:
        pass

    # As tests.support.whole_board.Air

    async def open(self) -> bool:
        if self.chance(8) == 7:
            return False
        self._open = self._talked = True
        self._down = [Downlink(kind, payload, True) for kind, payload in self._retained.items()]
        return True

    async def up(self, payload: bytes) -> bool:
        match self.chance(8):
            case 0 | 1 | 2:
                await self._deliver(payload)
            case 3:
                self._held.append(payload)
            case 4:
                pass
            case 5:
                await self._deliver(payload)
                self._held.append(payload)
            case 6:
                await self._deliver(payload)
                await self.release(backwards=True)
            case _:
                return False
        return True

    async def down(self) -> Downlink | None:
        match self.chance(8):
            case 4 if self._down:
                del self._down[0]
            case 5 if self._old:
                return self._old[self.chance(len(self._old))]
            case 6 if self._down:
                return self._down.pop()
            case 7:
                return None
            case _:
                pass
        return self._down.pop(0) if self._down else None

    async def closed(self, after: int = ARRIVE) -> None:
        """After the wake: what is still under way arrives, or not."""
        self._open = False
        self._down = []
        if after == LOST:
            self._held = []
        elif after != LATER:
            await self.release(backwards=after == ARRIVE_BACKWARDS)

    async def release(self, backwards: bool = False) -> None:
        held, self._held = self._held, []
        for payload in held[::-1] if backwards else held:
            await self._deliver(payload)

    async def _deliver(self, payload: bytes) -> None:
        await self._ingest.take(self, [Delivery(wire.topic(BOARD, wire.KIND_UP), payload, 0, 1, False)])  # pyright: ignore[reportArgumentType]


class Cloud:
    """The real server on a store, its processes called in turn."""

    def __init__(self, engine: AsyncEngine, blobs: Blobs) -> None:
        self.engine = engine
        self.registry = Registry(engine, blobs)
        self.rollouts = Rollouts(engine)
        self.post = Post(Session(Parts.on(engine, blobs)))
        self._followed: dict[str, int] = {}
        fallback, steps = SOUND[0], (40, 100)
        plan = Plan(name="flow", version="", fallback=fallback, steps=steps, min_canaries=CANARIES, period_ms=60_000)
        self._plan = plan
        doing: dict[str, Callable[[], Awaitable[Any]]] = {"nothing": self._nothing, "web restarts": self._restart}
        for version in VERSIONS:
            doing[f"promote {version}"] = lambda version=version: self.registry.promote("flow", version, "champion")
            doing[f"deploy {version}"] = lambda version=version: self.registry.deploy(
                "flow", version, Audience(devices=(BOARD,))
            )
        for version in ("2.0.0", "4.0.0", "5.0.0"):
            doing[f"roll out {version}"] = lambda version=version: self._roll_out(version)
        for move in ("pause", "resume", "abort", "roll_back"):
            doing[move] = lambda move=move: self._move(move)
        doing["follow"] = lambda: self.registry.follow(BOARD)
        self.doing = doing

    async def operate(self, what: str) -> None:
        """One thing an operator does; what is not possible now is refused and changes nothing."""
        with suppress(EdgewiseError):
            await self.doing[what]()

    async def work(self) -> None:
        """What the processes do all the time."""
        await follow_once(self.engine, self.registry, self._followed)
        await self.registry.make_patches()
        for rollout in await self.rollouts.active():
            await self.rollouts.step(rollout)
        await publish_wants(self.engine, self.post)  # pyright: ignore[reportArgumentType]

    async def row(self) -> sa.RowMapping:
        """What the cloud believes of the board, and wants of it."""
        query = sa.select(t.devices.c.model_sha8, t.devices.c.sequence, t.desired.c.artifact_sha256, t.desired.c.why)
        query = query.outerjoin(t.desired, t.desired.c.device == t.devices.c.device)
        async with self.engine.connect() as connection:
            return (await connection.execute(query.where(t.devices.c.device == BOARD))).mappings().one()

    async def last_step(self, digest: str) -> tuple[int, int] | None:
        """(state, reason) of the board's last report on an artifact."""
        columns = t.updates.c
        query = sa.select(columns.state, columns.reason).where(columns.device == BOARD, columns.sha8 == digest[:16])
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query.order_by(columns.epoch, columns.seq))).all()
        return None if not rows else (rows[-1].state, rows[-1].reason)

    async def _nothing(self) -> None:
        pass

    async def _restart(self) -> None:
        self._followed = {}

    async def _roll_out(self, version: str) -> None:
        rollout = await self.rollouts.plan(structs.replace(self._plan, version=version))
        await self.rollouts.start(rollout)

    async def _move(self, name: str) -> None:
        for rollout in await self.rollouts.active():
            await getattr(self.rollouts, name)(rollout)

    async def end_rollouts(self) -> None:
        await self._move("abort")


@dataclass(frozen=True)
class Beginning:
    """A store and a board that agree on version 1.0.0, to be copied for each story."""

    folder: Path
    board: WholeBoard
    digests: dict[str, str]

    @asynccontextmanager
    async def cloud(self, folder: Path) -> AsyncGenerator[Cloud]:
        of = load_settings({}, data_dir=folder)
        engine = make_engine(of)
        try:
            yield Cloud(engine, Blobs(of.blobs_url))
        finally:
            await engine.dispose()


async def fair(cloud: Cloud, board: WholeBoard, wakes: int = FAIR_WAKES) -> None:
    """Everything arrives, in order, until nothing changes any more."""
    post = cloud.post
    post.chance = Chance()
    before: Any = None
    quiet = 0
    for _ in range(wakes):
        await cloud.work()
        seen = await board.wake(post)
        await post.closed()
        now = (tuple(seen.ran[-1:]), seen.state, seen.how, tuple(dict(await cloud.row()).items()))
        busy = seen.state not in (wire.UPDATE_IDLE, wire.UPDATE_COMMIT, wire.UPDATE_ROLLBACK, wire.UPDATE_REFUSED)
        quiet = 0 if busy or now != before or not post.talked() else quiet + 1
        before = now
        if quiet == QUIET_WAKES:
            return
    raise AssertionError(f"still changing after {wakes} fair wakes: {before}")


@pytest.fixture(scope="module")
def beginning(
    best_program: Program, programs: Path, publisher: PublisherKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Beginning]:
    folder = tmp_path_factory.mktemp("agreement")
    artifacts = {version: artifact_of(publisher, number) for number, version in enumerate(VERSIONS)}
    digests = {version: sha256(data).hexdigest() for version, data in artifacts.items()}
    plan = BoardPlan(
        BOARD,
        "pump",
        SCHEMA,
        INTERVAL_MS,
        Broker(1883),
        {publisher.key_id.hex(): publisher.public.hex()},
        {"sync_interval_ms": INTERVAL_MS, "syncs_per_hour": 3600},
    )
    made = make_board(folder / BOARD, plan, [[1000 + row * 7 % 50] for row in range(200)], INTERVAL_MS // 4)
    faults = {digests[version][:16]: fault for version, fault in FAULTS.items()}
    board = WholeBoard(best_program.micropython, environment(best_program, programs), made, faults)
    of = settings_in(folder / "store")
    fleet = Fleet(of)
    fleet.add(BOARD, *OTHERS)
    begin = Beginning(of.data_dir, board, digests)

    async def prepare() -> None:
        async with begin.cloud(of.data_dir) as cloud:
            async with writing(cloud.engine).begin() as connection:
                await keys.trust(connection, publisher.public.hex(), "", 1)
            await cloud.registry.publish([artifacts["1.0.0"]], [], Audience(champion=True))
            await fair(cloud, board)
            for version in VERSIONS[1:]:
                await cloud.registry.publish([artifacts[version]], [], Audience())

    asyncio.run(prepare())
    capabilities = {"schema_hash": Features(SCHEMA).schema_hash, "abi": forge.ABI, "key_ids": (publisher.key_id,)}
    for name in OTHERS:
        fleet.say(name, True)
        fleet.runs(name, artifacts["1.0.0"], "flow", "1.0.0", sequence=1, **capabilities)
    board.keep("agreed")
    yield begin
    board.close()


async def live(begin: Beginning, folder: Path, turns: list[Turn]) -> None:
    board, digests = begin.board, begin.digests
    by_sha8 = {digest[:16]: number for number, digest in enumerate(digests[version] for version in VERSIONS)}
    taken_back: set[str] = set()

    def on_ran(sha8: str, score: float | None) -> None:
        assert sha8 in by_sha8, f"a boot ran {sha8 or 'no model'}"
        assert score == 6 + by_sha8[sha8], "the code that ran is that of the verified artifact"
        assert sha8 not in taken_back, "a digest that was taken back ran again"

    board.back("agreed")
    board.on_ran = on_ran
    async with begin.cloud(folder) as cloud:
        for turn in turns:
            await cloud.operate(turn.operator)
            await cloud.work()
            cloud.post.chance = Chance(turn.network)
            how, cut, part = turn.wake
            seen = await board.wake(cloud.post, how == "power", cut if how == "cut" else CALM, part)
            taken_back |= seen.known_bad
            await cloud.post.closed(turn.after)
        await cloud.end_rollouts()
        await fair(cloud, board)
        taken_back |= board.seen.known_bad
        row = await cloud.row()
        runs = board.seen.ran[-1][0]
        assert row["model_sha8"] == runs, "the cloud believes what the board runs"
        wanted = row["artifact_sha256"]
        if runs != wanted[:16]:
            step = await cloud.last_step(wanted)
            assert step is not None
            assert step[0] in (wire.UPDATE_REFUSED, wire.UPDATE_ROLLBACK)
            assert step[1] != wire.REASON_OK, "the cloud knows why its wish is not fulfilled"


def turns() -> st.SearchStrategy[list[Turn]]:
    operators = ["nothing", "nothing"]
    operators += [f"{what} {version}" for what in ("promote", "deploy") for version in VERSIONS]
    operators += [f"roll out {version}" for version in ("2.0.0", "4.0.0", "5.0.0")]
    operators += ["pause", "resume", "abort", "roll_back", "follow", "web restarts"]
    wakes = st.one_of(
        st.just(("calm", 0, 0)),
        st.just(("power", 0, 0)),
        st.tuples(st.just("cut"), st.integers(0, 120), st.integers(0, 2)),
    )
    network = st.lists(st.sampled_from([0] * 9 + list(range(1, 8))), max_size=24).map(tuple)
    turn = st.builds(Turn, st.sampled_from(operators), wakes, network, st.sampled_from(AFTER))
    return st.lists(turn, min_size=2, max_size=9)


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Beginning], Path]:
    """Copies of the store, one at a time."""

    def copy(begin: Beginning) -> Path:
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        return Path(shutil.copytree(begin.folder, tmp_path / "store"))

    return copy


# The board says what it runs now, and a record; only the record arrives.
HELLO_LOST = Turn("nothing", network=(0, 4))
# The HELLO that answers the wish arrives twice, once behind the one that says that it was fulfilled.
HELLO_LATE = Turn("nothing", network=(0, 0, 0, 0, 5), after=LATER)

RULES = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(RULES, max_examples=8, derandomize=True)
@example([Turn("promote 2.0.0"), Turn("nothing"), Turn("nothing"), HELLO_LOST]).via("an ACK for a record alone")
@example([Turn("promote 2.0.0"), HELLO_LATE, Turn("nothing", after=LATER), Turn("nothing")]).via("a late HELLO")
@given(turns())
def test_the_cloud_and_a_board_agree_after_any_reordering(
    beginning: Beginning, store: Callable[[Beginning], Path], turns: list[Turn]
):
    asyncio.run(live(beginning, store(beginning), turns))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@settings(RULES, max_examples=800)
@given(turns())
def test_they_agree_after_many_reorderings(beginning: Beginning, store: Callable[[Beginning], Path], turns: list[Turn]):
    asyncio.run(live(beginning, store(beginning), turns))

"""A rollout of kind shadow against a real store: the candidate scores beside the version that decides."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud import wire_types as w
from cloud.errors import BadRequest, Conflict, NotFound
from cloud.inference.tables import answers
from cloud.models.queries import list_versions
from cloud.models.service import Audience, Registry
from cloud.rollouts.engine import Stage, State
from cloud.rollouts.plan import Mode
from cloud.rollouts.queries import list_disagreements
from contract import artifact, wire
from tests.support.artifacts import make
from tests.support.rollout_fleet import NEW, OLD
from tests.support.shadow_fleet import SHARE, ShadowFleet

BOARDS = 36
BESIDE = BOARDS * SHARE // 100


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> ShadowFleet:
    """What every test begins with, and none changes."""
    return ShadowFleet(tmp_path_factory.mktemp("boards"), BOARDS)


@pytest.fixture
def fleet(boards: ShadowFleet, tmp_path: Path) -> ShadowFleet:
    return boards.twin(tmp_path)


def play(fleet: ShadowFleet, rollout: int, periods: int) -> list[State]:
    states: list[State] = []
    for _ in range(periods):
        fleet.period()
        states.append(fleet.step(rollout))
    return states


def test_a_share_of_the_boards_scores_with_the_candidate_and_every_board_decides_with_the_fallback(fleet: ShadowFleet):
    rollout = fleet.shadowed()
    assert list(fleet.wanted_beside().values()) == [NEW] * BESIDE
    last = play(fleet, rollout, 8)[-1]
    assert (last.stage, last.reason) == (Stage.SOAK, f"compared: `approve` takes {NEW}, `rollback` {OLD}")
    assert set(fleet.wanted().values()) == {OLD}
    assert fleet.on(NEW) == []
    detail = fleet.shown(rollout)
    assert (detail.summary.running, detail.summary.failed, detail.summary.waiting) == (BESIDE, 0, 0)
    assert detail.shadow is not None
    assert (detail.shadow.compared, detail.shadow.disagreed) == (BESIDE * 8 * 300, BESIDE * 8 * 3)


def test_windows_that_were_decided_differently_are_kept_shown_and_never_answered(fleet: ShadowFleet):
    rollout = fleet.shadowed()
    play(fleet, rollout, 2)
    name = next(iter(fleet.wanted_beside()))
    fleet.disagree(name, 0, wire.WHY_SHADOW_ANOMALY, 1.5, (1, -2, 3))
    fleet.now += 1000
    fleet.disagree(name, 1, wire.WHY_SHADOW_NORMAL, -0.5, (4, 5, 6))
    shadow = fleet.shown(rollout).shadow
    assert shadow is not None
    assert shadow.sent == 2
    assert [(d.device, d.candidate_says, d.score, d.features) for d in shadow.latest] == [
        (name, "normal", -0.5, [4, 5, 6]),
        (name, "anomaly", 1.5, [1, -2, 3]),
    ]
    assert fleet.fleet.rows(sa.select(answers)) == []

    async def listed(engine: Any) -> Any:
        async with engine.connect() as connection:
            return await list_disagreements(connection, rollout, 1)

    assert [d.seq for d in fleet.run(listed)] == [1]


def test_approval_makes_the_candidate_champion_and_takes_the_shadow_off_the_boards(fleet: ShadowFleet):
    rollout = fleet.shadowed()
    play(fleet, rollout, 8)
    fleet.rollouts(lambda rollouts: rollouts.approve(rollout))
    assert fleet.step(rollout).stage == Stage.DONE
    assert fleet.wanted_beside() == {}
    assert set(fleet.wanted().values()) == {NEW}
    fleet.period()
    assert fleet.on(NEW) == fleet.names
    assert set(fleet.beside.values()) <= {None}

    async def champion(engine: Any) -> Any:
        async with engine.connect() as connection:
            return [v.version for v in await list_versions(connection, "flow") if "champion" in v.aliases]

    assert fleet.run(champion) == [NEW]


def test_a_rollback_ends_once_no_board_scores_with_it(fleet: ShadowFleet):
    rollout = fleet.shadowed()
    play(fleet, rollout, 3)
    fleet.asleep = {next(iter(fleet.wanted_beside()))}
    fleet.rollouts(lambda rollouts: rollouts.roll_back(rollout))
    assert fleet.wanted_beside() == {}
    assert play(fleet, rollout, 1)[-1].stage == Stage.ROLLING_BACK
    fleet.asleep = set()
    assert play(fleet, rollout, 1)[-1].stage == Stage.ABORTED
    assert set(fleet.wanted().values()) == {OLD}


def test_a_shadow_that_boards_drop_is_ended_by_the_gates(fleet: ShadowFleet):
    fleet.drops = True
    rollout = fleet.shadowed()
    state = play(fleet, rollout, 1)[-1]
    assert state.stage == Stage.ROLLING_BACK
    assert state.reason == f"install: {BESIDE} of {BESIDE} boards that tried it failed: no memory"


def test_a_shadow_that_drains_the_battery_is_ended_by_the_gates(fleet: ShadowFleet):
    def drain(fields: dict[str, Any]) -> None:
        fleet.scores(fields)
        fields["energy_uj"] = w.Energy(0, 2 * fields["energy_uj"].radio, 0, 0)

    fleet.behaviour = drain
    rollout = fleet.shadowed()
    states = play(fleet, rollout, 8)
    assert states[-1].stage == Stage.ABORTED
    assert states[-1].reason.startswith("energy: ")
    assert fleet.wanted_beside() == {}


def test_what_is_signed_as_a_shadow_can_be_compared_and_never_promoted(fleet: ShadowFleet):
    version = "3.0.0"
    fleet.files[version] = make(fleet.key, version=version, sequence=3, **{"class": artifact.CLASS_SHADOW})

    async def publish(engine: Any) -> None:
        await Registry(engine, fleet.blobs).publish([fleet.files[version]], [], Audience())

    fleet.run(publish)

    async def as_model(engine: Any) -> None:
        data = make(fleet.key, version=version, sequence=3, arch="rv32imc")
        await Registry(engine, fleet.blobs).publish([data], [], Audience())

    with pytest.raises(Conflict, match="exists and is not a model"):
        fleet.run(as_model)
    with pytest.raises(BadRequest, match="none of them can take"):
        fleet.planned(version=version)
    rollout = fleet.shadowed(version=version)
    assert set(fleet.wanted_beside().values()) == {version}
    with pytest.raises(Conflict, match="signed to score as a shadow and never to decide"):
        fleet.rollouts(lambda rollouts: rollouts.approve(rollout))
    assert set(fleet.wanted().values()) == {OLD}


def test_a_comparison_asks_for_one_share_and_others_have_no_disagreements(fleet: ShadowFleet):
    with pytest.raises(BadRequest, match="give one percentage"):
        fleet.planned(mode=Mode.SHADOW)
    rollout = fleet.planned()

    async def listed(engine: Any) -> Any:
        async with engine.connect() as connection:
            return await list_disagreements(connection, rollout, 10)

    with pytest.raises(NotFound, match="compares nothing in the shadow"):
        fleet.run(listed)
    assert fleet.shown(rollout).shadow is None

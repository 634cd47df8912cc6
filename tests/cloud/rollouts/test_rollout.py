"""Rollouts against a real store: boards that report, take what they are told, sleep, and refuse."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud import wire_types as w
from cloud.devices.tags import tag
from cloud.errors import BadRequest, Conflict, EdgewiseError, NotFound
from cloud.models import queries
from cloud.models.housekeeping import delete_version
from cloud.models.service import Audience, Registry
from cloud.rollouts import service
from cloud.rollouts.engine import Decision, Stage, State, decide
from cloud.rollouts.plan import Mode
from cloud.rollouts.queries import show_rollout
from cloud.rollouts.service import Rollouts
from cloud.rollouts.tables import rollout_boards, rollout_steps
from cloud.store.engine import writing
from tests.support.rollout_fleet import NEW, OLD, PERIOD_MS, RolloutFleet

BOARDS = 36


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> RolloutFleet:
    """What every test begins with, and none changes."""
    return RolloutFleet(tmp_path_factory.mktemp("boards"), BOARDS)


@pytest.fixture
def fleet(boards: RolloutFleet, tmp_path: Path) -> RolloutFleet:
    return boards.twin(tmp_path)


def play(fleet: RolloutFleet, rollout: int, periods: int = 40) -> list[State]:
    """Periods with one move of the controller each, until the rollout ends."""
    states: list[State] = []
    for _ in range(periods):
        fleet.period()
        states.append(fleet.step(rollout))
        if states[-1].stage in (Stage.DONE, Stage.ABORTED):
            return states
    return states


def stages(fleet: RolloutFleet, rollout: int) -> list[tuple[str, int]]:
    query = sa.select(rollout_steps).where(rollout_steps.c.rollout == rollout).order_by(rollout_steps.c.id)
    return [(row["stage"], row["exposed"]) for row in fleet.fleet.rows(query)]


def test_a_good_candidate_reaches_all_boards_step_by_step_and_becomes_champion(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    assert sum(version == NEW for version in fleet.wanted().values()) == 7
    last = play(fleet, rollout)[-1]
    assert last.stage == Stage.DONE, last.reason
    assert stages(fleet, rollout) == [
        ("draft", 0),
        ("canary", 7),
        ("soak", 7),
        ("ramp", 18),
        ("ramp", 36),
        ("done", 36),
    ]
    assert fleet.on(NEW) == fleet.names

    async def champion(engine: Any) -> Any:
        async with engine.connect() as connection:
            return [v.version for v in await queries.list_versions(connection, "flow") if "champion" in v.aliases]

    assert fleet.run(champion) == [NEW]
    assert fleet.fleet.rows(sa.select(rollout_boards).where(rollout_boards.c.active)) == []


def drain(fields: dict[str, Any]) -> None:
    fields["energy_uj"] = w.Energy(0, 2 * fields["energy_uj"].radio, 0, 0)


def test_a_candidate_that_drains_the_battery_is_taken_back_from_the_canaries(fleet: RolloutFleet) -> None:
    fleet.behaviour = drain
    rollout = fleet.started()
    states = play(fleet, rollout)
    assert states[-1].stage == Stage.ABORTED
    assert states[-1].reason.startswith("energy: 1.9") or states[-1].reason.startswith("energy: 2.0")
    assert [stage for stage, _ in stages(fleet, rollout)] == ["draft", "canary", "soak", "rolling back", "aborted"]
    assert fleet.on(OLD) == fleet.names
    assert set(fleet.wanted().values()) == {OLD}


def test_a_candidate_that_does_not_load_is_stopped_by_the_boards_own_verdict(fleet: RolloutFleet) -> None:
    fleet.refuses = True
    rollout = fleet.started()
    states = play(fleet, rollout)
    assert states[0].stage == Stage.ROLLING_BACK
    assert states[0].reason == "install: 7 of 7 boards that tried it failed: load failed"
    assert states[-1].stage == Stage.ABORTED
    assert fleet.on(NEW) == []


def test_sleeping_canaries_wait_and_do_not_fail(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    canaries = [name for name, version in fleet.wanted().items() if version == NEW]
    fleet.asleep = {canaries[0]}
    fleet.period()
    state = fleet.step(rollout)
    assert (state.stage, state.reason) == (Stage.CANARY, "6 of 7 canaries have tried it")
    fleet.asleep = set()
    assert play(fleet, rollout)[-1].stage == Stage.DONE


def test_canaries_that_fall_silent_after_they_took_it_count_as_failed(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    fleet.period()
    fleet.asleep = set(fleet.on(NEW))
    for name in fleet.asleep:
        fleet.fleet.say(name, False)
    states = [fleet.step(rollout)]
    for _ in range(4):
        fleet.period()
        states.append(fleet.step(rollout))
    assert states[-1].stage == Stage.ROLLING_BACK
    assert states[-1].reason.startswith("silence: 7 of 7 canaries and 0 of 29 others")
    fleet.asleep = set()
    assert play(fleet, rollout)[-1].stage == Stage.ABORTED
    assert fleet.on(NEW) == []


def test_without_reports_nothing_goes_forward(fleet: RolloutFleet) -> None:
    rollout = fleet.started(patience_periods=3)
    fleet.period()
    assert fleet.step(rollout).stage == Stage.SOAK
    fleet.now += 6 * PERIOD_MS  # the whole fleet is cut off: neither canaries nor the others say a word
    waiting = fleet.step(rollout)
    assert waiting.stage == Stage.SOAK
    assert waiting.reason == "0 of 7 boards that run it have sent 2 reports, 7 must"
    fleet.now += 2 * PERIOD_MS
    assert fleet.step(rollout).stage == Stage.PAUSED


def test_approval_and_maintenance_window_hold_the_ramp(fleet: RolloutFleet) -> None:
    minute = fleet.now // 60_000 % 1440
    clock = [f"{(minute + shift) % 1440 // 60:02}:{(minute + shift) % 60:02}" for shift in (-5, 5)]
    rollout = fleet.started(approval=True, window=f"{clock[0]}-{clock[1]}")
    state = play(fleet, rollout, 8)[-1]
    assert state.reason == "waits for `edgewise rollout approve`"
    fleet.rollouts(lambda rollouts: rollouts.approve(rollout))
    assert "waits for the maintenance window" in fleet.step(rollout).reason
    fleet.now += (1440 - 8) * 60_000
    assert play(fleet, rollout, 3)[-1].stage == Stage.RAMP


def test_pause_holds_boards_where_they_are_and_the_gates_go_on(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    fleet.period()
    fleet.step(rollout)
    fleet.rollouts(lambda rollouts: rollouts.pause(rollout))
    for _ in range(2):
        fleet.period()
        assert fleet.step(rollout).stage == Stage.PAUSED
    assert len(fleet.on(NEW)) == 7
    fleet.behaviour = drain
    assert play(fleet, rollout)[-1].stage == Stage.ABORTED


def test_resume_begins_the_stage_anew(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    fleet.period()
    fleet.step(rollout)
    fleet.rollouts(lambda rollouts: rollouts.pause(rollout))
    for _ in range(6):
        fleet.period()
    fleet.rollouts(lambda rollouts: rollouts.resume(rollout))
    assert fleet.step(rollout).stage == Stage.SOAK
    assert play(fleet, rollout)[-1].stage == Stage.DONE


def test_an_operator_takes_it_back_or_aborts(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    fleet.period()
    fleet.rollouts(lambda rollouts: rollouts.roll_back(rollout))
    assert play(fleet, rollout)[-1].stage == Stage.ABORTED
    assert fleet.on(NEW) == []
    second = fleet.started()
    fleet.period()
    fleet.rollouts(lambda rollouts: rollouts.abort(second))
    assert set(fleet.wanted().values()) == {OLD}


def test_a_board_is_in_one_rollout_only_and_no_one_else_moves_it(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    with pytest.raises(Conflict, match=rf"pump-\d+ is in rollout {rollout}"):
        fleet.planned()

    async def pin(engine: Any) -> None:
        await Registry(engine, fleet.blobs).deploy("flow", NEW, Audience(devices=("pump-001",)))

    with pytest.raises(Conflict, match=f"pump-001 is in rollout {rollout}"):
        fleet.run(pin)
    before = fleet.wanted()

    async def promote(engine: Any) -> None:
        await Registry(engine, fleet.blobs).promote("flow", NEW, "champion")

    fleet.run(promote)
    assert fleet.wanted() == before, "the control boards stay with the fallback whatever the champion is"


def test_two_drafts_may_exist_and_only_one_starts(fleet: RolloutFleet) -> None:
    first, second = fleet.planned(), fleet.planned()
    fleet.rollouts(lambda rollouts: rollouts.start(first))
    with pytest.raises(Conflict, match=f"is in rollout {first}"):
        fleet.rollouts(lambda rollouts: rollouts.start(second))
    fleet.rollouts(lambda rollouts: rollouts.abort(second))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"version": "9.9.9"}, NotFound, "no model flow 9.9.9"),
        ({"name": "other"}, NotFound, "no model other"),
        ({"kind": "turbine"}, BadRequest, "no board to roll flow 2.0.0 out to: 0 run 1.0.0 and match"),
        ({"devices": ("pump-001", "nobody")}, BadRequest, "nobody runs no flow 1.0.0"),
        ({"devices": ("pump-001",)}, BadRequest, "1 boards are too few to tell a bad model from chance"),
        ({"fallback": NEW, "version": OLD}, BadRequest, "no board to roll flow 1.0.0 out to: 0 run 2.0.0"),
        ({"fallback": NEW}, BadRequest, "is also the fallback"),
        ({"min_canaries": 19}, BadRequest, "36 boards are too few to tell a bad model from chance"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_and_changes_nothing(
    fleet: RolloutFleet, changes: dict[str, Any], error: type[EdgewiseError], said: str
) -> None:
    with pytest.raises(error, match=said):
        fleet.planned(**changes)
    assert fleet.fleet.rows(sa.select(rollout_boards)) == []


def test_a_candidate_that_forbids_going_back_is_not_rolled_out(tmp_path: Path) -> None:
    fleet = RolloutFleet(tmp_path, BOARDS, reports=1, rollback_floor=2)
    with pytest.raises(BadRequest, match=r"below sequence 2, 1\.0\.0 has 1"):
        fleet.planned()


def test_boards_that_come_later_join_at_the_next_step_and_come_last(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    fleet.joins("late-1", "late-2")
    fleet.period()
    fleet.step(rollout)
    assert len(fleet.fleet.rows(sa.select(rollout_boards))) == BOARDS, "the comparison stays as it was drawn"
    assert play(fleet, rollout)[-1].stage == Stage.DONE
    rows = fleet.fleet.rows(sa.select(rollout_boards).order_by(rollout_boards.c.rank))
    assert {row["device"] for row in rows[BOARDS:]} == {"late-1", "late-2"}
    query = sa.select(rollout_steps.c.reason).where(rollout_steps.c.reason.contains("2 boards joined"))
    assert len(fleet.fleet.rows(query)) == 1
    assert fleet.on(NEW) == sorted(fleet.names)


def test_a_rollout_that_names_its_boards_takes_in_no_others(fleet: RolloutFleet) -> None:
    rollout = fleet.started(devices=tuple(fleet.names))
    fleet.joins("late-1")
    assert play(fleet, rollout)[-1].stage == Stage.DONE
    assert len(fleet.fleet.rows(sa.select(rollout_boards))) == BOARDS


def test_filters_choose_the_cohort(fleet: RolloutFleet) -> None:
    async def put(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await tag(connection, fleet.names[:30], ["wet", "line-1"], [])
            await tag(connection, fleet.names[:6], [], ["line-1"])

    fleet.run(put)
    rollout = fleet.planned(tags=("wet", "line-1"), kind="pump", arch="x64", firmware="0.1.0", min_canaries=5)
    cohort = {row["device"] for row in fleet.fleet.rows(sa.select(rollout_boards))}
    assert cohort == set(fleet.names[6:30])
    fleet.rollouts(lambda rollouts: rollouts.abort(rollout))
    for changes in ({"tags": ("dry",)}, {"arch": "rv32imc"}, {"firmware": "9.9"}):
        with pytest.raises(BadRequest, match=r"0 run 1\.0\.0 and match"):
            fleet.planned(**changes)


def test_an_ab_comparison_waits_for_the_operator_and_tells_both_sides_apart(fleet: RolloutFleet) -> None:
    rollout = fleet.started(mode=Mode.AB, steps=(40,), min_canaries=5)
    assert sum(version == NEW for version in fleet.wanted().values()) == 14
    state = play(fleet, rollout, 9)[-1]
    assert (state.stage, state.reason) == (Stage.SOAK, f"compared: `approve` takes {NEW}, `rollback` {OLD}")
    assert len(fleet.on(NEW)) == 14

    async def show(engine: Any) -> Any:
        async with engine.connect() as connection:
            return await show_rollout(connection, rollout, fleet.now)

    energy = next(finding for finding in fleet.run(show).findings if finding.gate == "energy")
    assert energy.factor == pytest.approx(1.0, abs=0.1)
    fleet.rollouts(lambda rollouts: rollouts.approve(rollout))
    assert play(fleet, rollout, 2)[-1].stage == Stage.DONE
    fleet.period()
    assert fleet.on(NEW) == fleet.names, "the others follow the new champion"


def test_an_ab_comparison_of_a_bad_candidate_ends_by_itself(fleet: RolloutFleet) -> None:
    fleet.behaviour = drain
    rollout = fleet.started(mode=Mode.AB, steps=(40,), min_canaries=5)
    assert play(fleet, rollout)[-1].stage == Stage.ABORTED
    assert fleet.on(OLD) == fleet.names


def test_a_version_in_a_rollout_is_not_deleted(fleet: RolloutFleet) -> None:
    rollout = fleet.planned()

    async def delete(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await delete_version(connection, "flow", NEW)

    with pytest.raises(Conflict, match=f"rollout {rollout}"):
        fleet.run(delete)


def test_what_is_shown_adds_up(fleet: RolloutFleet) -> None:
    rollout = fleet.started()
    fleet.period()
    fleet.step(rollout)

    async def show(engine: Any) -> Any:
        async with engine.connect() as connection:
            return await show_rollout(connection, rollout, fleet.now)

    shown = fleet.run(show)
    assert (shown.summary.stage, shown.summary.running, shown.summary.boards) == ("soak", 7, 36)
    assert shown.summary.step_percent == 10
    assert shown.summary.eta_ms == fleet.now + (4 + 2 * 2) * PERIOD_MS
    assert {finding.gate for finding in shown.findings} == {
        "install",
        "silence",
        "resets",
        "alarms",
        "level",
        "awake",
        "energy",
        "routed",
    }
    assert [board.exposed for board in shown.cohort] == [True] * 7 + [False] * 29


def test_a_step_that_changes_nothing_waits_for_no_writer(fleet: RolloutFleet) -> None:
    """With many boards it takes seconds to judge, once a second: nobody could store anything."""
    rollout = fleet.started()
    state = fleet.step(rollout)

    async def work(engine: Any) -> State:
        async with writing(engine).begin():
            return await Rollouts(engine, lambda: fleet.now).step(rollout)

    assert fleet.run(work) == state


def test_what_was_decided_before_the_operator_spoke_does_not_count(
    fleet: RolloutFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = fleet.started()
    fleet.now += 100 * PERIOD_MS  # without evidence: to be paused

    def decide_late(*facts: Any) -> Decision:
        fleet.rollouts(lambda rollouts: rollouts.abort(rollout))
        return decide(*facts)

    monkeypatch.setattr(service, "decide", decide_late)
    assert fleet.step(rollout).stage == Stage.ABORTED

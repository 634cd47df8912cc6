"""A whole scenario under every policy: what the bundled one shows, and that the number of processes changes nothing."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Spawn
from tests.support import scenarios
from tools.firmware import program
from tools.scenario import report, run, schema, trace
from tools.scenario.checks import ScenarioError
from tools.scenario.program import beside
from tools.scenario.results import Result
from tools.scenario.run import Outcome

HOUR_MS = 3_600_000
LEAST_TIMES_FIRST = 10
LATEST_ALERT_MS = 2000
MOST_SECONDS = 180
START_DEADLINE_S = 110


def show(outcome: Outcome) -> None:
    """Print what the report's first table says."""
    for one in report.summaries(outcome):
        print(
            f"{one.policy}: {report.rounded(one.life_days)} days, {report.rounded(one.times_first, 1)} x the first; "
            f"{one.mean_uw:.0f} uW, "
            f"{one.sessions_a_day:.1f} sessions and {one.bytes_a_day:.0f} bytes a day; alerts {one.alerts}, "
            f"missed {one.missed}, worst {one.worst_ms} ms; records {one.made} made, {one.stored} stored, "
            f"{one.lost} lost, {one.twice} twice"
        )
    print(f"{outcome.cpu_s:.0f} s of processor time, {outcome.wall_s:.0f} s as it passed, {outcome.jobs} processes")


def assert_shows_what_it_must(outcome: Outcome) -> None:
    each, batched, edgewise = report.summaries(outcome)
    for summary in (each, batched, edgewise):
        assert summary.lost == summary.twice == summary.dropped == summary.died == 0, summary
        assert summary.made == summary.stored > 0
        assert summary.missed == 0
    assert edgewise.times_first is not None
    assert edgewise.times_first >= LEAST_TIMES_FIRST
    assert edgewise.mean_uw < batched.mean_uw < each.mean_uw
    assert edgewise.false_alarms == 0
    outages = [fault for fault in outcome.scenario.faults if fault.kind == "no-wifi"]
    for result in outcome.results[edgewise.policy]:
        for alert in result.alerts:
            if not any(fault.from_ms <= alert.visible_ms < fault.to_ms for fault in outages):
                assert alert.latency_ms is not None
                assert alert.latency_ms <= LATEST_ALERT_MS, alert


@pytest.mark.timeout(240)
def test_a_day_and_a_half_of_one_pump_shows_what_thirty_days_of_three_do(tmp_path: Path):
    whole = schema.load("three-pumps")
    scenario = replace(
        whole, duration_ms=32 * HOUR_MS, groups=tuple(replace(group, boards=("pump-1",)) for group in whole.groups)
    )
    ((group, board),) = scenario.boards
    results = {
        policy.name: [run.run_one(scenario, policy, group, board, beside(), tmp_path)] for policy in scenario.policies
    }
    outcome = Outcome(scenario, results, 0.0, 0.0, 1)
    show(outcome)
    assert_shows_what_it_must(outcome)
    assert [alert.kind for alert in results["Edgewise"][0].alerts] == ["step"]
    assert len(list(tmp_path.glob("*.json.gz"))) == 3


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("best_program")
def test_thirty_days_of_three_pumps_under_three_policies(tmp_path: Path):
    outcome = run.run(schema.load("three-pumps"), tmp_path / "traces", 2)
    report.write(outcome, tmp_path)
    show(outcome)
    assert_shows_what_it_must(outcome)
    # Half of the processor time is what two cores need for it when they do nothing else.
    assert min(outcome.cpu_s / 2, outcome.wall_s) < MOST_SECONDS


@pytest.mark.usefixtures("best_program")
def test_processes_share_the_work_and_change_no_result(tmp_path: Path):
    policies = [{"name": "Edgewise"}, {"name": "JSON", "uplink": "json", "batch": 4}]
    scenario = schema.parse(scenarios.tables("15m", boards=2) | {"policy": policies}, Path())
    told: list[str] = []
    outcome = run.run(scenario, tmp_path, 2, told.append)
    alone: list[Result] = [
        run.run_one(scenario, policy, group, board, beside(), None)
        for policy in scenario.policies
        for group, board in scenario.boards
    ]
    assert [result for results in outcome.results.values() for result in results] == alone
    assert len(told) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        trace.file_name(policy, f"pump-{n}") for policy in ("Edgewise", "JSON") for n in (1, 2)
    )


@pytest.mark.usefixtures("best_program")
def test_nothing_of_a_run_outlives_its_command(tmp_path: Path, spawn: Spawn):
    command = (program("edgewise"), "sim", "scenario", "three-pumps", "--out", tmp_path, "--jobs", "2")
    running = spawn(*command, "--policy", "Edgewise")
    wait_for(lambda: boards_of(running.pid) == 2)
    running.kill()
    running.wait()
    wait_for(lambda: boards_of(running.pid) == 0)


def boards_of(session: int) -> int:
    """How many boards run in a session, by their program."""
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                count += (
                    os.getsid(int(process.name)) == session and b"virtual_board" in (process / "cmdline").read_bytes()
                )
            except OSError:
                continue  # ended meanwhile
    return count


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; fails after what a busy machine may need to start."""
    end = time.monotonic() + START_DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_series_that_is_missing_is_refused_before_the_work_begins():
    scenario = scenarios.make(signal={"series": "none.csv"})
    with pytest.raises(ScenarioError, match=r"none\.csv"):
        run.run(scenario, None, 1)

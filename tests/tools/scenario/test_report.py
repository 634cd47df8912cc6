"""What the report says is what the results hold."""

import json
from pathlib import Path

import pytest

from tests.support import scenarios
from tools.scenario import report, schema
from tools.scenario.results import STATES, Alert, Records, Result
from tools.scenario.run import Outcome

DAY_MS = 86_400_000


def result(policy: str, power_uw: int, latency_ms: int | None, lost: int = 0) -> Result:
    """A board that drew power_uw for a day, with one anomaly."""
    spent = power_uw * 86_400
    return Result(
        board="pump-1",
        policy=policy,
        alive_ms=DAY_MS,
        died=False,
        battery_left=0.5,
        capacity_uj=100 * 86_400 * 100,
        energy_uj=[spent // 4, spent - spent // 4, 0, 0],
        crash_energy_uj=0.0,
        energy_by_day_uj=[[spent // 4, spent - spent // 4, 0, 0]],
        battery_by_day=[(0, 4000)],
        wakes={"timer": 10},
        crashes={},
        sessions=3,
        failed_sessions=1,
        awake_ms=1,
        radio_ms=1,
        tx_bytes=300,
        rx_bytes=100,
        bands={"full": 10},
        sync_reasons={"window": 3},
        routes={"device: clear": 10},
        records={"reading": Records(made=10, stored=10 - lost)},
        alerts=[Alert("pump-1", "step", "flow", 1000, 1000, None if latency_ms is None else 1000 + latency_ms)],
    )


@pytest.fixture
def outcome() -> Outcome:
    results = {"dear": [result("dear", 1000, 90_000)], "cheap": [result("cheap", 100, 800, lost=2)]}
    scenario = schema.parse(scenarios.tables() | {"policy": [{"name": name} for name in results]}, Path())
    return Outcome(scenario, results, 12.0, 7.0, 2)


def test_policies_are_compared_with_the_first(outcome: Outcome):
    dear, cheap = report.summaries(outcome)
    assert (dear.life_days, cheap.life_days) == (pytest.approx(10), pytest.approx(100))
    assert (dear.times_first, cheap.times_first) == (1, pytest.approx(10))
    assert cheap.by_state_uw == {"active": pytest.approx(25), "radio": pytest.approx(75), "sleep": 0, "flash": 0}
    assert (cheap.made, cheap.stored, cheap.lost, dear.lost) == (10, 8, 2, 0)
    assert (dear.worst_ms, cheap.worst_ms) == (90_000, 800)
    assert (cheap.sessions_a_day, cheap.bytes_a_day) == (3, 400)


def test_an_anomaly_that_was_never_told_is_missed(outcome: Outcome):
    outcome.results["dear"][0].alerts[0] = result("dear", 1, None).alerts[0]
    dear, _ = report.summaries(outcome)
    assert (dear.alerts, dear.missed, dear.worst_ms, dear.median_ms) == (0, 1, None, None)


def test_the_page_and_the_data_are_written_with_their_charts(outcome: Outcome, tmp_path: Path):
    page = report.write(outcome, tmp_path).read_text()
    for said in ("battery life, days".capitalize(), "10.0 x", "dear", "cheap", "90.0", "device: clear 10", *STATES):
        assert said in page, said
    assert page.count("data:image/png;base64,") == 3
    for name in ("power", "battery", "alerts"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((tmp_path / "report.json").read_text())
    assert [one["policy"] for one in data["policies"]] == ["dear", "cheap"]
    assert data["results"][1]["records"]["reading"]["lost"] == 2
    assert data["results"][0]["alerts"][0]["latency_ms"] == 90_000
    assert (data["cpu_s"], data["boards"]) == (12.0, 1)

"""The firmware in virtual time: repeatable, the same as a process per wake, and whole after whatever happens to it."""

import pickle
from pathlib import Path

import pytest

from tests.support import scenarios
from tests.support.scenarios import HOUR_MS, live
from tools.scenario import board, schema
from tools.scenario.results import Result

EDGEWISE, JSON_EACH, BATCHED = 0, 1, 2
POLICIES = [
    {"name": "Edgewise"},
    {"name": "JSON each cycle", "uplink": "json"},
    {"name": "batched", "uplink": "json", "batch": 10},
]


def with_policies(given: dict[str, object]) -> schema.Scenario:
    return schema.parse(given | {"policy": POLICIES}, Path())


def assert_whole(result: Result) -> None:
    """Every record is stored once, none given up."""
    assert (result.lost, result.twice, result.set_aside) == (0, 0, 0)
    assert sum(record.dropped for record in result.records.values()) == 0
    assert sum(record.made for record in result.records.values()) > 0


def test_the_same_scenario_gives_the_same_wakes_to_the_byte(tmp_path: Path):
    scenario = scenarios.make(signal=scenarios.with_injections(scenarios.BURST))
    first, _ = live(scenario, tmp_path / "1")
    second, _ = live(scenario, tmp_path / "2")
    assert first == second
    assert len(first.wakes) > 110


def test_wakes_in_one_process_are_those_of_a_process_each(tmp_path: Path):
    scenario = scenarios.make("20m", signal=scenarios.with_injections(scenarios.BURST | {"at": "11m"}))
    together, _ = live(scenario, tmp_path / "1")
    apart, _ = live(scenario, tmp_path / "2", restart_after=1)
    assert together == apart
    assert together.stored.events


def test_an_anomaly_wakes_the_board_and_is_in_the_cloud_within_two_seconds(tmp_path: Path):
    scenario = scenarios.make(signal=scenarios.with_injections(scenarios.BURST | {"every": "20m"}))
    _, result = live(scenario, tmp_path)
    assert_whole(result)
    assert result.wakes["ulp"] == len(result.alerts) == 5
    latencies = [alert.latency_ms for alert in result.alerts]
    assert all(latency is not None and 400 < latency < 2000 for latency in latencies), latencies
    assert result.false_alarms == 0


def test_without_wake_on_the_wake_that_measures_it_tells(tmp_path: Path):
    given = scenarios.tables(signal=scenarios.with_injections(scenarios.BURST))
    del given["group"][0]["wake_on"]
    scenario = schema.parse(given, Path())
    _, result = live(scenario, tmp_path)
    (alert,) = result.alerts
    assert alert.latency_ms is not None
    assert alert.from_wake_ms is not None
    assert alert.from_wake_ms < 2000 < alert.latency_ms < scenarios.INTERVAL_MS + 2000
    assert "ulp" not in result.wakes


def test_energy_is_what_the_ledger_charges_for_the_times_of_the_wakes(tmp_path: Path):
    found, result = live(scenarios.make(), tmp_path)
    active, radio, sleep, flash, boot = found.rates
    for wake in found.wakes:
        awake_ms, radio_ms, slept_ms, flash_bytes = wake.found["spent"]
        expected = (boot + (awake_ms - radio_ms) * active, radio_ms * radio, slept_ms * sleep, flash_bytes * flash)
        for spent_uj, nj in zip(wake.energy_uj, expected, strict=True):
            assert abs(spent_uj - nj / 1000) <= 2
    assert sum(result.energy_uj) == sum(sum(wake.energy_uj) for wake in found.wakes)


def test_each_policy_measures_the_same_and_pays_its_own_way(tmp_path: Path):
    scenario = with_policies(scenarios.tables(signal=scenarios.with_injections(scenarios.BURST)))
    results = [live(scenario, tmp_path / str(policy), policy)[1] for policy in (EDGEWISE, JSON_EACH, BATCHED)]
    edgewise, each, batched = results
    for result in results:
        assert result.lost == result.twice == 0
    assert each.records["line"].made == batched.records["line"].made
    assert abs(each.records["line"].made - sum(edgewise.wakes.values())) <= 2
    assert each.sessions > 9 * batched.sessions
    assert edgewise.life_days > 2 * each.life_days
    assert batched.life_days > 2 * each.life_days
    (alert,) = edgewise.alerts
    (line,) = each.alerts
    (late,) = batched.alerts
    assert alert.latency_ms is not None and line.latency_ms is not None and late.latency_ms is not None  # noqa: PT018
    assert alert.latency_ms < line.latency_ms < late.latency_ms


@pytest.mark.parametrize("kind", ["no-wifi", "broker-down", "ingest-down"])
def test_what_is_measured_while_the_cloud_is_out_of_reach_comes_afterwards(kind: str, tmp_path: Path):
    faults = [{"kind": kind, "from": "20m", "to": "80m"}]
    scenario = scenarios.make("3h", faults, signal=scenarios.with_injections(scenarios.BURST))
    _, result = live(scenario, tmp_path)
    assert_whole(result)
    assert result.failed_sessions > 3
    (alert,) = result.alerts
    assert alert.latency_ms is not None
    assert alert.visible_ms + alert.latency_ms > 80 * 60_000


def test_a_link_that_breaks_two_sessions_of_three_loses_nothing(tmp_path: Path):
    scenario = scenarios.make("8h", [{"kind": "lossy", "from": 0, "to": "8h", "share": 0.7}])
    found, result = live(scenario, tmp_path)
    assert_whole(result)
    assert result.failed_sessions >= 3
    assert sum(books[3] for books in found.stored.by_stream.values()) > 0  # some came again


@pytest.mark.parametrize("share", range(2))
def test_hangs_lose_nothing_and_power_cuts_only_what_was_in_rtc_memory(share: int, tmp_path: Path):
    moments = [f"{30 + 7 * n + share}m" for n in range(8)]
    faults = [{"kind": "hang" if n % 2 else "power-cut", "at": moment} for n, moment in enumerate(moments)]
    scenario = scenarios.make("2h", faults)
    found, result = live(scenario, tmp_path)
    assert result.crashes == {"power-cut": 4, "hang": 4}
    assert result.wakes["watchdog"] == 4
    assert result.wakes["cold"] == 5
    assert result.twice == result.set_aside == 0
    assert sum(record.lost for name, record in result.records.items() if name != "reading") == 0
    assert result.records["reading"].lost <= 4 * 16 * 16  # rows since the session before each cut
    assert result.crash_energy_uj == 4 * board.WATCHDOG_MS * found.rates[0] / 1000


def test_a_small_battery_passes_every_band_and_dies(tmp_path: Path):
    scenario = scenarios.make("20h", battery={"capacity_mah": 1.2, "start": 0.6})
    found, result = live(scenario, tmp_path)
    assert set(result.bands) == {"full", "fair", "low", "empty"}
    assert result.died
    assert result.alive_ms < 20 * HOUR_MS
    assert found.wakes[0].battery_mv > 3700 > 3300 > found.wakes[-1].battery_mv
    assert result.battery_left == 0


def test_a_weak_signal_costs_radio_time(tmp_path: Path):
    near, far = (live(scenarios.make(rssi=dbm), tmp_path / str(dbm))[1] for dbm in (-60, -84))
    assert far.radio_ms / far.sessions > 1.5 * near.radio_ms / near.sessions
    assert far.mean_uw > near.mean_uw


def test_a_program_that_ends_is_an_error_with_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(board, "HEAP", "64k")
    with pytest.raises(board.BoardEnded, match=r"board pump-1 ended instead of sleeping(.|\n)*MemoryError") as ended:
        live(scenarios.make(), tmp_path)
    assert str(pickle.loads(pickle.dumps(ended.value))) == str(ended.value)  # it comes from another process

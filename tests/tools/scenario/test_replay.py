"""A replay reproduces what was recorded, moves with the policy as it should, and refuses what is no trace or policy."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support import scenarios
from tests.support.scenarios import live
from tools.cli import main
from tools.scenario import plan, replay, trace
from tools.scenario.checks import ScenarioError
from tools.scenario.plan import DEFAULT, Plan
from tools.scenario.trace import Trace, TraceError

FAULTS = [
    {"kind": "no-wifi", "from": "3h", "to": "5h"},
    {"kind": "broker-down", "from": "8h", "to": "9h"},
    {"kind": "lossy", "from": "11h", "to": "14h", "share": 0.4},
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of a board that had a day with everything in it."""
    folder = tmp_path_factory.mktemp("trace")
    burst = scenarios.BURST | {"every": "100m"}
    scenario = scenarios.make(
        "16h",
        FAULTS,
        signal=scenarios.with_injections(burst),
        battery={"capacity_mah": 10, "start": 0.5},
        rssi=[["0d", -62], ["6h", -84]],
    )
    found, _ = live(scenario, folder)
    path = folder / trace.file_name("Edgewise", "pump-1")
    trace.write(path, scenario, scenario.policies[0], scenario.groups[0], found)
    return path


@pytest.fixture(scope="module")
def read(recorded: Path) -> Trace:
    return trace.read(recorded)


def test_the_recorded_policy_replayed_holds_the_recorded_sessions(read: Trace):
    """Sessions within 5 %, energy within 3 %, bytes within 10 %: costs are fitted, decisions are the firmware's."""
    found = replay.replay(read, DEFAULT)
    held = [session for session in read.columns["session"] if session]
    sent = sum(read.columns["tx_bytes"]) + sum(read.columns["rx_bytes"])
    spent = sum(read.columns["energy_uj"])
    print(
        f"recorded: {len(held)} sessions, {held.count(-1)} failed, {sent} bytes, {spent / 1e6:.2f} J; "
        f"replayed: {found.sessions}, {found.failed}, {found.bytes:.0f}, {found.energy_uj / 1e6:.2f}"
    )
    assert held.count(-1) >= 8
    assert found.sessions == pytest.approx(len(held), rel=0.05)
    assert found.failed == pytest.approx(held.count(-1), abs=2)
    assert found.bytes == pytest.approx(sent, rel=0.1)
    assert found.energy_uj == pytest.approx(spent, rel=0.03)
    assert found.latencies_ms


def test_rarer_sessions_cost_less_and_alerts_come_as_soon(read: Trace):
    usual = replay.replay(read, DEFAULT)
    rare = replay.replay(read, Plan("rare", {"sync_interval_ms": 7_200_000}))
    often = replay.replay(read, Plan("often", {"sync_interval_ms": 120_000}))
    assert rare.sessions < usual.sessions < often.sessions
    assert rare.energy_uj < usual.energy_uj < often.energy_uj
    assert rare.bytes < often.bytes
    assert sorted(rare.latencies_ms)[0] == pytest.approx(sorted(usual.latencies_ms)[0], rel=0.3)


def test_a_bucket_with_one_session_an_hour_holds_back_alerts(read: Trace):
    held_back = replay.replay(read, Plan("one an hour", {"syncs_per_hour": 1}))
    assert held_back.sessions <= 18
    assert max(held_back.latencies_ms) > 600_000


def test_other_bounds_of_the_bands_change_the_schedule(read: Trace):
    low = replay.replay(read, Plan("all low", numbers={"_LOWER_BOUND_MV": (0, 3300, 9000, 9001)}))
    assert low.sessions < replay.replay(read, DEFAULT).sessions
    assert replay.replay(read, DEFAULT) == replay.replay(read, DEFAULT)  # the change was to a copy


def test_without_any_network_rows_fill_flash_and_are_dropped(read: Trace):
    columns = dict(read.columns)
    repeats = 10
    span = read.duration_ms
    columns = {name: values * repeats for name, values in columns.items()}
    wakes = len(read.columns["at_ms"])
    columns["at_ms"] = [at + span * (n // wakes) for n, at in enumerate(columns["at_ms"])]
    columns["reach"] = [1] * len(columns["reach"])
    columns["rows"] = [10 * rows for rows in columns["rows"]]
    columns["cause"] = [1] * len(columns["cause"])
    never = replace(read, columns=columns, duration_ms=span * repeats)
    found = replay.replay(never, DEFAULT, replay.fit(read))
    assert found.failed == found.sessions > 30
    assert found.dropped_rows > 10_000
    assert found.held_rows + found.dropped_rows == pytest.approx(sum(columns["rows"]))
    assert found.held_events == sum(columns["events"])


def test_a_trace_survives_the_file(read: Trace, recorded: Path, tmp_path: Path):
    assert read.board == "pump-1"
    assert len(read.columns["at_ms"]) > 900
    assert set(read.columns["sync"]) >= {0, 1, 2}
    (tmp_path / "copy.json.gz").write_bytes(recorded.read_bytes())
    assert trace.read(tmp_path / "copy.json.gz") == read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "trace 0"}, "does not say 'edgewise trace 1': write it anew"),
        ({"interval_ms": 0}, "interval_ms must be a whole number, is 0"),
        ({"settings": {"sync_interval_ms": 0}}, "sync_interval_ms not an integer of 1000"),
        ({"rates": [1, 2]}, "rates must be five numbers"),
        ({"columns": {"at_ms": [1]}}, "all of the same length and not empty"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(recorded: Path, tmp_path: Path, change: dict[str, Any], message: str):
    given = json.loads(gzip.decompress(recorded.read_bytes()))
    (tmp_path / "bad.json.gz").write_bytes(gzip.compress(json.dumps(given | change).encode()))
    with pytest.raises(TraceError) as refused:
        trace.read(tmp_path / "bad.json.gz")
    assert message in str(refused.value)


def test_moments_that_go_back_are_refused(recorded: Path, tmp_path: Path):
    given = json.loads(gzip.decompress(recorded.read_bytes()))
    given["columns"]["at_ms"][5] = 0
    (tmp_path / "bad.json.gz").write_bytes(gzip.compress(json.dumps(given).encode()))
    with pytest.raises(TraceError, match="at_ms must rise from wake to wake"):
        trace.read(tmp_path / "bad.json.gz")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"settings": {"sync": 1}}, "policy.settings.sync: unknown key: use one of interval_ms"),
        ({"lower_bound_mv": [3700, 3500, 3300]}, "policy.lower_bound_mv must rise from low to full"),
        ({"open_after": 0}, "policy.open_after must be a whole number of 1 to 255, is 0"),
        ({"first_backoff": 1}, 'policy.first_backoff must be "1s" to "1d", is 1 ms'),
        ({"bands": {"low": {"frames": 0}}}, "policy.bands.low.frames must be a whole number of 1 to 255, is 0"),
        ({"bands": {"high": {}}}, "policy.bands.high is not a key here: use one of empty, low, fair, full"),
    ],
)
def test_a_policy_at_fault_is_refused_by_its_key(given: dict[str, Any], message: str):
    with pytest.raises(ScenarioError) as refused:
        plan.parse({"policy": [{"name": "x", **given}]})
    assert message in str(refused.value)


def test_bundled_policies_are_sound_and_others_name_them(tmp_path: Path):
    for file in plan.BUNDLED.glob("*.toml"):
        assert plan.load(file.stem)
    with pytest.raises(ScenarioError, match="or one of these: sync-intervals"):
        plan.load(tmp_path / "none.toml")


def test_a_policy_file_changes_the_numbers_it_names():
    (chosen,) = plan.parse({"policy": [{"name": "x", "open_after": 2, "bands": {"low": {"frames": 5}}}]})
    module = chosen.module()
    assert module.BANDS[1] == (4, 95, 5)
    assert [module.breaker_after((0, failures, 0), module.FAILURE, 0)[0] for failures in (0, 1)] == [0, 1]


def test_command_compares_policies_side_by_side(recorded: Path, tmp_path: Path):
    (tmp_path / "policies.toml").write_text('[[policy]]\nname = "rare"\nsettings = { sync_interval_ms = "2h" }\n')
    command = ["policy", "replay", str(recorded), "--policies", str(tmp_path / "policies.toml")]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 0, shown.output
    figures = json.loads(CliRunner().invoke(main, [*command, "--json"]).output)
    assert [row["policy"] for row in figures] == ["recorded", "replayed as recorded", "rare"]
    assert figures[2]["sessions"] < figures[1]["sessions"]
    for row in figures:
        assert f"{row['policy']} " in shown.output
    bad = CliRunner().invoke(main, ["policy", "replay", str(tmp_path / "policies.toml")])
    assert bad.exit_code == 1
    assert "Give a trace that `edgewise sim scenario` wrote" in bad.output

"""A scenario file is taken whole and right, or refused by the key at fault."""

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.support import scenarios
from tools.scenario import schema
from tools.scenario.checks import ScenarioError


def changed(*path: Any, value: Any = ...) -> dict[str, Any]:
    """The tables of a sound scenario with one key set, or removed."""
    given = scenarios.tables()
    place: Any = given
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return given


def test_bundled_scenarios_are_sound():
    for file in schema.BUNDLED.glob("*.toml"):
        assert schema.load(file.stem).boards


def test_what_a_file_says_is_what_runs():
    scenario = scenarios.make(boards=2, rssi=[["0d", -60], ["1h", -80]], battery={"capacity_mah": 100})
    (group,) = scenario.groups
    assert (group.boards, group.interval_ms) == (("pump-1", "pump-2"), scenarios.INTERVAL_MS)
    assert group.rssi == ((0, -60), (scenarios.HOUR_MS, -80))
    assert group.settings == {"sync_interval_ms": 900_000}
    assert group.battery is not None
    assert group.battery.capacity_mah == 100
    assert scenario.duration_ms == 2 * scenarios.HOUR_MS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (changed("name"), "name is missing: docs/simulate.md shows what it takes"),
        (
            changed("duration", value="ever"),
            'duration must be a time such as "90s", "15m", "2h" or "1d12h", is \'ever\'',
        ),
        (changed("duration", value="1s"), 'duration must be "1m" to "400d", is 1000 ms'),
        (changed("seed", value=-1), "seed must be a whole number of 0 to 2147483647, is -1"),
        (changed("sede", value=1), "sede is not a key here: use one of name, duration, seed, group"),
        (changed("group", value=[]), "group must be a list of tables: write [[group]]"),
        (changed("group", 0, "schema", value="v1;w=0"), "group pump.schema: feature schema:"),
        (
            changed("group", 0, "smaple", value=1),
            "group pump.smaple is not a key here: use one of name, boards, schema",
        ),
        (changed("group", 0, "sample", value=1), "group pump.sample: a window of it is 16 ms"),
        (
            changed("group", 0, "limits", value={"flow.sd": [0, 1]}),
            "group pump.limits must be one of flow.mean, flow.max",
        ),
        (changed("group", 0, "limits", value={"flow.max": 3}), "group pump.limits.flow.max must be [low, high]"),
        (changed("group", 0, "wake_on", value={"channel": "flow"}), "group pump.wake_on: give below, above or both"),
        (changed("group", 0, "boards", value=["Pump"]), "group pump.boards: 'Pump' must be 1 to 32 of a-z, 0-9 and -"),
        (changed("group", 0, "rssi", value=[["1h", -60]]), "group pump.rssi must begin with moment 0"),
        (changed("group", 0, "battery", value={"start": 0}), "group pump.battery.start must be a number of 0.01 to 1"),
        (
            changed("group", 0, "battery", value={"curve": [[0, 3000], [1, 4200]]}),
            "group pump.battery.curve must be [[x, y], ...], x falling within 0 to 1",
        ),
        (changed("group", 0, "settings", value={"sink": 1}), "group pump.settings.sink: unknown key: use one of"),
        (
            changed("group", 0, "settings", value={"interval_ms": 1000}),
            "group pump.settings.interval_ms is not set here: it is a window of samples, set sample",
        ),
        (changed("group", 0, "signal", value={}), "group pump.signal.flow is missing"),
        (changed("group", 0, "signal", value={"series": "none.csv"}), None),
        (
            changed("group", 0, "signal", "inject", value=[scenarios.BURST | {"channel": "flux"}]),
            "group pump.signal.inject.channel must be one of flow, is 'flux'",
        ),
        (
            changed("group", 0, "signal", "inject", value=[scenarios.BURST | {"every": "1m"}]),
            "group pump.signal.inject.every must be longer than for",
        ),
        (changed("policy", 0, "uplink", value="xml"), "policy.uplink must be one of edgewise, json, is 'xml'"),
        (changed("policy", value=[{"name": "a"}, {"name": "a"}]), "policy.name 'a' is used twice"),
        (changed("policy", 0, "batch", value=2), "policy.batch is not a key here"),
        (changed("fault", value=[{"kind": "rain", "at": 1}]), "fault.kind must be one of power-cut, hang, no-wifi"),
        (changed("fault", value=[{"kind": "hang", "from": 1}]), "fault.at is missing"),
        (changed("fault", value=[{"kind": "no-wifi", "from": "2h", "to": "1h"}]), "fault.to must come after from"),
        (
            changed("fault", value=[{"kind": "hang", "at": 1, "boards": ["pump-9"]}]),
            "fault.boards must be one of pump-1, is 'pump-9'",
        ),
        (changed("radio", value={"kbps": 0}), "radio.kbps must be a whole number of 1 to 1000000, is 0"),
    ],
)
def test_a_key_at_fault_is_named_with_what_to_write(given: dict[str, Any], message: str | None):
    if message is None:  # a series is opened when it is played
        schema.parse(given, Path())
        return
    with pytest.raises(ScenarioError) as refused:
        schema.parse(given, Path())
    assert message in str(refused.value)


def test_two_groups_cannot_share_a_board():
    given = scenarios.tables()
    given["group"].append(copy.deepcopy(given["group"][0]))
    with pytest.raises(ScenarioError, match="two boards are called pump-1: give one group another name"):
        schema.parse(given, Path())


def test_a_file_that_is_not_there_names_those_that_are(tmp_path: Path):
    with pytest.raises(ScenarioError, match=r"Give a TOML file, or one of these: .*three-pumps"):
        schema.load(tmp_path / "none.toml")


def test_a_file_that_is_no_toml_says_where(tmp_path: Path):
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(ScenarioError, match=r"is not TOML: .*line 1"):
        schema.load(tmp_path / "bad.toml")


@pytest.mark.parametrize(("given", "ms"), [("250ms", 250), ("1.5s", 1500), ("1d12h", 129_600_000), (70, 70)])
def test_times_have_units(given: Any, ms: int):
    assert schema.time_ms(given, "key") == ms

"""device/config.py: what is in force of config.json and of what the cloud wants, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.merge import KEYS
from tests.support.micropython import evaluate

GOOD: dict[str, Any] = {
    "device": "pump-1",
    "kind": "pump",
    "schema": "v1;w=4;c=flow:l/s:100;f=mean",
    "sensor": {"driver": "replay", "file": "recording.bin"},
    "broker": {"host": "10.0.0.1", "port": 1883},
    "interval_ms": 16000,
    "settings": {"sync_interval_ms": 120_000, "deadband": [3]},
}


def config(root: Path, code: str, given: Any = None) -> Any:
    """`result` of code that works with `config`, read from a config.json of GOOD, or `given`."""
    (root / "config.json").write_text(given if isinstance(given, str) else json.dumps(given or GOOD))
    return evaluate(
        "from device.config import Config\nfrom device.files import Files\nfrom device.errors import ConfigError\n"
        f"config = Config(Files, {str(root)!r})\n{code}"
    )


def test_what_config_json_leaves_out_has_its_default(tmp_path: Path):
    in_force = config(tmp_path, f"result = {{key: config[key] for key in {list(KEYS)!r}}}")
    assert in_force["interval_ms"] == 16000
    assert in_force["sync_interval_ms"] == 120_000
    assert in_force["heartbeat_rows"] == KEYS["heartbeat_rows"][3]
    assert in_force["sensitive"] is False


def test_only_what_differs_from_its_default_is_reported(tmp_path: Path):
    assert config(tmp_path, "result = config.reported()") == {
        "interval_ms": 16000,
        "sync_interval_ms": 120_000,
        "deadband": [3],
    }


def test_settings_of_the_cloud_go_first_and_survive_a_restart(tmp_path: Path):
    code = 'result = [config.apply(4, {"interval_ms": 30000, "sensitive": True}, 0), config.apply(4, {}, 0)]'
    assert config(tmp_path, code) == [True, False], "the same WANT is taken once"
    result = config(tmp_path, 'result = [config.version, config["interval_ms"], config["sync_interval_ms"]]')
    assert result == [4, 30000, 120_000]


def test_a_setting_back_at_its_default_is_a_setting(tmp_path: Path):
    default = KEYS["interval_ms"][3]
    assert (
        config(tmp_path, f'config.apply(1, {{"interval_ms": {default}}}, 0)\nresult = config["interval_ms"]') == default
    )


def test_unknown_and_impossible_settings_are_passed_over(tmp_path: Path):
    code = """
wanted = {"interval_ms": 1, "colour": "red", "sensitive": 1, "deadband": [-1], "heartbeat_rows": 7}
config.apply(1, wanted, 0)
result = [config["interval_ms"], config["sensitive"], config["deadband"], config["heartbeat_rows"]]
"""
    assert config(tmp_path, code) == [16000, False, [3], 7], "config.json's values stay where the cloud's cannot be"


def test_settings_too_long_to_be_kept_whole_are_kept_as_far_as_they_can_be_used(tmp_path: Path):
    code = """
wanted = {"interval_ms": 30000, "colour": "\\x00" * 128}
for n in range(30):
    wanted["later-%d" % n] = "x" * 128
result = config.apply(4, wanted, 0)
"""
    assert config(tmp_path, code) is True
    assert config(tmp_path, 'result = [config.version, config["interval_ms"]]') == [4, 30000]


def test_a_change_on_the_spot_meets_the_clouds_by_the_rule_of_each_key(tmp_path: Path):
    given = GOOD | {
        "local_version": 2,
        "settings": {"threshold_milli": 500, "heartbeat_rows": 30, "syncs_per_hour": 10, "sync_interval_ms": 120_000},
    }
    wanted = {"threshold_milli": -9, "heartbeat_rows": 90, "syncs_per_hour": 5, "sync_interval_ms": 60_000}
    code = f"config.apply(3, {wanted!r}, %d)\nresult = [config[key] for key in {list(wanted)!r}]"
    assert config(tmp_path, code % 1, given) == [500, 30, 5, 60_000], "board, least, least, cloud"
    assert config(tmp_path, code.replace("apply(3", "apply(4") % 2, given) == list(wanted.values()), "the cloud knew"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "Pump 1"}, "device must be 1 to 32 of a-z, 0-9 and -, is Pump 1"),
        ({"device": None}, "device must be a str, is None"),
        ({"broker": {"host": "10.0.0.1"}}, "port must be a int, is None"),
        ({"broker": "10.0.0.1"}, "broker must be a dict, is '10.0.0.1'"),
        ({"schema": ""}, "schema must be a str, is ''"),
        ({"settings": {"interval_ms": 5}}, "settings: interval_ms not an integer of 100 to 86400000"),
        ({"settings": {"colour": 5}}, "settings: colour unknown key"),
        ({"kind": "k" * 33}, "kind must be at most 32 characters"),
        ({"first_epoch": -1}, "first_epoch must be 1 to 1073741823, is -1"),
        ({"first_epoch": "2"}, "first_epoch must be 1 to 1073741823, is '2'"),
        ({"local_version": 1 << 32}, "local_version must be 0 to 4294967295, is 4294967296"),
        ({"limits": ["flow.max"]}, "limits must be {feature: [low, high]}, are ['flow.max']"),
        ({"limits": {"flow.max": [5]}}, "limits must be {feature: [low, high]}, are {'flow.max': [5]}"),
        ({"limits": {"flow.max": [5, 4]}}, "limits must be {feature: [low, high]}, are {'flow.max': [5, 4]}"),
        ({"limits": {"flow.max": ["a", "b"]}}, "limits must be {feature: [low, high]}, are {'flow.max': ['a', 'b']}"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str):
    with pytest.raises(RuntimeError, match="ConfigError") as refused:
        config(tmp_path, "result = 0", GOOD | change)
    assert message in str(refused.value)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path):
    for text in ('{"device": "pu', "[1]"):
        with pytest.raises(RuntimeError, match=r"ConfigError: .*config\.json: "):
            config(tmp_path, "result = 0", text)


def test_a_damaged_record_of_the_cloud_leaves_config_json_in_force(tmp_path: Path):
    config(tmp_path, 'config.apply(4, {"interval_ms": 30000}, 0)\nresult = 0')
    for path in tmp_path.glob("desired.*"):
        path.write_bytes(path.read_bytes()[:-3])
    assert config(tmp_path, 'result = [config.version, config["interval_ms"]]') == [0, 16000]

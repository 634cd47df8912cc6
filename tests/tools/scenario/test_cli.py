"""`edgewise sim scenario` says what is wrong before it begins, and writes what it promises."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.cli import main

SCENARIO = """
name = "one pump"
duration = "20m"

[[group]]
name = "pump"
schema = "v1;w=16;c=flow:l/s:100;f=mean,max,min"
sample = 3750
battery = "mains"

[group.signal]
flow = { mean = 12.0 }

[[policy]]
name = "Edgewise"

[[policy]]
name = "JSON"
uplink = "json"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pump.toml"
    path.write_text(SCENARIO)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--duration", "soon"], "--duration must be a time such as"),
        (["--policy", "XML"], "--policy must be one of Edgewise, JSON, is 'XML'"),
    ],
)
def test_an_option_at_fault_is_named(file: Path, words: list[str], message: str):
    done = CliRunner().invoke(main, ["sim", "scenario", str(file), "--out", str(file.parent / "out"), *words])
    assert done.exit_code == 1
    assert message in done.output
    assert not (file.parent / "out").exists()


def test_a_file_at_fault_is_named_with_its_key(file: Path):
    file.write_text(SCENARIO.replace("sample", "smaple"))
    done = CliRunner().invoke(main, ["sim", "scenario", str(file), "--out", str(file.parent / "out")])
    assert done.exit_code == 1
    assert "group pump.sample is missing: docs/simulate.md shows what it takes" in done.output


@pytest.mark.usefixtures("best_program")
def test_report_data_and_traces_are_written_for_the_policy_that_is_asked_for(file: Path):
    out = file.parent / "out"
    command = ["sim", "scenario", str(file), "--out", str(out), "--policy", "Edgewise", "--jobs", "1", "--json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout, parse_constant=pytest.fail)  # neither Infinity nor NaN is JSON
    assert [policy["policy"] for policy in data["policies"]] == ["Edgewise"]
    assert json.loads((out / "report.json").read_text()) == data
    assert sorted(path.name for path in out.iterdir()) == [
        "alerts.png",
        "battery.png",
        "power.png",
        "report.html",
        "report.json",
        "traces",
    ]
    assert [path.name for path in (out / "traces").iterdir()] == ["edgewise-pump-1.json.gz"]
    assert data["results"][0]["life_days"] is data["policies"][0]["life_days"] is None  # a board on mains

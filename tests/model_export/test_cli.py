"""`edgewise model train` and `export`, as a person or a program calls them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from contract import artifact
from model_export import keys
from model_export.cli import model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    outcome = CliRunner().invoke(model, ["train", "--data", "water-flow", "--out", str(tmp_path / "wf")])
    assert outcome.exit_code == 0, outcome.output
    assert "elliptic-envelope on water-flow" in outcome.output
    assert "false alarms" in outcome.output
    return tmp_path / "wf"


def test_a_model_is_trained_exported_and_found_again_byte_for_byte(folder: Path, tmp_path: Path, native_toolchain):
    keys.create(tmp_path / "keys", "demo")
    command = ["export", str(folder), "--version", "1.2.0", "--json", "--keys", str(tmp_path / "keys"), "--key", "demo"]
    environment = {"SOURCE_DATE_EPOCH": "1700000000"}
    files = [tmp_path / "one.ewa", tmp_path / "two.ewa"]
    for file in files:
        outcome = CliRunner().invoke(model, [*command, "--out", str(file)], env=environment)
        assert outcome.exit_code == 0, outcome.output
        told = json.loads(outcome.output)
        assert (told["arch"], told["version"], told["sequence"]) == ("x64", "1.2.0", 1002000)
        assert told["bytes"] == file.stat().st_size
    assert files[0].read_bytes() == files[1].read_bytes()
    _, manifest, _, _ = artifact.split(files[0].read_bytes())
    assert manifest.created == 1_700_000_000
    assert json.loads(files[0].with_suffix(".card.json").read_text())["name"] == "water-flow"


def test_a_key_is_also_named_by_its_file(folder: Path, tmp_path: Path, native_toolchain):
    keys.create(tmp_path, "own")
    file = tmp_path / "m.ewa"
    command = ["export", str(folder), "--version", "1.0.0", "--key", str(tmp_path / "own.pem"), "--out", str(file)]
    outcome = CliRunner().invoke(model, command)
    assert outcome.exit_code == 0, outcome.output
    assert "0 decisions differ" in outcome.output
    assert file.is_file()


def test_the_card_is_printed_for_programs(tmp_path: Path):
    command = ["train", "--data", "shuttle", "--out", str(tmp_path / "s"), "--detector", "decision-tree", "--json"]
    outcome = CliRunner().invoke(model, [*command, "--set", "max_depth=3", "--set", "criterion=entropy"])
    assert outcome.exit_code == 0, outcome.output
    card = json.loads(outcome.output)
    assert card["settings"] == {"max_depth": 3, "criterion": "entropy"}
    assert card == json.loads((tmp_path / "s" / "card.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nothing.csv"], "No such file"),
        (["train", "--data", "water-flow", "--train-part", "0.8", "--held-out-part", "0.4"], "exceed the series"),
        (["train", "--data", "water-flow", "--set", "seed"], "is not NAME=VALUE"),
        (["train", "--data", "water-flow", "--schema", "v9"], "is not version v1"),
    ],
)
def test_errors_say_what_to_do_and_leave_no_traceback(tmp_path: Path, arguments, message):
    outcome = CliRunner().invoke(model, [*arguments, "--out", str(tmp_path / "m")])
    assert outcome.exit_code != 0
    assert message in outcome.output
    assert "Traceback" not in outcome.output
    assert not (tmp_path / "m").exists()


def test_a_missing_key_is_explained(folder: Path, tmp_path: Path):
    command = ["export", str(folder), "--version", "1.0.0", "--key", "none", "--keys", str(tmp_path)]
    outcome = CliRunner().invoke(model, command)
    assert outcome.exit_code == 1
    assert "no key" in outcome.output

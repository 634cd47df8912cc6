"""`edgewise model train` and `export`, as a person or a program calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from contract import artifact, table
from model_export import keys
from model_export.cli import model
from tests.model_export.conftest import make_series


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
    file = tmp_path / "pump.csv"
    series = make_series(labels=True)
    assert series.labels is not None
    cells = np.column_stack((series.values, series.labels))
    np.savetxt(file, cells, delimiter=",", header="a,b,fault", comments="", fmt="%g")
    command = ["train", "--data", str(file), "--label", "fault", "--window", "1", "--features", "last"]
    command += ["--out", str(tmp_path / "s"), "--detector", "decision-tree", "--json"]
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


def test_a_window_and_features_that_are_given_replace_the_data_s_own_schema(tmp_path: Path):
    command = ["train", "--data", "water-flow", "--detector", "gaussian", "--out", str(tmp_path / "m"), "--json"]
    for given, schema in ((["--window", "4"], "w=4;"), (["--features", "mean,sd"], "f=mean,sd"), ([], "w=8;")):
        outcome = CliRunner().invoke(model, [*command, *given])
        assert outcome.exit_code == 0, outcome.output
        assert schema in json.loads(outcome.output)["schema"]


def test_a_time_that_is_none_is_named(folder: Path, tmp_path: Path):
    keys.create(tmp_path, "own")
    command = ["export", str(folder), "--version", "1.0.0", "--key", str(tmp_path / "own.pem")]
    outcome = CliRunner().invoke(model, command, env={"SOURCE_DATE_EPOCH": "yesterday"})
    assert "SOURCE_DATE_EPOCH is 'yesterday': give unix seconds" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_missing_key_is_explained(folder: Path, tmp_path: Path):
    command = ["export", str(folder), "--version", "1.0.0", "--key", "none", "--keys", str(tmp_path)]
    outcome = CliRunner().invoke(model, command)
    assert outcome.exit_code == 1
    assert "no key" in outcome.output


@pytest.fixture(scope="module")
def forests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two isolation forests of one name, of 12 and 4 trees, a later one of 12, and a key."""
    home = tmp_path_factory.mktemp("forests")
    keys.create(home, "own")
    for name, trees, seed in (("full", 12, 0), ("small", 4, 0), ("later", 12, 1)):
        command = ["train", "--data", "water-flow", "--detector", "isolation-forest", "--out", str(home / name)]
        command += ["--set", f"n_estimators={trees}", "--set", "max_samples=32", "--seed", str(seed)]
        assert CliRunner().invoke(model, command).exit_code == 0
    return home


def exported(home: Path, folder: str, version: str, *more: str) -> tuple[str, artifact.Manifest, bytes]:
    file = home / f"{folder}-{version}.ewa"
    command = ["export", str(home / folder), "--target", "blob", "--version", version, "--key", str(home / "own.pem")]
    outcome = CliRunner().invoke(model, [*command, "--out", str(file), *more])
    assert outcome.exit_code == 0, outcome.output
    _, manifest, _, payload = artifact.split(file.read_bytes())
    return outcome.output, manifest, payload


def test_a_table_keeps_the_places_of_values_and_biases_of_its_base(forests: Path, native_toolchain):
    _, _, old = exported(forests, "full", "1.0.0")
    _, _, new = exported(forests, "later", "1.1.0", "--base", str(forests / "full-1.0.0.ewa"))
    _, _, alone = exported(forests, "later", "1.2.0")
    facts, kept = table.Forest(old), table.Forest(new)
    assert new[kept.bias_at : kept.digests_at] == old[facts.bias_at : facts.digests_at]
    assert alone != new


def test_a_smaller_forest_stands_in_and_says_how_often_it_differs(forests: Path, native_toolchain):
    _, manifest, full = exported(forests, "full", "2.0.0")
    assert (manifest.rung, manifest.disagreement) == (0, 0.0)
    told, manifest, small = exported(forests, "small", "2.0.0", "--stands-in-for", str(forests / "full"), "--rung", "2")
    assert manifest.rung == 2
    assert 0 < manifest.disagreement < 0.2
    assert f"on rung 2, decides {manifest.disagreement:.2%} of the windows otherwise" in told
    assert len(small) < len(full) / 2
    card = json.loads((forests / "small-2.0.0.card.json").read_text())
    assert card["export"]["stands_in"] == {"rung": 2, "disagreement": manifest.disagreement}


def test_what_cannot_be_a_base_or_stand_in_is_refused(forests: Path, folder: Path, tmp_path: Path):
    (tmp_path / "no.ewa").write_bytes(b"no artifact")
    blob = ["--target", "blob"]
    for arguments, message in (
        (["--base", str(tmp_path / "no.ewa")], "machine code resembles no base"),
        ([*blob, "--base", str(tmp_path / "no.ewa")], "no.ewa is no artifact"),
        ([*blob, "--stands-in-for", str(tmp_path / "none")], "holds no estimator"),
        ([*blob, "--rung", "0"], "0 is not in the range"),
    ):
        command = ["export", str(forests / "small"), "--version", "1.0.0", "--key", str(forests / "own.pem")]
        outcome = CliRunner().invoke(model, [*command, *arguments])
        assert outcome.exit_code != 0
        assert message in outcome.output
    other = ["train", "--data", "water-flow", "--name", "other", "--out", str(tmp_path / "other")]
    assert CliRunner().invoke(model, other).exit_code == 0
    command = ["export", str(tmp_path / "other"), "--version", "1.0.0", "--key", str(forests / "own.pem")]
    outcome = CliRunner().invoke(model, [*command, "--stands-in-for", str(folder)])
    assert "name 'other' stands in for 'water-flow'" in outcome.output

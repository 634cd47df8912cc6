"""A model too heavy for a board is refused, with a setting that was fitted, compiled and does fit."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from model_export import budget, convert, keys
from model_export import compile as compiler
from model_export import model as models
from model_export.cli import model as command
from model_export.errors import ModelError
from model_export.model import Model
from model_export.train import Plan, train
from tests.model_export.conftest import make_series

FOREST = {"n_estimators": 8, "max_samples": 32}
SCHEMA = "v1;w=1;c=a::100,b::100;f=last"


@pytest.fixture(scope="module")
def forest() -> Model:
    return train(make_series(), Plan("pump", SCHEMA, "isolation-forest", FOREST))


def size_of(model: Model) -> int:
    return len(compiler.native_module(convert.c_source(model), "x64"))


@pytest.fixture(scope="module")
def size(forest, native_toolchain) -> int:
    return size_of(forest)


def test_the_setting_that_is_named_fits(forest, size):
    limit = size // 2
    found = budget.smaller(forest, "x64", size, limit)
    assert found is not None
    setting, value, promised = found
    assert setting == "n_estimators"
    again = train(make_series(), Plan("pump", SCHEMA, "isolation-forest", FOREST | {setting: value}))
    assert size_of(again) <= limit
    assert promised <= limit
    assert budget.smaller(forest, "x64", size, 10) is None


def test_a_classifier_is_made_smaller_by_leaving_out_trees(native_toolchain):
    plan = Plan("pump", SCHEMA, "random-forest", {"n_estimators": 16})
    trained = train(make_series(labels=True), plan)
    size = size_of(trained)
    found = budget.smaller(trained, "x64", size, size - 100)
    assert found is not None
    assert found[1] < 16
    assert found[2] <= size - 100


def test_a_detector_without_such_a_setting_is_advised_fewer_features():
    trained = train(make_series(), Plan("pump", SCHEMA, "gaussian"))
    with pytest.raises(
        ModelError, match=r"900 bytes, pump-board takes 500. Give gaussian at most 1 features"
    ) as caught:
        budget.require(trained, "x64", 900, 500, "pump-board")
    assert caught.value.code == "budget"
    budget.require(trained, "x64", 500, 500, "pump-board")


def test_export_refuses_a_model_over_the_budget_and_writes_nothing(tmp_path: Path, forest, size):
    models.save(forest, tmp_path / "model")
    keys.create(tmp_path / "keys", "pump")
    out = tmp_path / "pump.ewa"
    limit = size // 2
    arguments = ["export", str(tmp_path / "model"), "--version", "1.0.0", "--key", "pump"]
    arguments += ["--keys", str(tmp_path / "keys"), "--out", str(out), "--budget-bytes", str(limit)]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 1
    assert f"--budget-bytes takes {limit}. Train it with `--set n_estimators=" in done.output
    assert not out.exists()
    done = CliRunner().invoke(command, [*arguments[:-1], "100000"])
    assert done.exit_code == 0, done.output
    assert out.exists()


def test_an_unknown_board_names_the_known_ones():
    with pytest.raises(ModelError, match="choose one of esp32, esp32-s3, esp32-c3"):
        budget.by_name("z80")


def test_every_board_s_processor_can_be_built_for():
    assert {board.arch for board in budget.BOARDS.values()} <= set(compiler.COMPILERS)

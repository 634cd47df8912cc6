"""A simulated board with a model of its own: scored natively, sure or in doubt, and answered by a tier that knows."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract import wire
from model_export import evaluate_board, keys
from model_export.data import Series
from model_export.train import Plan, train
from tests.support import scenarios
from tests.support.scenarios import as_printed, live
from tools.scenario import plan, replay, schema, signals, trace
from tools.scenario.checks import ScenarioError
from tools.scenario.program import Program

HALF_A_STEP = scenarios.BURST | {"at": "61m", "for": "10m", "size": 0.5}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, native_toolchain: Path) -> Mapping[str, Any]:
    """What a group says to run a model that was trained on the calm signal."""
    folder = tmp_path_factory.mktemp("model")
    key = keys.create(folder, "site")
    calm = scenarios.make("10h")
    values = signals.play(calm.groups[0], "pump-1", calm.duration_ms, seed=99).counts / 100
    model = train(Series("pump", "0" * 64, ("flow",), values, None), Plan("pump", calm.groups[0].schema))
    (folder / "pump.ewa").write_bytes(evaluate_board.export(model, key))
    return {"model": str(folder / "pump.ewa"), "trust": ["site"], "keys": str(folder)}


def test_the_model_scores_routes_and_is_kept_after_its_trial(given: Mapping[str, Any], tmp_path: Path):
    made = scenarios.make(signal=scenarios.with_injections(scenarios.BURST), **given)
    found, result = live(made, tmp_path)
    assert (result.lost, result.twice) == (0, 0)
    assert not any("no model" in route for route in result.routes), result.routes
    (alert,) = result.alerts
    assert alert.latency_ms is not None
    assert alert.latency_ms < 2000
    assert result.records["update"].stored >= 1
    assert all(wake.found["clean"] for wake in found.wakes)


def test_the_frozen_firmware_runs_the_same_native_model(
    given: Mapping[str, Any], frozen_program: Program, tmp_path: Path
):
    made = scenarios.make("1h", signal=scenarios.with_injections(scenarios.BURST), **given)
    in_files, _ = live(made, tmp_path / "files")
    frozen, result = live(made, tmp_path / "frozen", program=frozen_program)
    assert as_printed(frozen) == as_printed(in_files)
    assert result.alerts
    assert not any("no model" in route for route in result.routes), result.routes


def test_a_doubtful_window_is_asked_about_and_the_answer_counts(given: Mapping[str, Any], tmp_path: Path):
    made = scenarios.make("3h", signal=scenarios.with_injections(HALF_A_STEP), **given)
    found, alone = live(made, tmp_path / "alone")
    asked = found.stored.queries
    print(f"routes {alone.routes}; {asked} questions; alone {alone.radio_ms} ms of radio")
    assert asked > 0
    _, answered = live(replace(made, answer_ms=200), tmp_path / "answered")
    print(f"answered {answered.radio_ms} ms of radio, alerts {[alert.latency_ms for alert in answered.alerts]}")
    assert answered.radio_ms < alone.radio_ms  # nobody listens for ANSWER_MS in vain
    assert answered.lost == answered.twice == 0


def test_replay_routes_as_the_board_did(given: Mapping[str, Any], tmp_path: Path):
    made = scenarios.make("3h", signal=scenarios.with_injections(HALF_A_STEP), **given)
    found, result = live(made, tmp_path)
    path = tmp_path / "trace.json.gz"
    trace.write(path, made, made.policies[0], made.groups[0], found)
    replayed = replay.replay(trace.read(path), plan.DEFAULT)
    assert replayed.routes == result.routes
    private = replay.replay(trace.read(path), plan.Plan("private", {"sensitive": True}))
    assert f"{wire.ROUTE_NAMES[wire.ROUTE_CLOUD]}: {wire.WHY_NAMES[wire.WHY_MARGIN]}" not in private.routes
    assert sum(private.routes.values()) == sum(replayed.routes.values())


def test_a_model_the_board_refuses_is_an_error_that_says_why(given: Mapping[str, Any], tmp_path: Path):
    scenario = scenarios.make("2h", None, **(dict(given) | {"trust": []}))
    with pytest.raises(ScenarioError, match="was refused by the board: unknown key"):
        live(scenario, tmp_path)


def test_a_model_or_key_that_is_not_there_is_named():
    with pytest.raises(ScenarioError, match=r"group pump.model: none.ewa is not there: export it"):
        scenarios.make(model="none.ewa")
    with pytest.raises(ScenarioError, match=r"group pump.trust: "):
        schema.parse(scenarios.tables(trust=["nobody"], keys="nowhere"), Path())

"""A rollout from the command line to the end, moved by the web process itself."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cloud.clock import now_ms
from cloud.rollouts.cli import rollout as group
from contract import wire
from tests.support.rollout_fleet import NEW, OLD, PERIOD_MS, RolloutFleet
from tests.support.shadow_fleet import SHARE, ShadowFleet
from tests.support.web import Web

BOARDS = 36


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> RolloutFleet:
    return RolloutFleet(tmp_path_factory.mktemp("fleet"), BOARDS, reports=4, start_ms=now_ms() - 4 * PERIOD_MS)


@pytest.fixture
def web(fleet: RolloutFleet, free_port: Callable[[], int]) -> Iterator[Web]:
    with Web(fleet.fleet.settings, free_port()) as running:
        yield running


def edgewise(web: Web, *words: str) -> Result:
    environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token, "COLUMNS": "180"}
    return CliRunner().invoke(group, list(words), env=environ)


def plan(web: Web, *words: str) -> dict[str, Any]:
    done = edgewise(
        web, "plan", "flow", NEW, "--fallback", OLD, "--steps", "10,100", "--min-canaries", "7", "--period-s", "1",
        "--soak-periods", "3", "--ramp-periods", "1", "--json", *words,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def live(fleet: RolloutFleet, web: Web, number: int, ended: tuple[str, ...]) -> dict[str, Any]:
    """The boards live in real time until the rollout is in one of the stages."""
    deadline = time.monotonic() + 60
    while True:
        fleet.now = now_ms()
        fleet.beat()
        shown = web.get(f"/api/v1/rollouts/{number}")
        if shown["summary"]["stage"] in ended:
            return shown
        assert time.monotonic() < deadline, shown["summary"]
        time.sleep(0.5)


def test_a_rollout_goes_from_plan_to_champion(web: Web, fleet: RolloutFleet) -> None:
    planned = plan(web)
    number = planned["summary"]["id"]
    assert planned["summary"]["stage"] == "draft"
    assert set(fleet.wanted().values()) == {OLD}
    assert json.loads(edgewise(web, "start", str(number), "--json").output)["summary"]["stage"] == "canary"
    shown = live(fleet, web, number, ("done", "aborted"))
    assert shown["summary"]["stage"] == "done", shown["summary"]["reason"]
    assert [step["stage"] for step in reversed(shown["steps"])] == ["draft", "canary", "soak", "ramp", "done"]
    assert fleet.on(NEW) == fleet.names
    told = edgewise(web, "status", str(number))
    assert told.exit_code == 0
    assert f"rollout {number}: flow {OLD} to {NEW}" in told.output
    assert f"{BOARDS} run it" in told.output
    assert "done, 100 %" in edgewise(web, "list").output


def test_a_bad_candidate_comes_back_and_the_status_says_so_to_scripts(web: Web, fleet: RolloutFleet) -> None:
    fleet.refuses = True
    number = plan(web, "--start")["summary"]["id"]
    shown = live(fleet, web, number, ("aborted",))
    assert shown["summary"]["reason"].startswith("install: ")
    told = edgewise(web, "status", str(number))
    assert told.exit_code == 2
    assert "load failed" in told.output
    assert fleet.on(NEW) == []


def test_a_comparison_in_the_shadow_from_plan_to_champion(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> None:
    folder = tmp_path_factory.mktemp("fleet")
    fleet = ShadowFleet(folder, BOARDS, reports=4, start_ms=now_ms() - 4 * PERIOD_MS)
    with Web(fleet.fleet.settings, free_port()) as web:
        refused = edgewise(web, "plan", "flow", NEW, "--fallback", OLD, "--ab", "--shadow")
        assert refused.exit_code == 2
        assert "--ab and --shadow" in refused.output
        planned = edgewise(
            web, "plan", "flow", NEW, "--fallback", OLD, "--shadow", "--steps", str(SHARE), "--period-s", "1",
            "--soak-periods", "2", "--start", "--json",
        )  # fmt: skip
        assert planned.exit_code == 0, planned.output
        number = json.loads(planned.output)["summary"]["id"]
        name = next(iter(fleet.wanted_beside()))
        deadline = time.monotonic() + 60
        while True:
            fleet.now = now_ms()
            fleet.beat()
            shown = web.get(f"/api/v1/rollouts/{number}")
            if "approve" in shown["summary"]["reason"]:
                break
            assert time.monotonic() < deadline, shown["summary"]
            time.sleep(0.5)
        fleet.disagree(name, 0, wire.WHY_SHADOW_ANOMALY, 1.25, (1, -2))
        told = edgewise(web, "status", str(number))
        assert re.search(
            r"in the shadow +\d+ windows compared, \d+ decided differently \(1 %\), 1 of them sent", told.output
        )
        assert re.search(rf"{name} +anomaly +1.25", told.output)
        (window,) = web.get(f"/api/v1/rollouts/{number}/disagreements")
        assert (window["device"], window["candidate_says"], window["features"]) == (name, "anomaly", [1, -2])
        assert fleet.on(NEW) == []
        assert edgewise(web, "approve", str(number)).exit_code == 0
        live(fleet, web, number, ("done",))
        fleet.beat()
        assert fleet.on(NEW) == fleet.names
        assert fleet.wanted_beside() == {}
        assert "in the shadow" not in edgewise(web, "list").output


def test_commands_in_the_wrong_stage_change_nothing(web: Web, fleet: RolloutFleet) -> None:
    number = str(plan(web)["summary"]["id"])
    for word in ("pause", "resume", "approve", "rollback"):
        done = edgewise(web, word, number)
        assert done.exit_code == 1
        assert "a rollout that is draft" in done.output
    assert edgewise(web, "abort", number).exit_code == 0
    assert "a rollout that is aborted cannot start" in edgewise(web, "start", number).output
    assert "no rollout 999" in edgewise(web, "start", "999").output
    assert "--steps" in edgewise(web, "plan", "flow", NEW, "--fallback", OLD, "--steps", "a,b").output
    assert set(fleet.wanted().values()) == {OLD}


def test_writes_need_the_token_and_bodies_are_checked(web: Web) -> None:
    body = {"name": "flow", "version": NEW, "fallback": OLD}
    assert web.anyone.post("/api/v1/rollouts", json=body).status_code == 401
    assert web.admin.post("/api/v1/rollouts", json={**body, "stpes": [5, 100]}).status_code == 400
    refused = web.admin.post("/api/v1/rollouts", json={**body, "steps": [5, 50]})
    assert refused.status_code == 400
    assert refused.json()["detail"] == "steps [5, 50]"
    assert web.get("/api/v1/rollouts") == []

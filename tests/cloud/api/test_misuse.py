"""Mistakes at the command line and the API: each ends with a clear error, and the store is as it was."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from cloud.clock import now_ms
from cloud.models.cli import model as model_group
from cloud.models.tables import assignments, deployments
from cloud.rollouts.cli import rollout as rollout_group
from cloud.rollouts.tables import rollout_boards, rollout_steps, rollouts
from cloud.store import tables as t
from tests.support.artifacts import make, new_key
from tests.support.rollout_fleet import NEW, OLD, PERIOD_MS, RolloutFleet
from tests.support.web import Web

BOARDS = 36
_WRITTEN = (
    *(t.models, t.artifacts, t.aliases, t.alias_history, t.desired),
    *(assignments, deployments, rollouts, rollout_boards, rollout_steps),
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> RolloutFleet:
    made = RolloutFleet(tmp_path_factory.mktemp("fleet"), BOARDS, reports=2, start_ms=now_ms() - 2 * PERIOD_MS)
    made.started()  # rollout 1 holds every board
    return made


@pytest.fixture(scope="module")
def web(fleet: RolloutFleet, free_port: Callable[[], int]) -> Iterator[Web]:
    with Web(fleet.fleet.settings, free_port()) as running:
        settle(fleet)
        yield running


@pytest.fixture
def files(fleet: RolloutFleet, tmp_path: Path) -> Path:
    """Artifacts a publisher might send by mistake."""
    third = make(fleet.key, version="3.0.0", sequence=3)
    made = {
        "other-bytes": make(fleet.key, version=NEW, sequence=2, payload=b"other"),
        "old-sequence": make(fleet.key, version="3.0.0", sequence=2),
        "stranger": make(new_key(), version="3.0.0", sequence=3),
        "unsigned": third[:20] + bytes(72) + third[92:],
        "cut": third[:-5],
        "no-artifact": b"PK\x03\x04 something else" * 20,
        "sound": third,
    }
    for name, data in made.items():
        (tmp_path / f"{name}.ewa").write_bytes(data)
    return tmp_path


def edgewise(web: Web, *words: str, token: str | None = None) -> Result:
    group = {"model": model_group, "rollout": rollout_group}[words[0]]
    environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token if token is None else token, "COLUMNS": "200"}
    return CliRunner().invoke(group, list(words[1:]), env=environ)


def books(fleet: RolloutFleet) -> str:
    """A digest of all that a publish, a promotion or a rollout may write; the controller's own clockwork left out."""
    rows = {table.name: [_lasting(row) for row in fleet.fleet.rows(sa.select(table))] for table in _WRITTEN}
    return hashlib.sha256(json.dumps(rows, default=repr, sort_keys=True).encode()).hexdigest()


def settle(fleet: RolloutFleet, quiet_s: float = 3.0) -> None:
    """Until the web process has made the patches there are to make, which tells boards of them."""
    known, since = books(fleet), time.monotonic()
    while time.monotonic() - since < quiet_s:
        time.sleep(0.2)
        if (now := books(fleet)) != known:
            known, since = now, time.monotonic()


def _lasting(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("state", "findings", "changed_ms")}


PLAN = ("rollout", "plan", "flow", NEW, "--fallback", OLD)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model", "publish", "{files}/unsigned.ewa"), "signed by 0000000000000000, a key this server does not trust"),
        (("model", "publish", "{files}/stranger.ewa"), "a key this server does not trust"),
        (("model", "publish", "{files}/cut.ewa"), "cut"),
        (("model", "publish", "{files}/no-artifact.ewa"), "bad format"),
        (
            ("model", "publish", "{files}/other-bytes.ewa"),
            f"flow {NEW} for x64 native (ABI 6.3) exists with other bytes",
        ),
        (("model", "publish", "{files}/old-sequence.ewa"), "sequence 2 does not rise"),
        (("model", "publish", "{files}/sound.ewa", "--to", "nobody"), "no device nobody"),
        (("model", "publish", "{files}/sound.ewa", "--to", "kind:turbine"), "no board of kind 'turbine'"),
        (("model", "publish", "{files}/sound.ewa", "--to", "pump-001,,pump-002"), "give all, none, kind:<kind>"),
        (("model", "publish", "{files}/sound.ewa", "--to", "pump-001"), "pump-001 is in rollout 1"),
        (("model", "promote", "flow", "9.9.9"), "no model flow 9.9.9"),
        (("model", "promote", "flow", NEW, "--alias", "winner"), "'winner' is not one of 'champion', 'challenger'"),
        (("model", "deploy", "flow", NEW, "--to", "pump-001"), "pump-001 is in rollout 1"),
        (("model", "follow", "pump-001"), "pump-001 is in rollout 1"),
        (("model", "delete", "flow", NEW), f"flow {NEW} is in use"),
        (("model", "diff", "flow", OLD, "9.9.9"), "no model flow 9.9.9"),
        (PLAN, "is in rollout 1; wait for its end, abort it, or leave the board out"),
        ((*PLAN, "--kind", "turbine"), f"no board to roll flow {NEW} out to: 0 run {OLD} and match"),
        ((*PLAN, "--devices", "nobody"), f"nobody runs no flow {OLD}"),
        ((*PLAN, "--steps", "50,5,100"), "steps [50, 5, 100]"),
        ((*PLAN, "--window", "evening"), "maintenance window 'evening'"),
        (("rollout", "plan", "flow", "9.9.9", "--fallback", OLD), "no model flow 9.9.9"),
        (("rollout", "plan", "flow", NEW, "--fallback", NEW), f"{NEW} is also the fallback"),
        (("rollout", "start", "1"), "cannot start"),
        (("rollout", "resume", "1"), "cannot resume"),
        (("rollout", "status", "77"), "no rollout 77"),
        (("rollout", "rollback", "1", "--to", "9.9.9"), "no model flow 9.9.9"),
        (("rollout", "rollback", "1", "--to", NEW), f"{NEW} is what is rolled back"),
    ],
)
def test_a_mistake_at_the_command_line_changes_nothing(
    fleet: RolloutFleet, web: Web, files: Path, words: tuple[str, ...], said: str
) -> None:
    before = books(fleet)
    done = edgewise(web, *(word.format(files=files) for word in words))
    assert done.exit_code in (1, 2), done.output
    assert "Error: " in done.output
    assert said in done.output
    assert "Traceback" not in done.output
    assert books(fleet) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/models/flow/aliases/winner", {"version": NEW}, 400),
        ("PUT", "/models/flow/aliases/champion", {"version": NEW, "notes": "a field of another name"}, 400),
        ("PUT", "/models/flow/aliases/champion", {"version": "no version"}, 404),
        ("POST", "/desired", {"name": "flow", "version": NEW, "to": "pump-001"}, 409),
        ("POST", "/rollouts", {"name": "flow", "version": NEW, "fallback": OLD}, 409),
        ("POST", "/rollouts", {"name": "flow", "version": NEW}, 400),
        ("POST", "/rollouts", {"name": "flow", "version": NEW, "fallback": OLD, "false_stops": 0.9}, 400),
        ("POST", "/rollouts", {"name": "flow", "version": NEW, "fallback": OLD, "tolerance": {"alarm": 1}}, 400),
        ("POST", "/rollouts/1/start", None, 409),
        ("POST", "/rollouts/1/rollback", {"version": OLD}, 400),
        ("POST", "/rollouts/77/pause", None, 404),
        ("DELETE", f"/models/flow/{NEW}", None, 409),
    ],
)
def test_a_mistake_at_the_api_is_a_problem_with_a_next_step(
    fleet: RolloutFleet, web: Web, method: str, path: str, body: Any, status: int
) -> None:
    before = books(fleet)
    answer = web.admin.request(method, f"/api/v1{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["next_step"]
    assert books(fleet) == before


@pytest.mark.parametrize(
    "words",
    [
        ("model", "publish", "{files}/sound.ewa"),
        ("model", "promote", "flow", NEW),
        PLAN,
        ("rollout", "pause", "1"),
        ("rollout", "abort", "1"),
    ],
)
def test_without_the_token_nothing_changes(fleet: RolloutFleet, web: Web, files: Path, words: tuple[str, ...]) -> None:
    before = books(fleet)
    done = edgewise(web, *(word.format(files=files) for word in words), token="guess")
    assert done.exit_code == 1
    assert "needs the admin token" in done.output
    assert books(fleet) == before

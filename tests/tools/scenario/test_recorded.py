"""A trace made of what the cloud has stored, beside what the board did in truth; and the command that makes one."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud.devices.history import History, read_history
from cloud.settings import load_settings
from cloud.store.engine import make_engine
from tests.support import scenarios
from tests.support.fleet import Fleet, settings_in
from tests.support.scenarios import HOUR_MS, live
from tests.support.web import Web
from tools.cli import main
from tools.scenario import plan, recorded, replay, trace
from tools.scenario.board import Run
from tools.scenario.cloud import START_MS
from tools.scenario.trace import Trace, TraceError

HOURS = 16
FAULTS = [{"kind": "no-wifi", "from": "6h", "to": "8h"}]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Trace]:
    """A board's life in a scenario, and the trace of it that the cloud's store gives."""
    folder = tmp_path_factory.mktemp("recorded")
    burst = scenarios.BURST | {"every": "100m"}
    scenario = scenarios.make(f"{HOURS}h", FAULTS, signal=scenarios.with_injections(burst))
    found, _ = live(scenario, folder)
    settings = load_settings(
        {"EDGEWISE_DATABASE_URL": f"sqlite:///{folder / 'pump-1' / 'cloud.sqlite'}"}, data_dir=folder
    )

    async def read() -> History:
        engine: AsyncEngine = make_engine(settings)
        async with engine.connect() as connection:
            stored = await read_history(connection, "pump-1", START_MS, START_MS + HOURS * HOUR_MS)
        await engine.dispose()
        return stored

    stored: dict[str, Any] = msgspec.to_builtins(asyncio.run(read()))
    made = recorded.build(stored, START_MS, START_MS + HOURS * HOUR_MS)
    path = folder / "trace.json.gz"
    trace.save(path, made)
    return found, trace.read(path)  # which checks it


def test_wakes_sessions_samples_and_energy_are_those_of_the_board(lived: tuple[Run, Trace]):
    found, made = lived
    columns = made.columns
    true_sessions = [wake for wake in found.wakes if wake.found.get("session")]
    true_uj = sum(sum(wake.energy_uj) for wake in found.wakes)
    failed = sum(wake.found["session"][1] > 0 for wake in true_sessions)
    sessions = [session for session in columns["session"] if session]
    joule = sum(columns["energy_uj"]) / 1e6
    print(
        f"{len(found.wakes)} wakes, {len(true_sessions)} sessions, {failed} failed, {true_uj / 1e6:.1f} J; "
        f"from the cloud {len(columns['at_ms'])}, {len(sessions)}, {sessions.count(-1)}, {joule:.1f} J"
    )
    assert made.interval_ms == scenarios.INTERVAL_MS
    assert made.settings["sync_interval_ms"] == 900_000
    # The last period has no report yet.
    assert len(columns["at_ms"]) == pytest.approx(len(found.wakes), rel=0.08)
    assert len(sessions) == pytest.approx(len(true_sessions), rel=0.1)
    assert sessions.count(-1) == pytest.approx(failed, abs=2)
    assert sum(columns["energy_uj"]) == pytest.approx(true_uj, rel=0.1)
    assert sum(columns["rows"]) == sum(batch[3] for batch in found.stored.readings)
    assert sum(columns["events"]) == len(found.stored.events)


def test_a_replay_over_it_holds_the_board_s_sessions_and_rarer_ones_cost_less(lived: tuple[Run, Trace]):
    found, made = lived
    usual = replay.replay(made, plan.DEFAULT)
    rare = replay.replay(made, plan.Plan("rare", {"sync_interval_ms": 4 * HOUR_MS}))
    held = sum(bool(wake.found.get("session")) for wake in found.wakes)
    spent = sum(sum(wake.energy_uj) for wake in found.wakes)
    print(
        f"board: {held} sessions, {spent / 1e6:.1f} J; replayed {usual.sessions}, {usual.failed} of them failed, "
        f"{usual.energy_uj / 1e6:.1f} J; rare {rare.sessions}, {rare.failed}, {rare.energy_uj / 1e6:.1f} J"
    )
    assert usual.sessions == pytest.approx(held, rel=0.1)
    assert usual.energy_uj == pytest.approx(spent, rel=0.1)
    assert rare.sessions < usual.sessions / 2
    assert rare.energy_uj < usual.energy_uj
    assert usual.latencies_ms


def test_a_board_that_told_of_no_wakes_gives_no_trace():
    nothing = History("pump-1", {}, [], [], [], [])
    with pytest.raises(TraceError, match="pump-1: no health report of that time"):
        recorded.build(msgspec.to_builtins(nothing), 0, HOUR_MS)


def test_the_command_writes_a_trace_that_the_replay_takes(tmp_path: Path, free_port: Any):
    settings = settings_in(tmp_path / "data")
    fleet = Fleet(settings)
    fleet.joined("pump-9", b"12345678")
    fleet.health("pump-9")
    with Web(settings, free_port()) as web:
        environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token}
        out = tmp_path / "pump-9.json.gz"
        yesterday, tomorrow = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (-1, 2))
        words = ["policy", "trace", "pump-9", "-o", str(out), "--json"]
        refused = CliRunner().invoke(main, [*words, "--from", tomorrow, "--to", yesterday], env=environ)
        assert refused.exit_code == 1
        assert "range of time is empty" in refused.output
        done = CliRunner().invoke(main, [*words, "--from", yesterday, "--to", tomorrow], env=environ)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["wakes"] > 0
    replayed = CliRunner().invoke(main, ["policy", "replay", str(out)])
    assert replayed.exit_code == 0, replayed.output

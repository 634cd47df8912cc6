"""`edgewise device events` and `readings`: what boards said, as a table, as CSV and as JSON."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cloud.devices import cli
from model_export import data
from model_export.keys import PublisherKey
from tests.support.artifacts import make
from tests.support.fleet import Fleet
from tests.support.web import Web


@pytest.fixture
def run(web: Web) -> Any:
    """Runs a command as a user of that server."""

    def run(*words: str) -> Result:
        environ = {"EDGEWISE_SERVER": web.url, "COLUMNS": "200"}
        return CliRunner().invoke(cli.device, words, env=environ, catch_exceptions=False)

    return run


def test_events_are_listed_with_the_numbers_a_trace_asks_for(run: Any, fleet: Fleet) -> None:
    fleet.joined("alarmed-1")
    fleet.joined("alarmed-2")
    fleet.event("alarmed-1", score=12.5)
    fleet.event("alarmed-2", score=99)
    listed = run("events", "alarmed-1").output.splitlines()
    assert len(listed) == 2, listed
    assert listed[1].split()[0] == "alarmed-1"
    assert listed[1].split()[-2:] == ["1", "0"]
    every = json.loads(run("events", "--json").output)
    assert {event["device"] for event in every} >= {"alarmed-1", "alarmed-2"}
    assert "no device nobody" in run("events", "nobody").output


def test_readings_are_csv_in_units_that_a_model_can_be_trained_on(
    run: Any, web: Web, fleet: Fleet, key: PublisherKey, tmp_path: Path
) -> None:
    web.publish(make(key, "exported"))  # its schema: flow, l/s, 100 counts each
    fleet.joined("exported-1")
    counts = [37 * at % 50 for at in range(40)]
    fleet.readings("exported-1", [[count] for count in counts])
    done = run("readings", "exported-1")
    assert done.exit_code == 0
    header, *rows = csv.reader(io.StringIO(done.stdout))
    assert header == ["time", "flow [l/s]"]
    assert [row[1] for row in rows] == [f"{count / 100:.10g}" for count in counts]
    assert rows[0][0].endswith("Z")
    (tmp_path / "own.csv").write_text(done.stdout)
    assert data.load(str(tmp_path / "own.csv")).values.shape == (40, 1)


def test_every_sample_comes_once_however_few_the_server_gives_at_once(
    run: Any, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_MOST_ROWS", 7)
    fleet.joined("paged-1", schema_hash=bytes(8))
    for frame in range(3):
        fleet.readings("paged-1", [[frame * 10 + at] for at in range(10)], t_ms=frame * 60_000)
    _, *rows = csv.reader(io.StringIO(run("readings", "paged-1").stdout))
    assert [int(row[1]) for row in rows] == list(range(30))
    found = json.loads(run("readings", "paged-1", "--json").stdout)
    assert [row[3] for row in found["rows"]] == [[float(at)] for at in range(30)]


def test_a_time_without_readings_is_said_beside_the_data(run: Any, fleet: Fleet) -> None:
    fleet.joined("mute-1")
    done = run("readings", "mute-1", "--from", "2001-01-01", "--to", "2001-02-01")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no readings in that time" in done.stderr
    refused = run("readings", "mute-1", "--from", "2001-01-02", "--to", "2001-01-01")
    assert (refused.exit_code, "range of time is empty" in refused.output) == (1, True)

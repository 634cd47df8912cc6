"""Samples of old are deleted, and nothing else is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cloud.devices import pruning
from cloud.devices.cli import device
from cloud.devices.pruning import Pruned, prune
from cloud.store.tables import epochs, events, frames, streams
from contract import wire
from tests.support.fleet import Fleet, settings_in
from tests.support.web import Web


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Two boards with five frames of ten samples each, one a minute, and an event of the first."""
    made = Fleet(settings_in(tmp_path))
    for name in ("pump-1", "pump-2"):
        made.joined(name)
        for frame in range(5):
            made.readings(name, [[frame * 10 + at] for at in range(10)], t_ms=frame * 60_000)
    made.event("pump-1", t_ms=0)
    return made


def minute(fleet: Fleet, number: float) -> int:
    """So many minutes after the boards began, unix ms."""
    return fleet.rows(sa.select(epochs.c.began_ms))[0]["began_ms"] + round(number * 60_000)


def test_frames_that_end_before_the_time_go_and_the_rest_stays(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_AT_ONCE", 2)
    books = fleet.rows(sa.select(streams))
    # The third frame goes on until 2 min 9 s: half of it is from then on.
    done = fleet.run(lambda engine: prune(engine, minute(fleet, 2) + 5_000))
    assert done == Pruned(4, 40, False)
    kept = sorted((row["device"], row["seq"]) for row in fleet.rows(sa.select(frames)))
    assert kept == [(name, seq) for name in ("pump-1", "pump-2") for seq in (20, 30, 40)]
    assert len(fleet.rows(sa.select(events))) == 1
    assert fleet.rows(sa.select(streams)) == books


def test_a_frame_that_was_deleted_and_comes_again_is_not_stored(fleet: Fleet) -> None:
    fleet.run(lambda engine: prune(engine, minute(fleet, 1)))
    fleet.remember({})
    fleet.readings("pump-1", [[at] for at in range(10)])
    first = frames.c.seq == 0
    assert fleet.rows(sa.select(frames).where(first)) == []
    again = (streams.c.device == "pump-1") & (streams.c.duplicates > 0)
    assert [row["duplicates"] for row in fleet.rows(sa.select(streams).where(again))] == [10]


def test_what_lies_beyond_a_gap_stays_until_the_gap_is_closed(fleet: Fleet) -> None:
    fleet.remember({("pump-1", wire.READINGS): 60})
    fleet.readings("pump-1", [[1]], t_ms=0)
    fleet.run(lambda engine: prune(engine, minute(fleet, 9)))
    assert [(row["device"], row["seq"]) for row in fleet.rows(sa.select(frames))] == [("pump-1", 60)]


def test_a_call_ends_in_time_and_the_command_goes_on(fleet: Fleet) -> None:
    first = fleet.run(lambda engine: prune(engine, minute(fleet, 9), longest_s=0))
    assert first == Pruned(5, 50, True)
    second = fleet.run(lambda engine: prune(engine, minute(fleet, 9)))
    assert second == Pruned(5, 50, False)


def test_the_command_deletes_until_nothing_is_left(fleet: Fleet, free_port: Callable[[], int]) -> None:
    with Web(fleet.settings, free_port()) as web:
        environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token}
        done = CliRunner().invoke(device, ["prune", "--before", "2100-01-01", "--json"], env=environ)
        assert json.loads(done.output) == {"frames": 10, "samples": 100}
        refused = CliRunner().invoke(device, ["prune", "--before", "2100-01-01"], env=environ | {"EDGEWISE_TOKEN": "x"})
        assert refused.exit_code == 1

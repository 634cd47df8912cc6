"""What the API says of boards, from records that went through ingest's writer."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from contract import wire
from model_export.keys import PublisherKey
from tests.support.artifacts import digest, make
from tests.support.fleet import Fleet
from tests.support.web import Web


def test_a_board_that_never_spoke_is_new(web: Web, fleet: Fleet) -> None:
    fleet.add("silent")
    shown = web.get("/api/v1/devices/silent")
    assert shown["summary"]["presence"] == "new"
    assert shown["hello"] is None
    assert shown["health"] is None
    assert shown["configuration"]["desired"] == {}


def test_hello_health_and_updates_are_shown_with_names(web: Web, fleet: Fleet) -> None:
    fleet.joined("named")
    fleet.health("named")
    fleet.readings("named", [[1], [2]])
    fleet.update("named", wire.UPDATE_REFUSED, wire.REASON_WRONG_ARCH, detail="board x64, artifact rv32imc")
    shown = web.get("/api/v1/devices/named")
    assert shown["summary"]["presence"] == "online"
    assert shown["summary"]["battery_mv"] == 3650
    assert shown["summary"]["update"]["state"] == "refused"
    assert shown["summary"]["update"]["reason"] == "wrong arch"
    assert shown["summary"]["update"]["detail"] == "board x64, artifact rv32imc"
    assert shown["hello"]["formats"] == ["native"]
    assert shown["hello"]["abi"] == "6.3"
    assert shown["hello"]["wake_cause"] == "timer"
    assert shown["health"]["drops"]["reading"] == 7
    assert shown["health"]["errors"] == {wire.FAULT_NAMES[wire.FAULT_TIMEOUT]: 2}
    assert shown["health"]["radio"]["tx_bytes"] == 9000
    assert [stream["stream"] for stream in shown["streams"]] == ["event", "query", "update", "health", "reading"]


def test_a_board_that_left_in_time_sleeps(web: Web, fleet: Fleet) -> None:
    fleet.joined("asleep")
    fleet.health("asleep", next_contact_ms=3_600_000)
    fleet.say("asleep", False)
    summary = web.get("/api/v1/devices/asleep")["summary"]
    assert summary["presence"] == "sleeping"
    assert summary["next_contact_ms"] - summary["last_contact_ms"] == 3_600_000


def test_readings_come_expanded_in_units_from_the_schema_of_a_model(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    web.publish(make(key, "scaled"))  # its schema names the channel: flow, l/s, 100 counts each
    fleet.joined("flowing")
    rows = [[100 * at] for at in range(50)]
    fleet.readings("flowing", rows[:30], t_ms=1000)
    fleet.readings("flowing", rows[30:], t_ms=31_000)
    found = web.get("/api/v1/devices/flowing/readings")
    assert found["channels"] == [{"name": "flow", "unit": "l/s", "factor": 0.01}]
    assert [row[3][0] for row in found["rows"]] == [float(at) for at in range(50)]
    assert [row[2] for row in found["rows"]] == list(range(50))
    assert found["rows"][1][0] - found["rows"][0][0] == 1000
    assert found["truncated"] is False


def test_a_range_of_time_is_cut_out_exactly(web: Web, fleet: Fleet) -> None:
    fleet.joined("ranged", schema_hash=bytes(8))
    for frame in range(5):
        fleet.readings("ranged", [[frame * 10 + at, -at] for at in range(10)], t_ms=frame * 10_000)
    every = web.get("/api/v1/devices/ranged/readings", limit=1000)["rows"]
    begin, end = every[13][0], every[37][0]
    found = web.get("/api/v1/devices/ranged/readings", from_ms=begin, to_ms=end)
    assert found["rows"] == every[13:37]
    part = web.get("/api/v1/devices/ranged/readings", from_ms=begin, to_ms=end, limit=7)
    assert part["rows"] == every[13:20]
    assert part["truncated"] is True
    last = web.get("/api/v1/devices/ranged/readings", limit=3)
    assert last["rows"] == every[-3:]
    assert last["truncated"] is True
    one = web.get("/api/v1/devices/ranged/readings", limit=2, channel="channel 2")
    assert [row[3] for row in one["rows"]] == [[-8.0], [-9.0]]
    assert web.anyone.get("/api/v1/devices/ranged/readings?channel=flow").status_code == 404


def test_events_page_backwards(web: Web, fleet: Fleet) -> None:
    fleet.joined("busy")
    for at in range(5):
        fleet.event("busy", t_ms=at, score=10.0 + at)
    newest = web.get("/api/v1/devices/busy/events", limit=2)
    assert [event["score"] for event in newest] == [14.0, 13.0]
    assert newest[0]["kind"] == "anomaly"
    assert newest[0]["time_quality"] == "known"
    older = web.get("/api/v1/devices/busy/events", limit=2, before_ms=newest[-1]["received_ms"])
    assert [event["score"] for event in older] == [12.0, 11.0]
    assert web.get("/api/v1/events", limit=1)[0]["device"] == "busy"


def test_events_of_one_session_are_neither_skipped_nor_repeated(web: Web, fleet: Fleet) -> None:
    """They were stored together, at one time."""
    for name in ("crowd-a", "crowd-b"):
        fleet.joined(name)
    with fleet.together():
        for at in range(5):
            fleet.event("crowd-a", t_ms=at, score=10.0 + at)
            fleet.event("crowd-b", t_ms=at, score=20.0 + at)
    for path, count in (("/api/v1/events", 10), ("/api/v1/devices/crowd-a/events", 5)):
        whole = web.get(path, limit=count)
        found: list[Any] = []
        while len(found) < count:
            after = {"after": found[-1]["key"]} if found else {}
            page = web.get(path, limit=3, **after)
            assert page
            found += page
        assert found[:count] == whole


def test_boards_page_by_id(web: Web, fleet: Fleet) -> None:
    for name in ("page-a", "page-b", "page-c"):
        fleet.add(name)
    first = web.get("/api/v1/devices", after="page-", limit=2)
    assert [device["device"] for device in first] == ["page-a", "page-b"]
    assert web.get("/api/v1/devices", after="page-b", limit=1)[0]["device"] == "page-c"


def test_a_board_for_which_nothing_fits_says_why_everywhere(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    fleet.joined("riscv", key.key_id, arch="rv32imc")
    web.publish(make(key, "unfit"), to="riscv")
    why = web.get("/api/v1/devices/riscv")["summary"]["wanted"]["why"]
    assert why == "unfit 1.0.0: wrong arch: the board is rv32imc, the nearest artifact is for x64"
    fleet.joined("distrustful", bytes(8))
    web.publish(make(key, "unfit"), to="distrustful")
    why = web.get("/api/v1/devices/distrustful")["summary"]["wanted"]["why"]
    assert why == f"unfit 1.0.0: unknown key: the board does not trust publisher key {key.key_id.hex()}"


def test_a_hello_makes_the_server_choose_again_and_notes_what_ran(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    fleet.add("later-1")
    data = make(key, "waiting")
    assert (
        web.publish(data, to="later-1").json()["boards"][0]["why"] == "waiting 1.0.0 waits for the board's first HELLO"
    )
    fleet.hello("later-1", key_ids=(key.key_id,))
    wanted = wait_for(web, "later-1", lambda detail: detail["summary"]["wanted"]["sha256"])
    assert wanted == digest(data)
    fleet.runs("later-1", data, "waiting", "1.0.0", key_ids=(key.key_id,), sequence=1)
    runs = wait_for(web, "later-1", lambda _: web.get("/api/v1/devices/later-1/models")[1:])
    assert runs[0]["name"] == ""
    newest = web.get("/api/v1/devices/later-1/models")[0]
    assert (newest["name"], newest["version"]) == ("waiting", "1.0.0")
    before = web.get("/api/v1/devices/later-1/models", at_ms=newest["since_ms"] - 1)
    assert before[0]["sha8"] == ""


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/devices?limit=0",
        "/api/v1/devices?limit=501",
        "/api/v1/devices?limit=x",
        "/api/v1/devices/UPPER",
        f"/api/v1/devices/{'x' * 33}",
        "/api/v1/devices/named/readings?limit=10001",
        "/api/v1/devices/named/readings?from_ms=-1",
        "/api/v1/devices/named/readings?from_ms=5&to_ms=5",
        "/api/v1/devices/named/readings?from_ms=0&to_ms=281474976710655",
        "/api/v1/devices/named/events?before_ms=nan",
        "/api/v1/models/Bad%20Name",
        "/api/v1/trace/named/one/two",
        "/api/v1/trace/named/99999999999999999999/1",
        "/api/v1/frames?before=99999999999999999999",
        "/api/v1/events?after=1/2",
    ],
)
def test_bad_input_is_a_problem_and_never_a_fault(web: Web, path: str) -> None:
    answer = web.anyone.get(path)
    assert answer.status_code in (400, 404), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["next_step"]


@pytest.mark.parametrize("path", ["", "/readings", "/events", "/health", "/updates", "/models"])
def test_an_unknown_board_is_a_404(web: Web, path: str) -> None:
    answer = web.anyone.get(f"/api/v1/devices/nobody{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "no device nobody"


def wait_for(web: Web, device: str, what: Callable[[Any], Any]) -> Any:
    """The first true value of `what(detail)`; the server follows HELLOs once a second."""
    deadline = time.monotonic() + 8
    while True:
        found = what(web.get(f"/api/v1/devices/{device}"))
        if found:
            return found
        assert time.monotonic() < deadline, "the server did not follow"
        time.sleep(0.1)

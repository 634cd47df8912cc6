"""Health, metrics, problems, the API reference, and the bounds of live updates."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from litestar import get
from litestar.testing import create_test_client

from cloud import problems
from cloud.clock import now_ms
from cloud.store import tables as t
from cloud.store.engine import writing
from cloud.web import sse
from tests.support.broker import Broker
from tests.support.fleet import Fleet
from tests.support.web import Web


def beat(fleet: Fleet, age_ms: int = 0, *, ready: bool = True) -> None:
    """A heartbeat of ingest, as it writes it."""

    async def write(engine: Any) -> None:
        async with writing(engine).begin() as connection:
            await connection.execute(sa.delete(t.services))
            row = {"service": "ingest", "pid": 1, "started_ms": 0, "beat_ms": now_ms() - age_ms, "ready": ready}
            await connection.execute(sa.insert(t.services).values(**row, counters={"frames_stored_total": 41}))

    fleet.run(write)


def checks(web: Web) -> tuple[int, dict[str, str]]:
    answer = web.anyone.get("/health/ready")
    return answer.status_code, {c["name"]: "ok" if c["ok"] else c["detail"] for c in answer.json()["checks"]}


def test_live_says_that_the_process_answers(web: Web) -> None:
    assert web.get("/health/live") == {"status": "live"}


def test_ready_names_each_part_that_is_missing(web: Web, fleet: Fleet) -> None:
    status, parts = checks(web)
    assert status == 503
    assert parts["database"] == "ok"
    assert "Connect" in parts["broker"]
    assert parts["ingest"] == "it has never run"
    beat(fleet, age_ms=60_000)
    assert checks(web)[1]["ingest"] == "last heartbeat 60 s ago"
    beat(fleet, ready=False)
    assert checks(web)[1]["ingest"] == "it is not connected yet"


def test_ready_is_200_when_everything_is_there(
    web: Web, fleet: Fleet, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    broker = Broker(tmp_path, web.settings.mqtt_port, free_port())
    try:
        broker.start()
        beat(fleet)
        assert checks(web) == (200, {"database": "ok", "broker": "ok", "ingest": "ok"})
    finally:
        broker.kill()


def test_metrics_have_route_templates_and_ingest_counters_and_no_device_ids(web: Web, fleet: Fleet) -> None:
    beat(fleet)
    for number in range(3):
        fleet.add(f"measured-{number}")
        web.get(f"/api/v1/devices/measured-{number}")
    web.anyone.get("/nowhere/at/all")
    text = web.anyone.get("/metrics").text
    assert 'path="/api/v1/devices/{device}"' in text
    assert "edgewise_ingest_frames_stored_total 41.0" in text
    assert 'edgewise_service_ready{service="ingest"} 1.0' in text
    assert 'edgewise_boards{online="no"} 3.0' in text
    assert "measured-1" not in text
    assert "nowhere" not in text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "no-such-address"),
        ("PUT", "/api/v1/models", 405, "method-not-allowed"),
        ("POST", "/api/v1/desired", 401, "not-allowed"),
    ],
)
def test_every_error_is_a_problem_whose_type_can_be_read(
    web: Web, method: str, path: str, status: int, code: str
) -> None:
    answer = web.anyone.request(method, path, json={})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "instance", "next_step"} <= problem.keys()
    assert problem["instance"] == path
    meaning = web.get(problem["type"])
    assert meaning == {"code": code, "meaning": problem["title"]}


def test_a_parameter_that_is_wrong_is_named_in_the_detail_that_commands_print(web: Web) -> None:
    assert web.anyone.get("/api/v1/devices/UP").json()["detail"].startswith("device: Expected `str` matching regex")
    missing = web.admin.post("/api/v1/devices", json={"kind": "pump"}).json()
    assert missing["detail"] == "data: Object missing required field `devices`"


def test_a_store_that_takes_nothing_is_a_problem_that_passes(tmp_path: Path) -> None:
    @get("/full")
    async def write_too_much() -> None:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'full.db'}")
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
            connection.exec_driver_sql("CREATE TABLE large (number INTEGER)")

    with create_test_client(write_too_much, exception_handlers=problems.handlers()) as client:
        answer = client.get("/full")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the store does not take it: database or disk is full"


def test_a_browser_gets_the_problem_as_a_page(web: Web) -> None:
    answer = web.anyone.get("/devices/nobody", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"]
    assert "no device nobody" in answer.text


def test_the_reference_describes_every_shape_and_field_in_words(web: Web) -> None:
    document = web.get("/schema/openapi.json")
    shapes = document["components"]["schemas"]
    assert [name for name, shape in shapes.items() if not shape.get("description")] == ["PublishForm"]
    assert shapes["StreamState"]["properties"]["acknowledged"]["description"] == (
        "All numbers below this one are settled."
    )
    operations = [op for path in document["paths"].values() for op in path.values() if "operationId" in op]
    assert all(op.get("summary") and op.get("description") for op in operations)
    writes = [op for path in document["paths"].values() for verb, op in path.items() if verb in ("put", "delete")]
    assert all(op["security"] == [{"adminToken": []}] for op in writes)
    page = web.anyone.get("/schema", headers={"Accept": "text/html"})
    assert "POST /api/v1/models" in page.text
    assert "https://" not in page.text


def test_the_reference_describes_what_clients_really_get(web: Web, fleet: Fleet) -> None:
    document = web.get("/schema/openapi.json")
    shapes = document["components"]["schemas"]
    operations = [op for path in document["paths"].values() for op in path.values() if "operationId" in op]
    (answer,) = {json.dumps(op["responses"]["default"]["content"]) for op in operations}
    assert json.loads(answer) == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert not any("400" in op["responses"] for op in operations)
    for refused in (web.anyone.get("/api/v1/devices/UP"), web.anyone.get("/nowhere")):
        assert set(shapes["Problem"]["required"]) <= refused.json().keys() <= set(shapes["Problem"]["properties"])

    fleet.joined("rows-1")
    fleet.readings("rows-1", [[1]])
    (row,) = web.get("/api/v1/devices/rows-1/readings")["rows"]
    assert shapes["Row"]["type"] == "array"
    assert [item["title"] for item in shapes["Row"]["prefixItems"]] == ["at_ms", "epoch", "seq", "values"]
    assert [type(value) for value in row] == [int, int, int, list]
    assert shapes["Row"]["maxItems"] == len(row)


def test_live_updates_are_bounded_and_a_watcher_too_many_is_told_so(web: Web) -> None:
    watchers = [httpx.Client(base_url=web.url, timeout=10) for _ in range(sse.MAX_WATCHERS)]
    streams = [client.stream("GET", "/live/fleet") for client in watchers]
    try:
        held = [stream.__enter__().iter_bytes() for stream in streams]  # dropping one would close its connection
        for chunks in held:
            assert next(chunks).startswith(b": here")
        refused = web.anyone.get("/live/fleet")
        assert refused.status_code == 503
        assert refused.json()["detail"] == f"{sse.MAX_WATCHERS} pages are watched already"
    finally:
        for client in watchers:
            client.close()
    deadline = time.monotonic() + 10
    while web_refuses(web):
        assert time.monotonic() < deadline, "watchers that left still count"
        time.sleep(0.2)


def web_refuses(web: Web) -> bool:
    with web.anyone.stream("GET", "/live/fleet") as stream:
        return stream.status_code == 503


def test_a_stream_begins_with_the_whole_page_and_then_sends_only_what_changed(web: Web, fleet: Fleet) -> None:
    fleet.joined("streamed")
    with web.anyone.stream("GET", "/live/fleet", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        first = {next_event(lines) for _ in range(5)}
        assert first == {"summary", "boards", "alerts", "models", "rollouts"}
        fleet.event("streamed")
        later = [next_event(lines) for _ in range(3)]
    assert "alerts" in later
    assert "models" not in later


def next_event(lines: Iterator[str]) -> str:
    return next(line.removeprefix("event: ") for line in lines if line.startswith("event: "))

"""A store that cannot do what it is asked: the answer says whose trouble it is, and is never a fault of the server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloud.store.engine import writing
from tests.support.fleet import Fleet, settings_in
from tests.support.postgres import Postgres
from tests.support.web import Web


def test_a_store_that_cannot_write_now_asks_to_come_again(web: Web, fleet: Fleet) -> None:
    fleet.add("waits-1")

    def rename(old: str, new: str) -> None:
        async def work(engine: Any) -> None:
            async with writing(engine).begin() as connection:
                await connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

        fleet.run(work)

    body = {"devices": ["waits-1"], "add": ["wet"]}
    rename("device_tags", "away")
    try:
        answer = web.admin.post("/api/v1/tags", json=body)
    finally:
        rename("away", "device_tags")
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "/problems/unavailable"
    assert "try again" in answer.json()["next_step"]
    assert web.admin.post("/api/v1/tags", json=body).status_code == 200


def test_what_postgresql_cannot_hold_is_the_callers_mistake(
    postgres: Postgres, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/devices?after=%00", None),
        ("GET", "/frames?device=a%00b", None),
        ("POST", "/desired", {"name": "a\0", "version": "1", "to": "all"}),
        ("POST", "/devices", {"devices": ["one"], "kind": "\0"}),
        ("POST", "/tags", {"devices": ["one\0"]}),
    ]
    with Web(settings_in(tmp_path, EDGEWISE_DATABASE_URL=postgres.database()), free_port()) as web:
        for method, path, body in requests:
            answer = web.admin.request(method, f"/api/v1{path}", json=body)
            assert answer.status_code == 400, answer.text
            assert answer.json()["next_step"]


@pytest.mark.parametrize("path", ["/nowhere", "/devices/nobody", "/rollouts/99"])
def test_the_page_of_a_problem_is_as_strict_as_the_others(web: Web, path: str) -> None:
    answer = web.anyone.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/live/devices/nobody", "/live/rollouts/99"])
def test_nobody_polls_for_a_page_that_there_is_not(web: Web, path: str) -> None:
    with web.anyone.stream("GET", path) as answer:
        assert answer.status_code == 404

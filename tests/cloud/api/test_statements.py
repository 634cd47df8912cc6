"""What publishers say of their keys: taken once, handed on to the boards that lack it, and never taken back."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cloud import wire_types as w
from cloud.ingest import downlink
from cloud.models.tables import key_statements
from cloud.store import tables as t
from contract import wire
from model_export import keys_cli, statements
from model_export.keys import PublisherKey, load
from tests.cloud.api.test_publish import desired_of, problem
from tests.support.artifacts import digest, make, new_key
from tests.support.fleet import Fleet
from tests.support.web import Web


def _trust(web: Web, label: str) -> PublisherKey:
    made = new_key(label)
    answer = web.admin.post("/api/v1/keys", json={"public_key": made.public.hex(), "label": label})
    assert answer.status_code == 200, answer.text
    return made


def _announce(web: Web, said: bytes) -> Any:
    return web.admin.post("/api/v1/keys/statements", json={"statement": said.hex()})


def want_of(fleet: Fleet, device: str) -> w.Want:
    """The WANT that goes out for a board, as the broker would get it."""
    sent: list[tuple[str, bytes]] = []

    class Recorder:
        async def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
            sent.append((topic, payload))

    async def publish(engine: Any) -> int:
        return await downlink.publish_wants(engine, Recorder(), [device])  # pyright: ignore[reportArgumentType]

    fleet.run(publish)
    ((topic, payload),) = sent
    assert topic == wire.topic(device, wire.KIND_WANT)
    return msgspec.msgpack.decode(payload, type=w.Want)


def eventually(check: Any) -> Any:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("not within ten seconds")


def test_a_handover_reaches_the_boards_that_lack_it_and_leaves_the_want_when_they_know(web: Web, fleet: Fleet) -> None:
    old, new, newest = _trust(web, "site"), new_key(), new_key()
    fleet.joined("turn-1", old.key_id)
    fleet.joined("turn-2", bytes(8))
    first = statements.hand_over(old, new, 1, 2_000_000_000)
    second = statements.hand_over(new, newest, 2, 2_000_000_000)
    for said in (first, second):
        assert _announce(web, said).status_code == 200
    assert want_of(fleet, "turn-1").statements == (first, second), "in order: each is signed by the key before"
    assert not desired_of(fleet, "turn-2"), "not its publisher"

    version = desired_of(fleet, "turn-1")["version"]
    fleet.hello("turn-1", key_ids=(old.key_id, new.key_id))
    eventually(lambda: len(desired_of(fleet, "turn-1")["statement_ids"]) == 1)
    assert want_of(fleet, "turn-1").statements == (second,)
    fleet.hello("turn-1", key_ids=(old.key_id, new.key_id, newest.key_id))
    eventually(lambda: desired_of(fleet, "turn-1")["statement_ids"] == [])
    assert desired_of(fleet, "turn-1")["version"] == version + 2, "one WANT for each change and no more"
    (trusted,) = [key for key in web.get("/api/v1/keys") if key["key_id"] == newest.key_id.hex()]
    assert (trusted["label"], trusted["boards"], trusted["until_ms"]) == ("site", 1, None)

    for key, version_text, sequence in ((old, "1.0.0", 1), (newest, "1.1.0", 2)):
        answer = web.publish(make(key, "turned", version_text, sequence))
        assert answer.status_code == 201, answer.text


def test_an_old_key_ends_at_once_or_is_revoked_for_ever(web: Web) -> None:
    old, new = _trust(web, "thief"), new_key()
    assert _announce(web, statements.hand_over(old, new, 1, 0)).status_code == 200
    problem(web.publish(make(old, "ended")), 422, "bad-artifact")
    said = statements.revoke(new, 2, [old.key_id])
    assert _announce(web, said).status_code == 200
    assert _announce(web, said).status_code == 200, "the same again changes nothing"
    answer = web.admin.post("/api/v1/keys", json={"public_key": old.public.hex(), "label": ""})
    assert "was revoked" in problem(answer, 409, "conflict")
    assert web.publish(make(new, "ended")).status_code == 201


def test_statements_that_do_not_hold_change_nothing(web: Web, fleet: Fleet) -> None:
    old, new, other, stranger = _trust(web, "a"), new_key(), _trust(web, "b"), new_key()
    first = statements.hand_over(old, new, 5, 0)
    assert _announce(web, first).status_code == 200

    def state() -> Any:
        told = fleet.rows(sa.select(key_statements.c.id))
        return told, [{**key, "boards": 0} for key in web.get("/api/v1/keys")]

    before = state()
    refused = [
        (statements.hand_over(old, stranger, 6, 0), 409, "conflict", "retired key"),
        (statements.revoke(new, 5, [old.key_id]), 409, "conflict", "old statement"),
        (statements.hand_over(stranger, new_key(), 6, 0), 400, "bad-request", "unknown key"),
        (statements.revoke(new, 6, [other.key_id]), 400, "bad-request", "key of another publisher"),
        (first[:-1], 400, "bad-request", "bad format"),
        (first[:90] + bytes((first[90] ^ 1,)) + first[91:], 409, "conflict", "retired key"),
        (statements.leave(new, bytes(32), 9), 404, "not-found", "no artifact"),
        (statements.leave(old, bytes(32), 9), 409, "conflict", "retired key"),
    ]
    for said, status, code, cause in refused:
        assert cause in problem(_announce(web, said), status, code)
    assert state() == before
    assert web.anyone.post("/api/v1/keys/statements", json={"statement": first.hex()}).status_code == 401
    assert web.admin.post("/api/v1/keys/statements", json={"statement": "zz"}).status_code == 400


def test_leave_lets_a_board_be_told_to_go_back(web: Web, fleet: Fleet) -> None:
    key = _trust(web, "back")
    files = [make(key, "back", "1.0.0", 1), make(key, "back", "2.0.0", 2), make(key, "back", "3.0.0", 3)]
    fleet.joined("back-1", key.key_id)
    for data in files:
        assert web.publish(data).status_code == 201
    fleet.runs("back-1", files[2], "back", "3.0.0", key_ids=(key.key_id,), sequence=3)
    wish = {"name": "back", "version": "1.0.0", "to": "back-1", "note": ""}
    answer = web.admin.post("/api/v1/desired", json=wish).json()
    assert "old sequence" in answer["boards"][0]["why"]

    said = statements.leave(key, bytes.fromhex(digest(files[0])), 3)
    assert _announce(web, said).status_code == 200
    row = desired_of(fleet, "back-1")
    assert (row["artifact_sha256"], row["why"]) == (digest(files[0]), "")
    offer = want_of(fleet, "back-1").model
    assert offer is not None
    assert offer.leave == said


@pytest.fixture
def edgewise(web: Web, tmp_path: Path) -> Any:
    """Runs `edgewise keys ...`: the publisher's half against a folder, the server's against that server."""
    from cloud.models import cli

    def run(*words: str | Path) -> str:
        local = str(words[0]) in keys_cli.keys.commands
        arguments = [str(word) for word in words] + (["--keys", str(tmp_path / "keys")] if local else [])
        environ = {"EDGEWISE_SERVER": web.url, "EDGEWISE_TOKEN": web.token, "COLUMNS": "200"}
        done = CliRunner().invoke(keys_cli.keys if local else cli.keys, arguments, env=environ)
        return done.output if done.exit_code == 0 else f"refused: {done.output}"

    return run


def test_the_commands_of_a_publisher_from_the_first_key_to_a_stolen_one(
    edgewise: Any, web: Web, fleet: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    edgewise("new", "y2026")
    public = load(folder, "y2026").public.hex()
    assert "y2026" in edgewise("list")
    assert "refused" not in edgewise("trust", public, "--label", "works")
    fleet.joined("works-1", load(folder, "y2026").key_id)

    assert "until" in edgewise("rotate", "y2026", "y2027", "--accept-days", "30")
    assert "handed over" in edgewise("list")
    assert "refused" in edgewise("rotate", "y2026", "y2028"), "it has handed over"
    assert not (folder / "y2028.pem").exists()
    assert "refused" not in edgewise("announce", folder / "y2027.statement")
    assert desired_of(fleet, "works-1")["statement_ids"]

    assert "refused" in edgewise("revoke", "y2027", "--by", "y2027"), "it is the newest"
    assert "revoked" in edgewise("revoke", "y2026", "--by", "y2027")
    (said,) = folder.glob("revoked-*.statement")
    assert "refused" not in edgewise("announce", said)
    assert "revoked" in edgewise("trusted")
    assert "no longer" in edgewise("rotate", "y2027", "y2028", "--stolen")
    assert "refused" not in edgewise("announce", folder / "y2028.statement")
    roles = {role["name"]: role["role"] for role in json.loads(edgewise("list", "--json"))}
    assert roles == {"y2026": "revoked", "y2027": "revoked", "y2028": "newest"}

    older = tmp_path / "older.ewa"
    older.write_bytes(make(load(folder, "y2028"), "works", "1.0.0", 1))
    assert "refused" in edgewise("allow-downgrade", older, "--key", "y2028", "--counter", "1"), "no leave is needed"
    assert "refused" in edgewise("allow-downgrade", older, "--key", "y2027", "--counter", "2"), "a revoked key"
    assert "boards up to sequence 2" in edgewise("allow-downgrade", older, "--key", "y2028", "--counter", "2")
    leave = tmp_path / "older.leave.statement"
    assert "no artifact" in edgewise("announce", leave)
    assert web.publish(older.read_bytes()).status_code == 201
    assert "refused" not in edgewise("announce", leave)
    assert fleet.rows(sa.select(t.artifacts.c.sha256).where(t.artifacts.c.name == "works"))

"""Publishing a model over HTTP, against a real server and database."""

from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from cloud.store import tables as t
from contract import wire
from contract.artifact import ArtifactError
from model_export.keys import PublisherKey
from tests.support.artifacts import OTHER_SCHEMA, blob, card, digest, gaussian_of, make, new_key, table_of
from tests.support.fleet import Fleet
from tests.support.web import Web


def desired_of(fleet: Fleet, device: str) -> dict[str, Any]:
    rows = fleet.rows(sa.select(t.desired).where(t.desired.c.device == device))
    return rows[0] if rows else {}


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Checks that an answer is the RFC 9457 problem it should be; returns its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["next_step"]
    return body["detail"]


def test_a_version_with_two_targets_and_its_cards_is_stored_and_read_back(web: Web, key: PublisherKey) -> None:
    cards = (card(target="x64"), card(target="blob"))
    files = (make(key, "two", card=cards[0]), blob(key, name="two", card=cards[1]))
    answer = web.publish(*files, cards=cards)
    assert answer.status_code == 201, answer.text
    assert answer.json()["artifacts"] == [digest(data) for data in files]

    shown = web.get("/api/v1/models/two/1.0.0")
    assert [item["target"] for item in shown["artifacts"]] == ["x64 native (ABI 6.3)", "any blob"]
    assert shown["card"]["target"] == "x64"
    assert shown["summary"]["aliases"] == []
    for data in (*files, *cards):
        assert web.anyone.get(f"/api/v1/artifacts/{digest(data)}").content == data


def test_publishing_to_all_tells_the_boards_that_run_the_model_in_one_step(
    web: Web, fleet: Fleet, key: PublisherKey
) -> None:
    first = make(key, "all")
    for device in ("all-1", "all-2"):
        fleet.joined(device, key.key_id)
        fleet.runs(device, first, "all", "1.0.0", key_ids=(key.key_id,), sequence=1)
    fleet.joined("all-else", key.key_id)
    fleet.runs("all-else", b"x", "something", "1.0.0", key_ids=(key.key_id,))
    web.publish(first, to="all")
    before = desired_of(fleet, "all-1")["version"]

    second = make(key, "all", "1.1.0", 2)
    answer = web.publish(second, to="all", note="fewer alarms").json()

    assert [board["device"] for board in answer["boards"]] == ["all-1", "all-2"]
    for device in ("all-1", "all-2"):
        assert desired_of(fleet, device)["artifact_sha256"] == digest(second)
    # Once for the model, and perhaps already again for a patch, which is made behind the answer.
    assert before < desired_of(fleet, "all-1")["version"] <= before + 2
    assert desired_of(fleet, "all-else") == {}
    history = web.get("/api/v1/models/all/history")
    assert [(step["version"], step["previous"], step["note"]) for step in history] == [
        ("1.1.0", "1.0.0", "fewer alarms"),
        ("1.0.0", None, ""),
    ]


def test_the_same_bytes_again_change_nothing(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    fleet.joined("again-1", key.key_id)
    data = make(key, "again")
    web.publish(data, to="again-1")
    before = desired_of(fleet, "again-1")
    answer = web.publish(data, to="again-1")
    assert answer.status_code == 201
    assert answer.json() == {"name": "again", "version": "1.0.0", "artifacts": [], "boards": []}
    assert desired_of(fleet, "again-1") == before


def test_another_artifact_for_the_same_version_and_target_is_refused(web: Web, key: PublisherKey) -> None:
    web.publish(make(key, "fixed"))
    detail = problem(web.publish(make(key, "fixed", payload=b"other")), 409, "conflict")
    assert "fixed 1.0.0 for x64 native (ABI 6.3) exists with other bytes" in detail


def test_another_target_of_a_version_may_follow_later_if_it_says_the_same(web: Web, key: PublisherKey) -> None:
    web.publish(make(key, "later"))
    assert web.publish(make(key, "later", arch="rv32imc")).status_code == 201
    assert len(web.get("/api/v1/models/later/1.0.0")["artifacts"]) == 2
    detail = problem(web.publish(make(key, "later", arch="xtensawin", threshold=8.0)), 409, "conflict")
    assert detail == "later 1.0.0 exists with another threshold"


def test_a_sequence_that_does_not_rise_is_refused(web: Web, key: PublisherKey) -> None:
    web.publish(make(key, "rising", "1.0.0", 5))
    detail = problem(web.publish(make(key, "rising", "1.0.1", 5)), 409, "conflict")
    assert detail == "sequence 5 does not rise: rising has reached 5"


def test_artifacts_of_two_versions_in_one_upload_are_refused(web: Web, key: PublisherKey) -> None:
    answer = web.publish(make(key, "mixed"), make(key, "mixed", "2.0.0", 2, arch="rv32imc"))
    assert problem(answer, 422, "bad-artifact") == "the artifacts disagree on version"
    assert web.anyone.get("/api/v1/models/mixed").status_code == 404


def test_an_artifact_signed_by_a_stranger_is_refused(web: Web) -> None:
    stranger = new_key()
    detail = problem(web.publish(make(stranger, "strange")), 422, "bad-artifact")
    assert detail == f"signed by {stranger.key_id.hex()}, a key this server does not trust"


def test_a_changed_byte_is_refused_wherever_it_is(web: Web, key: PublisherKey) -> None:
    data = make(key, "changed")
    for at in (0, 21, 60, 95, 300, len(data) - 1):
        forged = bytearray(data)
        forged[at] ^= 1
        problem(web.publish(bytes(forged)), 422, "bad-artifact")
    problem(web.publish(data[:-1]), 422, "bad-artifact")
    problem(web.publish(data + b"\0"), 422, "bad-artifact")
    assert web.anyone.get("/api/v1/models/changed").status_code == 404


def test_a_card_that_was_not_signed_is_refused(web: Web, key: PublisherKey) -> None:
    answer = web.publish(make(key, "carded"), cards=(card(metrics="better"),))
    assert problem(answer, 422, "bad-artifact") == "a model card is not one the publisher signed"


def test_a_publish_that_names_an_unknown_board_stores_nothing(web: Web, key: PublisherKey) -> None:
    detail = problem(web.publish(make(key, "half"), to="nobody"), 404, "not-found")
    assert detail == "no device nobody"
    assert web.anyone.get("/api/v1/models/half").status_code == 404


def test_writes_need_the_token(web: Web, key: PublisherKey) -> None:
    data = make(key, "secret")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {web.token}"}):
        answer = web.anyone.post("/api/v1/models/raw", content=data, headers=headers)
        problem(answer, 401, "not-allowed")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert web.admin.post("/api/v1/models/raw", content=data).status_code == 201


def test_a_body_beyond_the_limit_is_refused_however_it_is_sent(web: Web) -> None:
    large = b"x" * 300_000
    problem(web.admin.post("/api/v1/models/raw", content=large), 413, "too-large")
    problem(web.admin.post("/api/v1/models/raw", content=iter([large[:150_000], large[150_000:]])), 413, "too-large")
    problem(web.admin.post("/api/v1/desired", content=b"x" * 70_000), 413, "too-large")


def test_a_revoked_key_counts_no_longer_and_for_ever(web: Web) -> None:
    lost = new_key()
    public = lost.public.hex()
    assert web.admin.post("/api/v1/keys", json={"public_key": public, "label": "lost"}).status_code == 200
    web.publish(make(lost, "revoked"))
    assert web.admin.delete(f"/api/v1/keys/{lost.key_id.hex()}").json()["revoked_ms"] > 0
    problem(web.publish(make(lost, "revoked", "1.1.0", 2)), 422, "bad-artifact")
    problem(web.admin.post("/api/v1/keys", json={"public_key": public}), 409, "conflict")


def test_what_is_no_public_key_is_not_trusted(web: Web) -> None:
    for text in ("", "00" * 63, "zz" * 64, "01" * 64):
        problem(web.admin.post("/api/v1/keys", json={"public_key": text}), 400, "bad-request")
    assert web.admin.post("/api/v1/keys", json={"public": "x"}).status_code == 400


def test_schema_decides_for_a_board_without_a_model(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    schema = "v1;w=4;c=level:mm:1;f=mean"
    data = make(key, "only", schema=schema)
    web.publish(data, to="all")
    fleet.joined("bare-1", key.key_id, schema_hash=bytes.fromhex(web.get("/api/v1/models/only")[0]["schema_hash"]))
    fleet.joined("bare-2", key.key_id, schema_hash=bytes(8))
    web.publish(make(key, "unrelated", schema=OTHER_SCHEMA), to="all")
    assert desired_of(fleet, "bare-1")["artifact_sha256"] == digest(data)
    assert desired_of(fleet, "bare-2") == {}


def test_a_stand_in_belongs_to_a_version_and_may_be_another_model(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    smaller = blob(key, name="ladder", rung=1, disagreement=0.01, threshold=7.5)
    alone = problem(web.publish(smaller), 422, "bad-artifact")
    assert alone == "any blob, rung 1 stands in for ladder 1.0.0, which is not there"
    full = make(key, "ladder", payload=b"x" * 50_000)
    assert web.publish(full, smaller).status_code == 201
    other = table_of(7.5, trees=2)
    again = blob(key, name="ladder", payload=other, rung=1, disagreement=0.01, threshold=7.5)
    assert "any blob, rung 1 exists with other bytes" in problem(web.publish(again), 409, "conflict")
    assert web.publish(blob(key, name="ladder", rung=2, disagreement=0.2)).status_code == 201
    assert [item["target"] for item in web.get("/api/v1/models/ladder/1.0.0")["artifacts"]] == [
        "x64 native (ABI 6.3)",
        "any blob, rung 1",
        "any blob, rung 2",
    ]
    both = wire.FORMAT_NATIVE | wire.FORMAT_BLOB
    fleet.joined("roomy-1", key.key_id, formats=both)
    fleet.joined("small-1", key.key_id, formats=both, free_heap=20_000)
    fleet.joined("tiny-1", key.key_id, formats=wire.FORMAT_NATIVE, free_heap=20_000)
    to = {"name": "ladder", "version": "1.0.0", "to": "roomy-1,small-1,tiny-1"}
    boards = {board["device"]: board for board in web.admin.post("/api/v1/desired", json=to).json()["boards"]}
    assert boards["roomy-1"]["sha256"] == digest(full)
    assert boards["small-1"]["sha256"] == digest(smaller)
    assert boards["tiny-1"]["sha256"] is None
    assert "no memory: the model takes 50000 bytes of RAM, the board would have 20000 free" in boards["tiny-1"]["why"]


def test_a_table_that_every_board_would_refuse_is_not_taken(web: Web, key: PublisherKey) -> None:
    sound = table_of(9.5, trees=3)
    worn = bytearray(sound)
    worn[-3] ^= 1
    wrongs = {
        bytes(worn): "its table blob is not sound: CRC",
        sound[:-2]: f"its table blob is not sound: {len(sound) - 2} bytes, not {len(sound)}",
        b"x" * 100: "its table blob is not sound: magic",
        table_of(9.25): "its table blob has threshold 9.25, its manifest 9.5",
        gaussian_of(9.5)[:-1]: "its table blob is not sound: 49 bytes, not 50",
        gaussian_of(9.25): "its table blob has threshold 9.25, its manifest 9.5",
    }
    for payload, why in wrongs.items():
        assert problem(web.publish(blob(key, name="worn", payload=payload)), 422, "bad-artifact") == why
    wide = blob(key, name="worn", schema=OTHER_SCHEMA)
    assert "has n_features 2, its manifest 1" in problem(web.publish(wide), 422, "bad-artifact")
    assert web.publish(blob(key, name="worn", payload=sound)).status_code == 201
    assert web.publish(blob(key, name="round", payload=gaussian_of(9.5))).status_code == 201


def test_a_disagreement_is_a_share_and_only_a_stand_in_has_one(key: PublisherKey) -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"disagreement": 0.1}, {"rung": 1, "disagreement": 1.5}, {"rung": 10})
    for wrong in wrongs:
        with pytest.raises(ArtifactError):
            make(key, "wrong", **wrong)

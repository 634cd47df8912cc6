"""Patches are made for the boards that can use them, offered in their WANT, and served like any artifact."""

import random
from typing import Any

import sqlalchemy as sa

from cloud import wire_types as w
from cloud.ingest.downlink import Chunks
from cloud.models import patching
from cloud.models.blobs import Blobs
from cloud.models.tables import NO_BASE, patches
from cloud.store.engine import writing
from contract import wire
from model_export.keys import PublisherKey
from tests.cloud.api.test_statements import eventually, want_of
from tests.support.artifacts import digest, make
from tests.support.fleet import Fleet
from tests.support.web import Web

_CODE = random.Random(3).randbytes(6000)


def _version(key: PublisherKey, name: str, number: int, payload: bytes) -> bytes:
    return make(key, name, f"{number}.0.0", number, payload=payload)


def _made(target: bytes, alone: bool = False) -> Any:
    """The patches to an artifact; `alone`: the one without a base as well."""
    query = sa.select(patches).where(patches.c.target_sha256 == digest(target))
    return query if alone else query.where(patches.c.base_sha8 != NO_BASE)


def test_a_board_is_offered_the_patch_for_what_it_runs(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    first = _version(key, "patch", 1, _CODE)
    second = _version(key, "patch", 2, _CODE[:3000] + b"new" + _CODE[3000:])
    fleet.joined("patch-1", key.key_id)
    fleet.joined("patch-2", key.key_id)
    assert web.publish(first).status_code == 201
    fleet.runs("patch-1", first, "patch", "1.0.0", key_ids=(key.key_id,), sequence=1)
    assert web.publish(second, to="patch-1,patch-2").status_code == 201

    offer = eventually(lambda: found if (found := want_of(fleet, "patch-1").model) and found.patch else None)
    assert (offer.patch_base.hex(), offer.sha256.hex()) == (digest(first)[:16], digest(second))
    other = want_of(fleet, "patch-2").model
    assert other is not None
    assert (other.patch, other.patch_size) == (None, 0), "it runs nothing the patch could start from"

    (row,) = fleet.rows(_made(second))
    data = web.anyone.get(f"/api/v1/artifacts/{row['patch_sha256']}").content
    assert len(data) == offer.patch_size < len(second) // 4
    assert patching.apply(first, data) == second

    async def fetch(engine: Any) -> bytes | None:
        chunks = Chunks(engine, Blobs(fleet.settings.blobs_url))
        return await chunks.answer("patch-1", w.Fetch(offer.patch, 0, wire.MAX_CHUNK_BYTES))

    answer = fleet.run(fetch)
    assert answer is not None
    chunk = w.decode_downlink(answer)
    assert isinstance(chunk, w.Chunk)
    assert (chunk.data, chunk.total) == (data, len(data))

    assert row["patch_sha256"] not in web.admin.post("/api/v1/collect").json()["blobs"]


def test_a_board_that_runs_no_base_is_offered_the_artifact_deflated(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    target = _version(key, "alone", 1, _CODE[:3000] + bytes(9000))
    fleet.joined("alone-1", key.key_id)
    assert web.publish(target, to="alone-1").status_code == 201
    offer = want_of(fleet, "alone-1").model  # the first that tells of it
    assert offer is not None
    assert offer.patch is not None
    assert offer.patch_base is None
    (row,) = fleet.rows(_made(target, alone=True))
    assert (row["base_sha8"], row["method"], row["size"]) == (NO_BASE, "deflate", offer.patch_size)
    data = web.anyone.get(f"/api/v1/artifacts/{row['patch_sha256']}").content
    assert patching.inflate(data) == target


def test_a_board_is_offered_what_is_shorter_of_a_patch_and_the_artifact_deflated(
    web: Web, fleet: Fleet, key: PublisherKey
) -> None:
    noise = random.Random(8)
    first = _version(key, "either", 1, _CODE)
    near = _version(key, "either", 2, _CODE + bytes(9000))
    far = _version(key, "either", 3, noise.randbytes(3000) + noise.randbytes(16) * 600)
    fleet.joined("either-1", key.key_id)
    assert web.publish(first).status_code == 201
    fleet.runs("either-1", first, "either", "1.0.0", key_ids=(key.key_id,), sequence=1)
    for target, shorter in ((near, digest(first)[:16]), (far, NO_BASE)):
        assert web.publish(target, to="either-1").status_code == 201
        made = _made(target, alone=True)
        rows = eventually(lambda made=made: found if len(found := fleet.rows(made)) == 2 else None)
        least = min(rows, key=lambda row: row["size"])
        assert least["base_sha8"] == shorter
        offer = want_of(fleet, "either-1").model
        assert offer is not None
        assert (offer.patch, offer.patch_size) == (bytes.fromhex(least["patch_sha256"])[:8], least["size"])
        assert (offer.patch_base or b"").hex() == shorter


def test_what_boards_want_is_deflated_when_it_was_published_before_that_was_done(
    web: Web, fleet: Fleet, key: PublisherKey
) -> None:
    target = _version(key, "late", 1, _CODE[:3000] + bytes(9000))
    fleet.joined("late-1", key.key_id)
    assert web.publish(target, to="late-1").status_code == 201
    version = want_of(fleet, "late-1").config_version

    async def forget(engine: Any) -> int:
        async with writing(engine).begin() as connection:
            done = await connection.execute(sa.delete(patches).where(patches.c.target_sha256 == digest(target)))
            return done.rowcount

    assert fleet.run(forget) == 1
    (row,) = eventually(lambda: fleet.rows(_made(target, alone=True)))
    assert row["base_sha8"] == NO_BASE
    assert want_of(fleet, "late-1").config_version == version, "a board that refused it is not made to try again"


def test_no_patch_is_offered_where_none_is_shorter(web: Web, fleet: Fleet, key: PublisherKey) -> None:
    noise = random.Random(4)
    first, second = (_version(key, "noise", number, noise.randbytes(5000)) for number in (1, 2))
    fleet.joined("noise-1", key.key_id)
    assert web.publish(first).status_code == 201
    fleet.runs("noise-1", first, "noise", "1.0.0", key_ids=(key.key_id,), sequence=1)
    assert web.publish(second, to="noise-1").status_code == 201
    rows = eventually(lambda: found if len(found := fleet.rows(_made(second, alone=True))) == 2 else None)
    assert [(row["patch_sha256"], row["size"]) for row in rows] == [(None, 0)] * 2
    offer = want_of(fleet, "noise-1").model
    assert offer is not None
    assert offer.patch is None

"""Bytes by their digest: kept, checked, and collected when nobody names them."""

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from cloud.errors import BlobCorrupt, BlobMissing, Unavailable
from cloud.models import keys
from cloud.models.blobs import Blobs
from cloud.models.housekeeping import collect
from cloud.models.service import Audience, Registry
from cloud.store.engine import make_engine, writing
from tests.support.artifacts import card, digest, make, new_key
from tests.support.fleet import settings_in


def blobs_in(folder: Path) -> Blobs:
    return Blobs(f"file://{folder}")


def test_what_was_put_comes_back_also_after_a_restart(tmp_path: Path) -> None:
    data = b"model" * 1000
    name = asyncio.run(blobs_in(tmp_path).put(data))
    assert name == sha256(data).hexdigest()
    assert asyncio.run(blobs_in(tmp_path).get(name)) == data
    assert asyncio.run(blobs_in(tmp_path).put(data)) == name


def test_a_missing_blob_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    name = asyncio.run(blobs_in(tmp_path).put(b"whole"))
    with pytest.raises(BlobMissing):
        asyncio.run(blobs_in(tmp_path).get("0" * 64))
    (tmp_path / "sha256" / name[:2] / name[2:]).write_bytes(b"whol")
    with pytest.raises(BlobCorrupt):
        asyncio.run(blobs_in(tmp_path).get(name))
    with pytest.raises(BlobCorrupt):  # putting the bytes again must not hide that the stored copy is bad
        asyncio.run(blobs_in(tmp_path).put(b"whole"))


def test_memory_holds_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    async def fill() -> int:
        blobs = blobs_in(tmp_path)
        names = [await blobs.put(bytes([at]) * 1_000_000) for at in range(12)]
        for name in names:
            await blobs.get(name)
        return sum(len(data) for data in blobs._cache.values())

    assert asyncio.run(fill()) <= 8 * 1024 * 1024


def test_collection_removes_what_nothing_names_and_only_that(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    key, model_card = new_key(), card()
    data = make(key, card=model_card)

    async def run() -> tuple[list[str], set[str]]:
        engine, blobs = make_engine(settings), Blobs(settings.blobs_url)
        async with writing(engine).begin() as connection:
            await keys.trust(connection, key.public.hex(), "", 1)
        await Registry(engine, blobs).publish([data], [model_card], Audience())
        await blobs.put(b"orphan of a publish that failed")
        young = await collect(engine, blobs)
        assert young.blobs == [], "a publish may be about to name a young blob"
        removed = await collect(engine, blobs, young_ms=-1000)
        left = {entry.sha256 async for entry in blobs.entries()}
        await engine.dispose()
        return removed.blobs, left

    removed, left = asyncio.run(run())
    assert removed == [sha256(b"orphan of a publish that failed").hexdigest()]
    assert left == {digest(data), sha256(model_card).hexdigest()}


def test_bytes_that_are_published_while_they_are_collected_are_there_in_the_end(tmp_path: Path) -> None:
    """They lay there from a publish that failed long ago, so that their age does not protect them."""
    settings = settings_in(tmp_path)
    key = new_key()
    data = make(key)

    class Raced(Blobs):
        """The first put is followed by a collection."""

        calm = False

        async def put(self, data: bytes) -> str:
            name = await super().put(data)
            if not self.calm:
                self.calm = True
                await collect(engine, Blobs(settings.blobs_url), young_ms=-1000)
            return name

    async def run() -> bytes:
        async with writing(engine).begin() as connection:
            await keys.trust(connection, key.public.hex(), "", 1)
        await Registry(engine, Raced(settings.blobs_url)).publish([data], [], Audience())
        found = await Blobs(settings.blobs_url).get(digest(data))
        await engine.dispose()
        return found

    engine = make_engine(settings)
    assert asyncio.run(run()) == data


def test_two_that_read_a_blob_at_once_are_one_in_memory(tmp_path: Path) -> None:
    async def run() -> tuple[int, int]:
        name = await blobs_in(tmp_path).put(b"x" * 1000)
        blobs = blobs_in(tmp_path)
        await asyncio.gather(*(blobs.get(name) for _ in range(5)))
        return blobs._cached_bytes, sum(map(len, blobs._cache.values()))

    assert asyncio.run(run()) == (1000, 1000)


def test_a_store_that_cannot_be_read_says_so_and_is_left_in_peace_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "sha256").write_bytes(b"no folder")

    async def run() -> None:
        blobs = blobs_in(tmp_path)
        with pytest.raises(Unavailable, match="does not answer: Generic LocalFileSystem error"):
            await blobs.put(b"x")
        with pytest.raises(Unavailable, match="Not a directory"):
            await blobs.get("0" * 64)
        with pytest.raises(Unavailable, match="did not answer a moment ago"):
            await blobs.get("0" * 64)

    asyncio.run(run())

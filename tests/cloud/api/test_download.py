"""Artifacts over HTTP: ranges, entity tags, and nothing but artifacts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloud.models.blobs import Blobs
from cloud.models.download import ArtifactServer
from model_export.keys import PublisherKey
from tests.support.artifacts import digest, make
from tests.support.web import Web


@pytest.fixture(scope="module")
def stored(web: Web, key: PublisherKey) -> bytes:
    """A published artifact."""
    data = make(key, "ranged", payload=bytes(range(256)) * 80)
    assert web.publish(data).status_code == 201
    return data


def path_of(data: bytes) -> str:
    return f"/api/v1/artifacts/{digest(data)}"


def test_the_whole_file_carries_its_digest_as_entity_tag_and_may_be_kept(web: Web, stored: bytes) -> None:
    answer = web.anyone.get(path_of(stored))
    assert answer.status_code == 200
    assert answer.content == stored
    assert answer.headers["etag"] == f'"{digest(stored)}"'
    assert "immutable" in answer.headers["cache-control"]


def test_head_has_the_length_and_no_body(web: Web, stored: bytes) -> None:
    answer = web.anyone.head(path_of(stored))
    assert (answer.status_code, int(answer.headers["content-length"]), answer.content) == (200, len(stored), b"")


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=4096-8191", 4096, 8192),
        ("bytes=100-", 100, None),
        ("bytes=-5", -5, None),
        ("bytes=0-999999999", 0, None),
        ("bytes=-999999999", 0, None),
        ("bytes=0-" + "9" * 5000, 0, None),
        ("bytes=" + "0" * 30 + "7-9", 7, 10),
        ("Bytes=0-0", 0, 1),
    ],
)
def test_a_range_is_served_with_its_place(web: Web, stored: bytes, header: str, begin: int, end: int | None) -> None:
    answer = web.anyone.get(path_of(stored), headers={"Range": header})
    wanted = stored[begin:end]
    first = begin % len(stored) if begin < 0 else begin
    assert answer.status_code == 206
    assert answer.content == wanted
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(stored)}"


@pytest.mark.parametrize("header", ["bytes=999999999-", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_a_range_beyond_the_end_is_416_and_tells_the_length(web: Web, stored: bytes, header: str) -> None:
    answer = web.anyone.get(path_of(stored), headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(stored)}"
    assert (answer.headers["content-length"], answer.content) == ("0", b"")


@pytest.mark.parametrize(
    "header",
    ["bytes=5-2", "bytes=0-1,4-5", "bytes=-1,-2", "lines=0-1", "bytes=x-y", "bytes=-", "bytes=", "bytes", "bytes=+1-2"],
)
def test_a_range_that_makes_no_sense_or_names_several_gives_the_whole_file(
    web: Web, stored: bytes, header: str
) -> None:
    answer = web.anyone.get(path_of(stored), headers={"Range": header})
    assert answer.status_code == 200
    assert answer.content == stored


def test_ranges_in_two_header_lines_give_the_whole_file(web: Web, stored: bytes) -> None:
    answer = web.anyone.get(path_of(stored), headers=[("Range", "bytes=0-1"), ("Range", "bytes=4-5")])
    assert (answer.status_code, answer.content) == (200, stored)


def test_a_range_of_a_head_is_not_heeded(web: Web, stored: bytes) -> None:
    answer = web.anyone.head(path_of(stored), headers={"Range": "bytes=0-9"})
    assert (answer.status_code, int(answer.headers["content-length"])) == (200, len(stored))


def test_what_the_client_has_is_not_sent_again(web: Web, stored: bytes) -> None:
    tag = f'"{digest(stored)}"'
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = web.anyone.get(path_of(stored), headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
    assert web.anyone.get(path_of(stored), headers={"If-None-Match": '"other"'}).status_code == 200
    lines = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    assert web.anyone.get(path_of(stored), headers=lines).status_code == 304
    assert web.anyone.get(path_of(stored), headers={"If-None-Match": tag, "Range": "bytes=0-9"}).status_code == 304


def test_not_modified_says_what_a_cache_needs_and_nothing_of_the_body(web: Web, stored: bytes) -> None:
    answer = web.anyone.get(path_of(stored), headers={"If-None-Match": "*"})
    assert answer.headers["etag"] == f'"{digest(stored)}"'
    assert "immutable" in answer.headers["cache-control"]
    assert "content-type" not in answer.headers


def test_a_client_that_insists_on_another_file_gets_none(web: Web, stored: bytes) -> None:
    tag = f'"{digest(stored)}"'
    for header in ('"other"', f"W/{tag}"):
        answer = web.anyone.get(path_of(stored), headers={"If-Match": header, "If-None-Match": tag})
        assert (answer.status_code, answer.content) == (412, b"")
    for header in (tag, "*", f'"other", {tag}'):
        assert web.anyone.get(path_of(stored), headers={"If-Match": header}).content == stored


def test_a_range_of_another_version_gives_the_whole_file(web: Web, stored: bytes) -> None:
    tag = f'"{digest(stored)}"'
    for other in ('"other"', f"W/{tag}", "Tue, 25 Nov 2025 00:00:00 GMT"):  # only the same strong tag will do
        answer = web.anyone.get(path_of(stored), headers={"Range": "bytes=0-9", "If-Range": other})
        assert (answer.status_code, answer.content) == (200, stored)
    answer = web.anyone.get(path_of(stored), headers={"Range": "bytes=0-9", "If-Range": tag})
    assert (answer.status_code, answer.content) == (206, stored[:10])
    assert web.anyone.get(path_of(stored), headers={"If-Range": tag}).status_code == 200


def test_a_file_in_pieces_is_the_file(web: Web, stored: bytes) -> None:
    pieces: list[bytes] = []
    for begin in range(0, len(stored), 4096):
        answer = web.anyone.get(path_of(stored), headers={"Range": f"bytes={begin}-{begin + 4095}"})
        pieces.append(answer.content)
    assert b"".join(pieces) == stored


@pytest.mark.parametrize("name", ["0" * 64, "0" * 63, "", "..%2f..%2fadmin-token", "sha256/00/00"])
def test_what_is_not_an_artifact_is_a_404_problem(web: Web, name: str) -> None:
    answer = web.anyone.get(f"/api/v1/artifacts/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_other_methods_are_405(web: Web, stored: bytes) -> None:
    assert web.admin.post(path_of(stored)).status_code == 405
    assert web.admin.delete(path_of(stored)).status_code == 405


def test_a_file_that_was_damaged_on_the_disk_is_not_served(web: Web, key: PublisherKey) -> None:
    data = make(key, "rotten")
    assert web.publish(data).status_code == 201
    name = digest(data)
    file = web.settings.data_dir / "blobs" / "sha256" / name[:2] / name[2:]
    file.write_bytes(data[:-1] + b"\0")
    answer = web.anyone.get(path_of(data))
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/blob-corrupt"


def test_many_who_ask_for_a_file_at_once_are_one_in_memory(tmp_path: Path) -> None:
    async def ignore(_message: Any) -> None: ...

    async def run() -> tuple[int, int]:
        blobs = Blobs(f"file://{tmp_path}")
        name = await Blobs(f"file://{tmp_path}").put(b"x" * 1000)
        server = ArtifactServer(blobs)
        await asyncio.gather(*(server.answer("GET", f"/{name}", [], ignore) for _ in range(5)))
        return server._bytes, sum(len(file.data) for file in server._files.values())

    assert asyncio.run(run()) == (1000, 1000)

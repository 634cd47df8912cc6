"""Artifacts in an object store: a real S3 server, published to, served from, collected, away and back."""

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest

from cloud.errors import BlobMissing
from cloud.models.blobs import Blobs
from cloud.models.housekeeping import collect
from cloud.processes import end_with_parent
from cloud.settings import Settings
from cloud.store.engine import make_engine
from tests.support.artifacts import card, digest, make, new_key
from tests.support.fleet import Fleet, finished, settings_in
from tests.support.listening import listens
from tests.support.web import Web
from tools.firmware import program

URL = "s3://models/of/pumps"
_START_DEADLINE_S = 30.0


class S3:
    """moto's server, which forgets everything when it ends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers and has the bucket."""
        self._process = subprocess.Popen(
            [program("moto_server"), "-H", "127.0.0.1", "-p", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )
        assert listens(self._process, "127.0.0.1", self.port, _START_DEADLINE_S), "the S3 server did not start"
        bucket = urllib.request.Request(f"{self.address}/models", method="PUT")
        urllib.request.urlopen(bucket, timeout=_START_DEADLINE_S).close()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            self._process = None


@pytest.fixture(scope="module")
def s3(free_port: Callable[[], int]) -> Iterator[S3]:
    server = S3(free_port())
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("AWS_ENDPOINT_URL", server.address)
        environ.setenv("AWS_ALLOW_HTTP", "true")
        environ.setenv("AWS_REGION", "us-east-1")
        environ.setenv("AWS_ACCESS_KEY_ID", "tests")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="module")
def settings(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A server whose blobs lie there."""
    return settings_in(tmp_path_factory.mktemp("data"), EDGEWISE_BLOBS_URL=URL)


@pytest.fixture(scope="module")
def web(settings: Settings, free_port: Callable[[], int]) -> Iterator[Web]:
    with Web(settings, free_port()) as running:
        yield running


def test_bytes_come_back_once_and_whole_for_every_process(s3: S3) -> None:
    data = b"model" * 10_000

    async def run() -> bytes:
        name = await Blobs(URL).put(data)
        assert name == await Blobs(URL).put(data)
        assert await Blobs(URL).has(name)
        found = await Blobs(URL).get(name)
        await Blobs(URL).delete(name)
        await Blobs(URL).delete(name)
        assert not await Blobs(URL).has(name)
        with pytest.raises(BlobMissing):
            await Blobs(URL).get(name)
        return found

    assert finished(run()) == data


def test_what_is_published_is_served_in_ranges_and_what_nothing_names_is_collected(web: Web) -> None:
    key, model_card = new_key(), card()
    data = make(key, payload=bytes(range(256)) * 100, card=model_card)
    trusted = web.admin.post("/api/v1/keys", json={"public_key": key.public.hex()})
    assert trusted.status_code == 200, trusted.text
    assert web.publish(data, cards=(model_card,)).status_code == 201
    path = f"/api/v1/artifacts/{digest(data)}"
    assert web.anyone.get(path).content == data
    part = web.anyone.get(path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, data[100:200])

    async def run() -> tuple[list[str], set[str]]:
        engine, blobs = make_engine(web.settings), Blobs(URL)
        orphan = await blobs.put(b"of a publish that failed")
        assert (await collect(engine, blobs)).blobs == [], "young"
        removed = await collect(engine, blobs, young_ms=-60_000)
        left = {entry.sha256 async for entry in blobs.entries()}
        await engine.dispose()
        assert removed.blobs == [orphan]
        return removed.blobs, left

    _, left = finished(run())
    assert {digest(data), sha256(model_card).hexdigest()} <= left


def test_a_store_that_is_away_is_named_and_nothing_else_ends(web: Web, s3: S3) -> None:
    key = new_key()
    web.admin.post("/api/v1/keys", json={"public_key": key.public.hex()})
    known, new = make(key, "known"), make(key, "new")
    assert web.publish(known).status_code == 201
    assert web.anyone.get(f"/api/v1/artifacts/{digest(known)}").status_code == 200
    s3.kill()
    began = time.monotonic()
    refused = web.publish(new)
    assert refused.status_code == 503, refused.text
    assert "the blob store does not answer" in refused.json()["detail"]
    assert web.anyone.get(f"/api/v1/artifacts/{'0' * 64}").status_code == 503
    assert web.anyone.get(f"/api/v1/artifacts/{digest(known)}").content == known, "it is in memory"
    assert time.monotonic() - began < 10
    fleet = Fleet(web.settings)
    fleet.joined("meanwhile", key.key_id)
    web.admin.put("/api/v1/models/known/aliases/champion", json={"version": "1.0.0"})
    deadline = time.monotonic() + 10
    while web.get("/api/v1/devices/meanwhile")["summary"]["wanted"]["sha256"] != digest(known):
        assert time.monotonic() < deadline, "boards are not followed any more"
        time.sleep(0.1)
    s3.start()
    assert web.publish(new).status_code == 201
    assert web.anyone.get(f"/api/v1/artifacts/{digest(new)}").content == new

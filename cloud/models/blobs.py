"""Content-addressed store of artifact bytes: a folder by default, S3 by URL."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from cloud.errors import BadSettings, BlobCorrupt, BlobMissing, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Artifacts are at most a few hundred kB; this many stay in memory, so a fleet that downloads one model reads the
# disk once.
_CACHE_BYTES = 8 * 1024 * 1024

# obstore's own patience is 10 retries within 3 minutes: longer than anybody who asks here waits.
_CONNECT_TIMEOUT, _TIMEOUT = "3s", "10s"
_MAX_RETRIES = 3
_RETRY_TIMEOUT = timedelta(seconds=5)
_REST_S = 10.0  # after a failure nobody waits for the store: what asks in a loop would do nothing else
_NEXT_STEP = "see EDGEWISE_BLOBS_URL, and the disk or the bucket it names"


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored blob."""

    sha256: str  # hex
    size_bytes: int
    modified_ms: int


class Blobs:
    """Bytes by their SHA-256. What was put is never changed; what is read back is checked against its name.

    Whatever keeps the store from answering (disk full, no such bucket, nobody there) is raised as Unavailable.
    """

    def __init__(self, url: str) -> None:
        """`url`: `file:///folder`, `memory:///` or `s3://bucket/prefix`.

        Of S3, endpoint and credentials come from the AWS_* variables. Raises BadSettings for a URL that names no store,
        or a folder that cannot be made.
        """
        # Options given here end what obstore would take from this variable.
        unsafe = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
        options: ClientConfig = {"connect_timeout": _CONNECT_TIMEOUT, "timeout": _TIMEOUT, "allow_http": unsafe}
        retries: RetryConfig = {"max_retries": _MAX_RETRIES, "retry_timeout": _RETRY_TIMEOUT}
        try:
            if url.startswith("file://"):
                self._store = LocalStore(Path(url.removeprefix("file://")), mkdir=True)
            elif url.startswith("memory:"):
                self._store = from_url(url)
            else:
                self._store = from_url(url, client_options=options, retry_config=retries)
        except (ValueError, OSError, BaseError) as error:
            cause = f"artifacts cannot be stored in {url!r}: {_first_line(error)}"
            raise BadSettings(cause, "set EDGEWISE_BLOBS_URL to file:///folder or s3://bucket/prefix") from None
        self._cache: dict[str, bytes] = {}
        self._cached_bytes = 0
        self._rests_until = 0.0

    async def put(self, data: bytes) -> str:
        """Keeps `data` durably and returns its SHA-256 in hex; putting the same bytes twice is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            with _answering():
                await obstore.put_async(self._store, _path(digest), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            await self.get(digest)  # a damaged earlier copy must not pass for a stored one
        except FileNotFoundError as error:
            raise Unavailable(f"the blob store takes nothing: {_first_line(error)}", _NEXT_STEP) from error
        self._rests_until = 0.0  # it is back
        with _answering():
            await asyncio.to_thread(self._sync_to_disk, digest)  # who put an earlier copy may have died before this
        return digest

    def in_memory(self, digest: str) -> bytes | None:
        """The bytes, if they were read or asked for lately."""
        return self._cache.get(digest)

    async def get(self, digest: str) -> bytes:
        """The bytes named by a SHA-256 in hex; raises BlobMissing or BlobCorrupt."""
        data = self._cache.get(digest)
        if data is not None:
            return data
        if time.monotonic() < self._rests_until:
            raise Unavailable("the blob store did not answer a moment ago", _NEXT_STEP)
        try:
            with _answering():
                found = await obstore.get_async(self._store, _path(digest))
                data = bytes(await found.bytes_async())
        except FileNotFoundError:
            raise BlobMissing(f"no blob {digest}", "publish the file again") from None
        except Unavailable:
            self._rests_until = time.monotonic() + _REST_S
            raise
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt(f"blob {digest} is damaged", "restore it from a backup")
        self._remember(digest, data)
        return data

    async def has(self, digest: str) -> bool:
        """Whether the store holds a blob now, whatever is remembered of it."""
        try:
            with _answering():
                await obstore.head_async(self._store, _path(digest))
        except FileNotFoundError:
            return False
        return True

    async def delete(self, digest: str) -> None:
        """Forgets a blob; one that is not there is no error."""
        data = self._cache.pop(digest, None)
        if data is not None:
            self._cached_bytes -= len(data)
        with suppress(FileNotFoundError), _answering():  # a collection that was cut short runs again
            await obstore.delete_async(self._store, _path(digest))

    async def entries(self) -> AsyncIterator[Entry]:
        """Every stored blob, in no particular order."""
        pages: AsyncIterable[Sequence[obstore.ObjectMeta]]
        pages = obstore.list(self._store, prefix="sha256")  # pyright: ignore[reportUnknownMemberType]
        with _answering():
            async for page in pages:
                for meta in page:
                    digest = meta["path"].removeprefix("sha256/").replace("/", "")
                    yield Entry(digest, meta["size"], int(meta["last_modified"].timestamp() * 1000))

    def _remember(self, digest: str, data: bytes) -> None:
        if digest in self._cache:
            return  # two asked at once
        self._cache[digest] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            oldest = next(iter(self._cache))
            self._cached_bytes -= len(self._cache.pop(oldest))

    def _sync_to_disk(self, digest: str) -> None:
        # obstore renames a complete file into place but leaves flushing to the system: after a power cut the database
        # could name a blob whose bytes never reached the disk.
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            file = self._store.prefix / _path(digest)
            for path in (file, file.parent):
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)


@contextmanager
def _answering() -> Generator[None]:
    """Turns what obstore and the system raise into Unavailable, but for a blob that is there, or is not."""
    try:
        yield
    except (AlreadyExistsError, FileNotFoundError):
        raise
    except (BaseError, OSError) as error:
        raise Unavailable(f"the blob store does not answer: {_first_line(error)}", _NEXT_STEP) from error


def _first_line(error: Exception) -> str:
    """obstore says its innermost cause below, over many lines."""
    return str(error).partition("\n")[0][:300]


def _path(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest[2:]}"

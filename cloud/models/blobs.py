"""Content-addressed store of artifact bytes: a folder by default, S3 by URL."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from cloud.errors import BadSettings, BlobCorrupt, BlobMissing

# Artifacts are at most a few hundred kB; this many stay in memory, so a fleet that downloads one model reads the
# disk once.
_CACHE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored blob."""

    sha256: str  # hex
    size_bytes: int
    modified_ms: int


class Blobs:
    """Bytes by their SHA-256. What was put is never changed; what is read back is checked against its name."""

    def __init__(self, url: str) -> None:
        """`url`: `file:///folder`, `memory:///` or `s3://bucket/prefix` (credentials from the AWS_* variables).

        Raises BadSettings for a URL that names no store, or a folder that cannot be made.
        """
        try:
            if url.startswith("file://"):
                self._store = LocalStore(Path(url.removeprefix("file://")), mkdir=True)
            else:
                self._store = from_url(url)
        except (ValueError, OSError, BaseError) as error:
            cause = f"artifacts cannot be stored in {url!r}: {str(error).splitlines()[0]}"
            raise BadSettings(cause, "set EDGEWISE_BLOBS_URL to file:///folder or s3://bucket/prefix") from None
        self._cache: dict[str, bytes] = {}
        self._cached_bytes = 0

    async def put(self, data: bytes) -> str:
        """Keeps `data` durably and returns its SHA-256 in hex; putting the same bytes twice is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            await obstore.put_async(self._store, _path(digest), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            await self.get(digest)  # a damaged earlier copy must not pass for a stored one
        else:
            await asyncio.to_thread(self._sync_to_disk, digest)
        return digest

    async def get(self, digest: str) -> bytes:
        """The bytes named by a SHA-256 in hex; raises BlobMissing or BlobCorrupt."""
        data = self._cache.get(digest)
        if data is not None:
            return data
        try:
            found = await obstore.get_async(self._store, _path(digest))
            data = bytes(await found.bytes_async())
        except FileNotFoundError:
            raise BlobMissing(f"no blob {digest}", "publish the file again") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt(f"blob {digest} is damaged", "restore it from a backup")
        self._remember(digest, data)
        return data

    async def delete(self, digest: str) -> None:
        """Forgets a blob; one that is not there is no error."""
        data = self._cache.pop(digest, None)
        if data is not None:
            self._cached_bytes -= len(data)
        with contextlib.suppress(FileNotFoundError):  # a collection that was cut short runs again
            await obstore.delete_async(self._store, _path(digest))

    async def entries(self) -> AsyncIterator[Entry]:
        """Every stored blob, in no particular order."""
        pages: AsyncIterable[Sequence[obstore.ObjectMeta]]
        pages = obstore.list(self._store, prefix="sha256")  # pyright: ignore[reportUnknownMemberType]
        async for page in pages:
            for meta in page:
                digest = meta["path"].removeprefix("sha256/").replace("/", "")
                yield Entry(digest, meta["size"], int(meta["last_modified"].timestamp() * 1000))

    def _remember(self, digest: str, data: bytes) -> None:
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


def _path(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest[2:]}"

"""GET and HEAD /api/v1/artifacts/<sha256>: artifacts and model cards with Range and ETag, as bare ASGI.

A framework costs more than the 20 kB it sends: measured, a plain handler reaches half the requests of bare ASGI, a
mount two thirds. So a file is read once through the mount, which also answers for every mistake, and after that a
shortcut in front of the framework serves it from memory with headers made beforehand. The name is the SHA-256 of the
bytes, so a response never goes stale. RFC 9110 sections 13 and 14: If-Match before If-None-Match before Range with
If-Range. Of a GET one range is served; several, unintelligible ones, and those of a HEAD are not heeded.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from prometheus_client import Counter

from cloud.models.blobs import Blobs

PATH = "/api/v1/artifacts/"

Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)", re.IGNORECASE)
_BEYOND = 10**18  # stands for a position of more digits than any file has bytes
_CACHE_BYTES = 16 * 1024 * 1024
_TYPE = (b"content-type", b"application/octet-stream")

_requests = Counter("edgewise_artifact_requests", "Artifacts and cards served, by status", ["status"])
_count = {status: _requests.labels(str(status)).inc for status in (200, 206, 304, 412, 416)}


class _File:
    """One file and all the headers that do not depend on the request."""

    def __init__(self, digest: str, data: bytes) -> None:
        self.data = data
        self.etag = b'"' + digest.encode() + b'"'
        self.common: Headers = [
            (b"etag", self.etag),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", b"public, max-age=31536000, immutable"),
        ]
        self.whole: Headers = [*self.common, _TYPE, _length(data)]

    async def answer(self, method: str, headers: Iterable[tuple[bytes, bytes]], send: Send) -> None:
        """Sends the response to a GET or HEAD."""
        must, known, span, if_range = b"", b"", b"", self.etag
        for name, value in headers:
            if name == b"if-none-match":
                known += b"," + value
            elif name == b"if-match":
                must += b"," + value
            elif name == b"range":
                span += value  # two of them make no sense together
            elif name == b"if-range":
                if_range = value
        status, fields, body = 200, self.whole, self.data
        if must and not _names(must, self.etag):
            status, fields, body = 412, [*self.common, _length(b"")], b""
        elif known and _names(known, self.etag, weakly=True):
            status, fields, body = 304, self.common, b""
        elif span and if_range == self.etag and method == "GET":
            status, fields, body = self._part(span)
        _count[status]()
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    def _part(self, header: bytes) -> tuple[int, Headers, bytes]:
        span = _span(header, len(self.data))
        if span is None:
            return 200, self.whole, self.data
        start, end = span
        if start >= end:
            return 416, [*self.common, _length(b""), (b"content-range", b"bytes */%d" % len(self.data))], b""
        place = (b"content-range", b"bytes %d-%d/%d" % (start, end - 1, len(self.data)))
        body = self.data[start:end]
        return 206, [*self.common, _TYPE, place, _length(body)], body


class ArtifactServer:
    """Answers for one blob store; keeps the files asked for last in memory, at most 16 MB of them."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._files: dict[str, _File] = {}
        self._bytes = 0

    async def answer(self, method: str, path: str, headers: Headers, send: Send) -> bool:
        """Sends the response for the last part of `path`; False when it is no digest and nothing was sent.

        Raises BlobMissing for a digest that is not there, BlobCorrupt for one the disk has damaged.
        """
        digest = path.rstrip("/").rpartition("/")[2]  # Litestar ends the path of a mount with a slash
        if not _DIGEST.fullmatch(digest):
            return False
        await (await self._file(digest)).answer(method, headers, send)
        return True

    def in_memory(self, digest: str) -> _File | None:
        """A file that was asked for before."""
        return self._files.get(digest)

    async def _file(self, digest: str) -> _File:
        found = self._files.get(digest)
        if found is None:
            data = await self._blobs.get(digest)
            if (other := self._files.get(digest)) is not None:
                return other  # two asked at once
            found = self._files[digest] = _File(digest, data)
            self._bytes += len(found.data)
            while self._bytes > _CACHE_BYTES and len(self._files) > 1:
                self._bytes -= len(self._files.pop(next(iter(self._files))).data)
        return found


class Shortcut:
    """An ASGI application that serves files in memory itself and hands everything else to `app`."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PATH) and scope["method"] in ("GET", "HEAD"):
            server: ArtifactServer = self._app.state.artifact_server
            file = server.in_memory(scope["path"][len(PATH) :])
            if file is not None:
                await file.answer(scope["method"], scope["headers"], send)
                return
        await self._app(scope, receive, send)


def _length(body: bytes) -> tuple[bytes, bytes]:
    return (b"content-length", str(len(body)).encode())


def _names(tags: bytes, etag: bytes, weakly: bool = False) -> bool:
    """Whether a list of entity tags, or `*`, has the tag."""
    for tag in tags.split(b","):
        tag = tag.strip()
        if tag in (etag, b"*") or (weakly and tag.removeprefix(b"W/") == etag):
            return True
    return False


def _span(header: bytes, size: int) -> tuple[int, int] | None:
    """[start, end) of a single byte range; empty when it cannot be satisfied, None when it is to be ignored."""
    found = _RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        return max(0, size - _number(last)), size
    start = _number(first)
    end = _number(last) + 1 if last else size
    return None if last and end <= start else (start, min(end, size))


def _number(digits: bytes) -> int:
    """int() refuses more than 4,300 digits, and any client may send so many."""
    significant = digits.lstrip(b"0")
    return int(significant or b"0") if len(significant) <= 18 else _BEYOND

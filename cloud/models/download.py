"""GET and HEAD /api/v1/artifacts/<sha256>: artifact bytes with Range and ETag, as a bare ASGI application.

A framework handler costs more than the 20 kB it sends; here headers are prepared once per artifact and a request is
answered in two messages. The name is the SHA-256 of the bytes, so a response never goes stale.
RFC 9110 section 14 for ranges: one range is served, several or unintelligible ones get the whole file.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from cloud.models.blobs import Blobs

Send = Callable[[Any], Awaitable[None]]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")


class ArtifactServer:
    """Answers for one blob store. Raises BlobMissing for a digest that is not there."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def answer(self, method: str, path: str, headers: list[tuple[bytes, bytes]], send: Send) -> bool:
        """Sends the response for the last part of `path`; False when it is no digest and nothing was sent."""
        digest = path.rstrip("/").rpartition("/")[2]  # Litestar ends the path of a mount with a slash
        if not _DIGEST.fullmatch(digest):
            return False
        data = await self._blobs.get(digest)
        etag = b'"' + digest.encode() + b'"'
        asked = {name: value for name, value in headers if name in (b"range", b"if-none-match", b"if-range")}
        common = [
            (b"etag", etag),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", b"public, max-age=31536000, immutable"),
        ]
        if _matches(asked.get(b"if-none-match"), etag):
            await _respond(send, 304, common, b"")
            return True
        span = _span(asked.get(b"range"), len(data)) if asked.get(b"if-range", etag) == etag else None
        status, body = 200, data
        if span is not None:
            start, end = span
            total = str(len(data)).encode()
            if start >= end:
                await _respond(send, 416, [*common, (b"content-range", b"bytes */" + total)], b"")
                return True
            status, body = 206, data[start:end]
            common.append((b"content-range", b"bytes %d-%d/%b" % (start, end - 1, total)))
        common.append((b"content-type", b"application/octet-stream"))
        common.append((b"content-length", str(len(body)).encode()))
        await _respond(send, status, common, b"" if method == "HEAD" else body)
        return True


def _matches(wanted: bytes | None, etag: bytes) -> bool:
    if wanted is None:
        return False
    return wanted.strip() == b"*" or etag in (tag.strip().removeprefix(b"W/") for tag in wanted.split(b","))


def _span(header: bytes | None, size: int) -> tuple[int, int] | None:
    """[start, end) of a single byte range; empty when it cannot be satisfied, None when it is to be ignored."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None:
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size) if last and int(last) else ((size, size) if last else None)
    start = int(first)
    if last and int(last) < start:
        return None
    return start, min(int(last) + 1, size) if last else size


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""The fastest the server can be: an ASGI application that knows one file, its entity tag and one range of it."""

from typing import Any

DATA = bytes(range(256)) * 80
TAG = b'"raw"'
RANGE = b"bytes=4096-8191"
_COMMON = [(b"etag", TAG), (b"accept-ranges", b"bytes"), (b"cache-control", b"public, max-age=31536000, immutable")]
_TYPE = (b"content-type", b"application/octet-stream")
_WHOLE = [*_COMMON, _TYPE, (b"content-length", str(len(DATA)).encode())]
_PART = [*_COMMON, _TYPE, (b"content-range", b"bytes 4096-8191/20480"), (b"content-length", b"4096")]


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """200, 304 or 206 by the two headers, looked up and no more."""
    if scope["type"] != "http":
        return
    asked = dict(scope["headers"])
    if asked.get(b"if-none-match") == TAG:
        status, headers, body = 304, _COMMON, b""
    elif asked.get(b"range") == RANGE:
        status, headers, body = 206, _PART, DATA[4096:8192]
    else:
        status, headers, body = 200, _WHOLE, DATA
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

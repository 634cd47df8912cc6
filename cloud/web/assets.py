"""The shipped files under static/: read once, served from memory, kept by browsers until their content changes."""

import hashlib
from functools import cache
from pathlib import Path

from litestar import Response, get

from cloud.errors import NotFound

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


def asset(name: str) -> str:
    """The address of a file; it carries a digest of the content, so that it may be kept for ever."""
    return f"/static/{name}?v={hashlib.sha256(_files()[name]).hexdigest()[:12]}"


@get("/static/{name:path}", include_in_schema=False)
async def shipped(name: str) -> Response[bytes]:
    """One of the files there were at the start; nothing else on the disk can be named."""
    found = _files().get(name.removeprefix("/"))
    if found is None:
        raise NotFound(f"no asset {name}", "reload the page")
    return Response(found, media_type=_TYPES[Path(name).suffix], headers=_HEADERS)


@cache
def _files() -> dict[str, bytes]:
    return {
        path.relative_to(_FOLDER).as_posix(): path.read_bytes()
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }

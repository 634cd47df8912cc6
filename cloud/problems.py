"""Every error leaves as an RFC 9457 problem: type, title, status, detail, instance, and `next_step` for people."""

import logging
from collections.abc import Callable
from typing import Any, cast

from litestar import MediaType, Request, Response, get
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from msgspec import Struct
from sqlalchemy.exc import DBAPIError

from cloud import errors
from cloud.errors import BadRequest, EdgewiseError, NotFound, Unavailable
from cloud.store.engine import cause_of, passes, refuses_values

_log = logging.getLogger(__name__)

# Everything from this server, nothing inline, no frames around us.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""Of every page, also of those that say what is wrong."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """Why a request was refused, as RFC 9457 has it, with a next step for people."""

    type: str
    """Its address: GET says what the code at its end means."""

    title: str
    status: int
    """The HTTP status."""

    detail: str
    """What is wrong this time."""

    instance: str
    """The path that was asked for."""

    next_step: str
    """What to do about it."""

    errors: list[Any] = []
    """Of a parameter or body that is not valid: each `key` with its `message`."""


AnyRequest = Request[Any, Any, Any]

_CLASSES = {cls.code: cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, EdgewiseError)}
# Statuses the framework raises by itself.
_FRAMEWORK = {
    400: ("bad-request", "What was sent cannot be understood."),
    404: ("no-such-address", "There is no such address."),
    405: ("method-not-allowed", "This address does not take this method."),
    413: ("too-large", "The body is larger than this address takes."),
    415: ("unsupported-media-type", "The body is not of a type this address takes."),
    500: ("internal", "A fault of the server, which has logged it."),
}


def handlers() -> dict[int | type[Exception], Callable[[AnyRequest, Any], Response[Any]]]:
    """The exception handlers of the application."""
    return {EdgewiseError: _refusal, HTTPException: _framework, Exception: _fault}


@get("/problems/{code:str}", media_type=MediaType.JSON, tags=["Problems"], summary="What a problem type means")
async def problem_type(code: str) -> dict[str, str]:
    """The `type` of a problem is this address: it tells what the code means."""
    if code in _CLASSES:
        return {"code": code, "meaning": _title(_CLASSES[code])}
    for known, meaning in _FRAMEWORK.values():
        if known == code:
            return {"code": code, "meaning": meaning}
    raise NotFound(f"no problem type {code!r}", "read /schema for the API")


def _refusal(request: AnyRequest, error: EdgewiseError) -> Response[Any]:
    if error.status >= 500:
        _log.error("%s %s: %s", request.method, request.url.path, error)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return _answer(request, error.status, error.code, _title(type(error)), error.cause, error.next_step, headers)


def _framework(request: AnyRequest, error: HTTPException) -> Response[Any]:
    code, title = _FRAMEWORK.get(error.status_code, ("refused", "The request was refused."))
    detail = str(error.detail or title)
    next_step = "/schema describes every address"
    wrong: list[dict[str, Any]] = []
    if isinstance(error, NotFoundException):
        detail = f"nothing at {request.url.path}"
    elif isinstance(error, ValidationException):
        wrong = cast("list[dict[str, Any]]", error.extra or [])
        said = [f"{one.get('key') or 'body'}: {one['message']}" for one in wrong if "message" in one]
        detail = "; ".join(said) or detail
    return _answer(request, error.status_code, code, title, detail, next_step, dict(error.headers or {}), wrong)


def _fault(request: AnyRequest, error: Exception) -> Response[Any]:
    if passes(error):  # a full disk, a database that restarts: said in a line, and not as a fault of ours
        reason = cause_of(error.orig if isinstance(error, DBAPIError) and error.orig else error).partition("\n")[0]
        next_step = "look at the room on its disk and at `/health/ready`, then try again"
        return _refusal(request, Unavailable(f"the store does not take it: {reason}", next_step))
    if isinstance(error, DBAPIError) and refuses_values(error):
        cause = "the store cannot hold a value that was sent"
        return _refusal(request, BadRequest(cause, "leave out characters of code 0 and what is very long or large"))
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    code, title = _FRAMEWORK[500]
    return _answer(request, 500, code, title, type(error).__name__, "see the log of the web process")


def _answer(
    request: AnyRequest,
    status: int,
    code: str,
    title: str,
    detail: str,
    next_step: str,
    headers: dict[str, str] | None = None,
    errors: list[Any] | None = None,
) -> Response[Any]:
    path = request.url.path
    problem = Problem(f"/problems/{code}", title, status, detail, path, next_step, errors or [])
    wants_page = "text/html" in request.headers.get("accept", "") and not path.startswith("/api/")
    if wants_page:
        page = request.app.state.pages.render("problem.html", problem=problem)
        return Response(
            page, status_code=status, headers={**PAGE_HEADERS, **(headers or {})}, media_type=MediaType.HTML
        )
    return Response(problem, status_code=status, headers=headers, media_type="application/problem+json")


def _title(cls: type[EdgewiseError]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]

"""Who may change things: the bearer of the admin token. Reading needs none; the server listens on loopback."""

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from cloud.errors import NotAllowed


def admin_only(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A Litestar guard: raises NotAllowed unless `Authorization: Bearer <admin token>` came along."""
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    token: str = connection.app.state.admin_token
    # compare_digest: how long the answer takes must not tell how much of a guess was right.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise NotAllowed(
            "this changes something and needs the admin token",
            "send `Authorization: Bearer <token>`, or set EDGEWISE_TOKEN for a command; "
            "the token is in the file admin-token of the data folder",
        )

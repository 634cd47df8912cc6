"""/schema: the API reference as a page of our own. The usual viewers load their scripts from other hosts."""

from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.serialization import encode_json
from markupsafe import Markup

from cloud.web.filters import shape

_METHODS = ("get", "post", "put", "patch", "delete")


class ReferencePage(OpenAPIRenderPlugin):
    """Renders the OpenAPI document with templates/schema.html."""

    def __init__(self) -> None:
        super().__init__(path="/", favicon="", style="")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        document: dict[str, Any] = msgspec.json.decode(encode_json(openapi_schema))
        shapes = sorted(document.get("components", {}).get("schemas", {}).items())
        page: str = request.app.state.pages.render(
            "schema.html", here="schema", api=document, groups=_by_tag(document["paths"]), shapes=shapes
        )
        return page.encode()


def _by_tag(paths: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, item in paths.items():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                tag = (operation.get("tags") or ["Other"])[0]
                groups.setdefault(tag, []).append(_operation(method, path, operation))
    return sorted(groups.items())


def _operation(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    good: list[dict[str, Any]] = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    return {
        "method": method.upper(),
        "path": path,
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "security": operation.get("security"),
        "parameters": operation.get("parameters", []),
        "body": _content(operation.get("requestBody", {})),
        "answer": _content(good[0]) if good else "",
    }


def _content(of: dict[str, Any]) -> Markup:
    """The shape of a body, "nothing" without one."""
    content: dict[str, dict[str, Any]] = of.get("content", {})
    for body in content.values():
        return shape(body.get("schema") or {})
    return Markup("nothing")

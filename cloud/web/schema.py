"""/schema: the API reference as a page of our own. The usual viewers load their scripts from other hosts."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import OpenAPI, OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Reference, Schema
from litestar.serialization import encode_json
from markupsafe import Markup

from cloud.problems import Problem
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


def complete(document: OpenAPI) -> None:
    """Puts right what Litestar cannot know: our problems, rows that travel as arrays, and what docstrings say."""
    shapes = document.components.schemas = document.components.schemas or {}
    _answer_problems(document, shapes)
    for cls in _subclasses(msgspec.Struct):
        shape_of_class = shapes.get(cls.__name__)
        if shape_of_class is None or not cls.__module__.startswith("cloud."):
            continue
        shape_of_class.description = inspect.getdoc(cls)
        for name, text in _field_texts(cls).items():
            field = (shape_of_class.properties or {}).get(name)
            if isinstance(field, Schema):
                field.description = text
        if cls.__struct_config__.array_like:
            _as_array(shape_of_class)


def _answer_problems(document: OpenAPI, shapes: dict[str, Schema]) -> None:
    """Litestar describes a 400 in a form of its own, which nobody gets; every error is a Problem."""
    fields = msgspec.structs.fields(Problem)
    types: dict[type[Any], OpenAPIType] = {str: OpenAPIType.STRING, int: OpenAPIType.INTEGER}
    shapes["Problem"] = Schema(
        type=OpenAPIType.OBJECT,
        title="Problem",
        properties={field.name: Schema(type=types.get(field.type, OpenAPIType.ARRAY)) for field in fields},
        required=[field.name for field in fields if field.required],
    )
    content = {"application/problem+json": OpenAPIMediaType(schema=Reference("#/components/schemas/Problem"))}
    for item in (document.paths or {}).values():
        for operation in (getattr(item, method) for method in _METHODS):
            if operation is not None:
                operation.responses.pop("400", None)
                operation.responses["default"] = OpenAPIResponse("What was refused, and why.", content=content)


def _as_array(shape_of_class: Schema) -> None:
    fields = shape_of_class.properties or {}
    for name, field in fields.items():
        if isinstance(field, Schema):
            field.title = name
    shape_of_class.type = OpenAPIType.ARRAY
    shape_of_class.prefix_items = list(fields.values())
    shape_of_class.min_items = shape_of_class.max_items = len(fields)
    shape_of_class.properties = shape_of_class.required = None


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _field_texts(cls: type[Any]) -> dict[str, str]:
    """Field name -> the string that follows it in the class body."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    texts: dict[str, str] = {}
    if isinstance(body, ast.ClassDef):
        for field, text in pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match text:
                    case ast.Expr(value=ast.Constant(value=str(said))):
                        texts[field.target.id] = inspect.cleandoc(said)
                    case _:
                        pass
    return texts


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

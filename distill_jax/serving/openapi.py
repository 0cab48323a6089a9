"""The routes as OpenAPI 3.1 describes them: bodies of requests are the pydantic models that read them."""

import dataclasses
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pydantic.json_schema
from aiohttp import web

from distill_jax.serving.requests import Body

_SCHEMAS = "#/components/schemas/"
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_STATUSES = {
    400: "what is wrong with the request, and in which field",
    404: "no such model",
    408: "the body came too slowly",
    413: "the body is too large",
    429: "the queue is full",
    503: "no answer in time, or the server is stopping",
}


@dataclasses.dataclass(frozen=True)
class Route:
    """A route of the application: a GET, or with `body`, the model of its request's body, a POST."""

    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    body: type[Body] | None = None


def description(name: str, routes: Sequence[Route], *, needs_key: bool) -> dict[str, Any]:
    """An OpenAPI document for the student `name`; `needs_key` is whether clients must send a key."""
    models = [(route.body, "validation") for route in routes if route.body is not None]
    _, schemas = pydantic.json_schema.models_json_schema(models, ref_template=_SCHEMAS + "{model}")
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"distill_jax: {name}", "version": "1"},
        "paths": {},
        "components": {"schemas": schemas["$defs"] | {"Error": _ERROR}},
    }
    for route in routes:
        document["paths"][route.path] = {"get" if route.body is None else "post": _operation(route)}
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": route.summary, "responses": {"200": {"description": "the answer"}}}
    names = re.findall(r"{(\w+)}", route.path)
    if names:
        text = {"type": "string"}
        operation["parameters"] = [{"name": n, "in": "path", "required": True, "schema": text} for n in names]
    if route.body is not None:
        schema = {"$ref": _SCHEMAS + route.body.__name__}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        error = {"application/json": {"schema": {"$ref": f"{_SCHEMAS}Error"}}}
        for status, text in _STATUSES.items():
            operation["responses"][str(status)] = {"description": text, "content": error}
    return operation

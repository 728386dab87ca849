"""The OpenAPI 3.1 document, made from the types that requests and answers really have."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.routing import BaseRoute, Route

from headrace import __version__
from serving import examples
from serving.bodies import NDJSON
from serving.guard import ACCESS_TOKEN, FORM
from serving.openapi.operations import JSON, OPERATIONS, Operation, operation_of
from serving.openapi.parameters import PATH_PARAMETERS
from serving.openapi.problem import Problem
from serving.problems import MEDIA_TYPE
from serving.routing import OF_MODEL, Guarded
from serving.uploads import REQUEST

_REF = "#/components/schemas/{name}"
_SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, `hr_…`; `headrace keys create` makes one.",
    },
    "user_token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's token, `hu_…`, for that user's own alone.",
    },
    "stream_token": {
        "type": "apiKey",
        "in": "query",
        "name": ACCESS_TOKEN,
        "description": "A user's token where EventSource can send no header.",
    },
}
_OF_MODEL = "Of the model that the path names."


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of the routes that `OPERATIONS` describes."""
    types = [Problem]
    types += [
        of for each in OPERATIONS.values() for of in (each.body, each.lines, each.answer) if of
    ]
    schema_of, components = msgspec.json.schema_components(types, ref_template=_REF)
    schemas_by_type = dict(zip(map(repr, types), schema_of, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        if not isinstance(route, Route):
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = operation_of(method, route.path)
            if operation is not None:
                described = _describe(route, operation, schemas_by_type)
                paths.setdefault(route.path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace",
            "version": __version__,
            "description": "Events in, live recommendations out.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _describe(route: Route, operation: Operation, schemas_by_type: dict[str, Any]) -> Any:
    summary, _, more = (inspect.getdoc(route.endpoint) or "").partition("\n\n")
    if route.path.startswith(f"{OF_MODEL}/"):
        more = "\n\n".join(filter(None, (more, _OF_MODEL)))
    described: dict[str, Any] = {
        "operationId": route.endpoint.__name__,
        "summary": " ".join(summary.split()),
        "security": _security(route),
        "parameters": [*_path_parameters(route), *operation.parameters],
        "responses": _responses(operation, schemas_by_type, isinstance(route, Guarded)),
    }
    if more:
        described["description"] = more
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas_by_type[repr(operation.body)]}
        if operation.example is not None:
            content["example"] = msgspec.to_builtins(operation.example)
        contents = {JSON: content}
        if operation.lines is not None:
            lines = schemas_by_type[repr(operation.lines)]
            contents[NDJSON] = {
                "schema": {**lines, "description": "Each on a line of its own."},
                "example": [content["example"]],
            }
        if operation.file is not None:
            contents[FORM] = {
                "schema": _form(schemas_by_type[repr(operation.body)], operation),
                "example": {REQUEST: examples.UPLOAD, operation.file: examples.FILE},
            }
        described["requestBody"] = {"required": operation.needs_body, "content": contents}
    return described


def _form(fields: dict[str, Any], operation: Operation) -> dict[str, Any]:
    """Return the schema of a form: the file, and the fields of the body as JSON."""
    return {
        "type": "object",
        "properties": {
            REQUEST: {**fields, "description": "Fields of the request, as JSON."},
            str(operation.file): {
                "type": "string",
                "format": "binary",
                "description": "A file of events: JSON lines, CSV or Parquet.",
            },
        },
        "additionalProperties": {
            "type": "string",
            "description": "A field of the request by itself.",
        },
    }


def _security(route: Route) -> list[dict[str, list[str]]]:
    """Return what opens the route, each with the scope that it needs."""
    if not isinstance(route, Guarded):
        return []
    schemes = ["key"]
    schemes += ["user_token"] if route.for_users else []
    schemes += ["stream_token"] if route.streams else []
    return [{scheme: [route.scope] if route.scope else []} for scheme in schemes]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": what,
            "schema": msgspec.json.schema(of),
            "example": example,
        }
        for name in route.param_convertors
        for what, of, example in [PATH_PARAMETERS[name]]
    ]


def _responses(operation: Operation, schemas_by_type: dict[str, Any], secured: bool) -> Any:
    answer: dict[str, Any] = {"description": "As asked."}
    if operation.answer is not None:
        answer["content"] = {operation.media: {"schema": schemas_by_type[repr(operation.answer)]}}
        example = examples.answer_of(operation.answer)
        if example is not None:
            answer["content"][operation.media]["example"] = example
    problem = {"schema": schemas_by_type[repr(Problem)]}
    errors = sorted(
        {
            *operation.errors,
            *((408,) if operation.body is not None else ()),
            *((401, 403, 422, 429, 503) if secured else ()),
        }
    )
    refused = {
        str(status): {
            "description": "What is wrong, and the cure.",
            "content": {
                MEDIA_TYPE: {**problem, "example": examples.problem_of(status, operation.answer)}
            },
        }
        for status in errors
    }
    given = dict.fromkeys(map(str, (operation.status, *operation.also)), answer)
    return {**refused, **given}

"""The API described: as OpenAPI for programs, as a page for people."""

from __future__ import annotations

import shlex
from html import escape
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from headrace import asyncapi as topics
from serving.bodies import json_response
from serving.openapi.document import document
from serving.services import services

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Headrace API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
summary {{ cursor: pointer; padding: .4rem 0; }}
code, pre {{ font: 14px/1.4 ui-monospace, monospace; }}
pre {{ padding: .8rem; overflow: auto; border: 1px solid #8886; border-radius: 6px; }}
b {{ display: inline-block; min-width: 4.5rem; }}
</style></head><body>
<h1>Headrace API {version}</h1>
<p>Every call but the health checks needs <code>Authorization: Bearer &lt;key&gt;</code>, whose
scope stands beside it.
The same as <a href="openapi.json">OpenAPI 3.1</a>; the topics of Kafka as
<a href="asyncapi.json">AsyncAPI 3.0</a>.</p>
{operations}
<h2>Types</h2>
{types}
</body></html>
"""


async def openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return json_response(document(request.app.routes))


async def asyncapi(request: Request) -> Response:
    """Return the AsyncAPI document of the topics; where the brokers are it does not tell."""
    return json_response(topics.document(services(request).settings, servers=False))


async def page(request: Request) -> Response:
    """Return the page; it holds everything it needs, and no script."""
    api = document(request.app.routes)
    operations = [
        _operation(method, path, operation)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    types = [
        _details(f'<code id="{escape(name)}">{escape(name)}</code>', _json(schema))
        for name, schema in sorted(api["components"]["schemas"].items())
    ]
    return HTMLResponse(
        _PAGE.format(
            version=escape(api["info"]["version"]),
            operations="\n".join(operations),
            types="\n".join(types),
        )
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    title = f"<b>{method.upper()}</b> <code>{escape(path)}</code> — {escape(operation['summary'])}"
    shown = {
        name: operation[name]
        for name in ("security", "parameters", "requestBody", "responses")
        if operation.get(name)
    }
    return _details(title, f"{escape(_curl(method, path, operation))}\n\n{_json(shown)}")


def _curl(method: str, path: str, operation: dict[str, Any]) -> str:
    """Return the call as one types it into a shell, with the examples of the document."""
    names = {each["name"]: each["example"] for each in operation["parameters"]}
    words = ["curl -s", f'"$HEADRACE_URL{path.format_map(names)}"']
    if operation["security"]:
        words.append('-H "Authorization: Bearer $HEADRACE_API_KEY"')
    body = operation.get("requestBody")
    if body is not None:
        example = msgspec.json.encode(body["content"]["application/json"]["example"]).decode()
        words.append("-d " + shlex.quote(example))
    if method not in ("get", "post") or (method == "post" and body is None):
        words.insert(1, f"-X {method.upper()}")
    return " ".join(words)


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary><pre>{body}</pre></details>"


def _json(content: object) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())

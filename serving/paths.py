"""Ids in paths: `/v1/items/a%2Fb` names the item `a/b`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.events import NOT_ALLOWED
from headrace.model_settings import ModelId
from serving.problems import Problem, wrong_field
from serving.values import cut

_PLAIN = re.compile(rb"[A-Za-z0-9/_.~-]*").fullmatch
"""Matches a path in which there is nothing to decode."""


class EncodedPath:
    """Routes by the path as it was sent, in which an encoded slash does not part segments.

    `path_id` decodes the ids of a route's path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and not _PLAIN(scope.get("raw_path") or b""):
            segments = scope["raw_path"].decode("latin-1").split("/")
            # Decoded and encoded again: there are several ways to encode one path.
            path = "/".join(quote(unquote_to_bytes(segment), safe="") for segment in segments)
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def path_id(request: Request, name: str, of: Any, reason: str = "") -> str:
    """Return an id of the route's path. Raises `Problem` 422 when it is not what `of` takes.

    `reason` says in words what that is, if the type does not.
    """
    raw = request.path_params[name]
    try:
        value = unquote(raw, errors="strict")
    except UnicodeDecodeError as exc:
        raise _wrong_id(name, "is not UTF-8", raw) from exc
    return check_id(value, name, of, reason)


def check_id(value: str, name: str, of: Any, reason: str = "") -> str:
    """Return an id that is what `of` takes. Raises `Problem` 422 for another; see `path_id`."""
    try:
        return str(msgspec.convert(value, of))
    except msgspec.ValidationError as exc:
        said = str(exc).partition(" - at ")[0]
        if said.startswith("Expected `str` matching regex"):
            said = NOT_ALLOWED
        raise _wrong_id(name, reason or said, value) from exc


def _wrong_id(name: str, reason: str, value: str) -> Problem:
    shown = cut(value)
    return Problem(422, f"{name}: {reason}; it is {shown!r}", [wrong_field(name, reason, shown)])


def model_id_of(request: Request) -> str:
    """Return the model id of the path. Raises `Problem` 422 for what is none."""
    reason = "lowercase letters, digits and hyphens, no hyphen first or last, at most 63"
    return path_id(request, "model_id", ModelId, reason)

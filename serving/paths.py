"""Ids in paths: `/v1/items/a%2Fb` names the item `a/b`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.problems import Problem


class EncodedPath:
    """Routes by the path as it was sent, in which an encoded slash does not part segments.

    `path_id` decodes the ids of a route's path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope.get("raw_path"):
            segments = scope["raw_path"].decode("latin-1").split("/")
            # Decoded and encoded again: there are several ways to encode one path.
            path = "/".join(quote(unquote(segment), safe="") for segment in segments)
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def path_id(request: Request, name: str, of: Any) -> str:
    """Return an id of the route's path. Raises `Problem` 422 when it is not what `of` takes."""
    try:
        return str(msgspec.convert(unquote(request.path_params[name]), of))
    except msgspec.ValidationError as exc:
        reason = str(exc).partition(" - at ")[0]
        raise Problem(422, f"{name}: {reason}", [{"field": name, "reason": reason}]) from exc

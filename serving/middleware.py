"""What every request passes: the bearer key is checked, the request counted."""

from __future__ import annotations

import hmac
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import Problem, respond

PUBLIC = frozenset({"/livez", "/readyz", "/metrics", "/openapi.json", "/docs"})
"""Paths that need no key; none of them tells of a user or changes anything."""


class BearerKey:
    """Refuses requests without the key that settings give, if they give one."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http" and self._key and scope["path"] not in PUBLIC:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            known = hmac.compare_digest(key.strip().encode(), self._key)
            if scheme.lower() != "bearer" or not known:
                problem = Problem(401, "Send the API key: `Authorization: Bearer <key>`.")
                await respond(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Measured:
    """Counts each request under its route's path, never under the path that was asked for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note its status and how long it took."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            route = scope.get("route")
            scope["app"].state.services.metrics.observe(
                route.path if route is not None else "none",
                scope["method"],
                status,
                time.perf_counter() - started,
            )

"""What every request passes: it is counted, and told in the log."""

from __future__ import annotations

import time
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.request_log import RequestLine, hash_user
from serving.routing import Guarded
from serving.services import Services


class Measured:
    """Counts and logs each request under its route's path, never under what was asked for."""

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
            _note(scope, status, time.perf_counter() - started)


def _note(scope: Scope, status: int, seconds: float) -> None:
    services: Services = scope["app"].state.services
    found = scope.get("route")
    route = found.path if found is not None else "none"
    method = scope["method"] if scope["method"] in _METHODS else "other"
    services.metrics.observe(route, method, status, seconds)
    if isinstance(found, Guarded):
        told_s = None if found.streams else seconds
        services.request_figures.note(route, method, status, told_s)
    state = scope.get("state", {})
    caller = state.get("caller")
    user_id = state.get("user_id") or scope.get("path_params", {}).get("user_id")
    services.request_log.tell(
        RequestLine(
            at=round(services.clock(), 3),
            method=method,
            route=route,
            status=status,
            ms=round(1000 * seconds, 3),
            key=caller.key_id if caller else None,
            user=hash_user(unquote(user_id), services.key_ring.secret) if user_id else None,
        )
    )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""Others are whatever a client writes, and must not become series of metrics."""

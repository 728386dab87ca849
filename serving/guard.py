"""What a request passes before its endpoint sees it: key, scope, user, rate, size."""

from __future__ import annotations

import asyncio
import math
from urllib.parse import parse_qs, unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace import keys
from serving.callers import Caller
from serving.key_ring import KeyRing
from serving.problems import Problem
from serving.queries import check_names
from serving.user_tokens import is_token

MAX_BYTES = 1 << 20
"""Longest body where a route says nothing else."""
FORM = "multipart/form-data"
"""A body that may carry a file."""
ACCESS_TOKEN = "access_token"  # noqa: S105 - a parameter's name


class Guard:
    """Lets a request through to one route, or raises the `Problem` that says why not.

    401 without a key that is known, 403 when it is not for this, 429 when it comes too often, 422
    for a query that says what the route does not know, 413 as soon as the body turns out too long,
    408 when no more of it comes.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        path: str,
        scope: keys.Scope | None,
        for_users: bool,
        streams: bool,
        max_bytes: int,
        takes_files: bool,
    ) -> None:
        self._app = app
        self._path = path
        self._needs: keys.Scope | None = scope
        self._for_users = for_users
        self._streams = streams
        self._max_bytes = max_bytes
        self._takes_files = takes_files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Raises `Problem`."""
        ring: KeyRing = scope["app"].state.services.key_ring
        caller = ring.identify(self._credential(scope))
        scope.setdefault("state", {})["caller"] = caller
        self._check_right(caller, scope)
        wait_s = ring.wait_s(caller)
        if wait_s > 0:
            raise Problem(
                429,
                f"This key may make {caller.rate_per_s:g} requests a second, {caller.burst} at "
                f"once; wait {wait_s:.1f} s.",
                retry_after_s=math.ceil(wait_s),
            )
        if scope["query_string"]:
            names = scope["app"].state.query_names[scope["method"], self._path]
            check_names(scope["query_string"].decode("latin-1"), names)
        within_s: float = scope["app"].state.services.settings.serving.body_wait_s
        await self._app(scope, _counted(scope, receive, self._limit(scope), within_s), send)

    def _limit(self, scope: Scope) -> int:
        """Return how long the body may be."""
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if self._takes_files and kind == FORM:
            upload: int = scope["app"].state.services.settings.serving.upload_bytes
            # What stands beside the file counts as any other body.
            return upload + self._max_bytes
        return self._max_bytes

    def _credential(self, scope: Scope) -> str | None:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return key.strip()
        if self._streams:
            found = parse_qs(scope["query_string"].decode("latin-1")).get(ACCESS_TOKEN, [""])
            # A key is worth more than a stream, and must not stand in addresses.
            return found[0] if is_token(found[0]) else None
        return None

    def _check_right(self, caller: Caller, scope: Scope) -> None:
        if self._needs is not None and self._needs not in caller.scopes:
            raise Problem(
                403,
                f"This needs a key with the scope {self._needs}; this one has "
                f"{', '.join(caller.scopes)}.",
                needs=self._needs,
            )
        if caller.user_id is None:
            return
        if not self._for_users:
            raise Problem(
                403, "A user's token is not for this; send an API key.", needs=self._needs
            )
        named = scope["path_params"].get("user_id")
        if named is not None:
            caller.check_user(unquote(named))


def _counted(scope: Scope, receive: Receive, limit: int, within_s: float) -> Receive:
    """Return `receive`, which raises `Problem` 413 once the body is longer than `limit` bytes.

    And 408 when the next piece of the body does not come within so many seconds.
    """
    size = 0
    is_whole = False
    told = Headers(scope=scope).get("content-length", "")

    async def counting() -> Message:
        nonlocal size, is_whole
        if told.isdigit() and int(told[:20]) > limit:
            raise _too_long(limit)
        # After the body comes the end of the connection alone, however late.
        message = await (receive() if is_whole else _in_time(receive, within_s))
        is_whole = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_long(limit)
        return message

    return counting


async def _in_time(receive: Receive, within_s: float) -> Message:
    try:
        return await asyncio.wait_for(receive(), within_s)
    except asyncio.TimeoutError as exc:
        told = f"No more of the body has come for {within_s:g} s; send it again."
        raise Problem(408, told) from exc


def _too_long(limit: int) -> Problem:
    return Problem(413, f"The body is longer than {limit:,} bytes; send it in parts.")

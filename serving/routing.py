"""A route as the application's list shows it: what it is, and who may take it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.keys import Scope
from serving.admission import Admitted
from serving.guard import MAX_BYTES, Guard


class Guarded(Route):
    """A route for callers whose key has its scope.

    `for_users` says that a user's token opens it too: for that user where the path names one, and
    where the body does, its endpoint calls `serving.callers.act_for`. `streams` says that it is
    read by browsers' EventSource, which can send the token in the URL alone.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        scope: Scope,
        *,
        methods: Sequence[str] = ("GET",),
        for_users: bool = False,
        streams: bool = False,
        max_bytes: int = MAX_BYTES,
        takes_files: bool = False,
        admitted: bool = False,
    ) -> None:
        """`max_bytes`: the longest body that it takes.

        `takes_files`: a form with a file may be as long as settings say; `admitted`: a request is
        taken only when the server has time for it.
        """
        self.scope: Scope = scope
        self.for_users = for_users
        self.streams = streams
        guard = Middleware(
            Guard,
            scope=scope,
            for_users=for_users,
            streams=streams,
            max_bytes=max_bytes,
            takes_files=takes_files,
        )
        first = [Middleware(Admitted)] if admitted else []
        super().__init__(path, endpoint, methods=methods, middleware=[*first, guard])

"""A route as the application's list shows it: what it is, and who may take it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.keys import Scope
from serving.admission import Admitted
from serving.guard import MAX_BYTES, Guard
from serving.paths import model_id_of
from serving.services import Services

Endpoint = Callable[[Request], Awaitable[Response]]
OF_MODEL = "/v1/models/{model_id}"
"""What paths begin with of what belongs to one model."""


class Guarded(Route):
    """A route for callers whose key has its scope.

    `for_users` says that a user's token opens it too: for that user where the path names one, and
    where the body does, its endpoint calls `serving.callers.act_for`. `streams` says that it is
    read by browsers' EventSource, which can send the token in the URL alone.
    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        scope: Scope | None,
        *,
        methods: Sequence[str] = ("GET",),
        for_users: bool = False,
        streams: bool = False,
        max_bytes: int = MAX_BYTES,
        takes_files: bool = False,
        admitted: bool = False,
    ) -> None:
        """`scope` None: any key will do. `max_bytes`: the longest body that it takes.

        `takes_files`: a form with a file may be as long as settings say; `admitted`: a request is
        taken only when the server has time for it.
        """
        self.scope: Scope | None = scope
        self.for_users = for_users
        self.streams = streams
        self.admitted = admitted
        guard = Middleware(
            Guard,
            path=path,
            scope=scope,
            for_users=for_users,
            streams=streams,
            max_bytes=max_bytes,
            takes_files=takes_files,
        )
        # Within the guard, which counts what is read of a body before there is room for it.
        last = [Middleware(Admitted)] if admitted else []
        super().__init__(path, endpoint, methods=methods, middleware=[guard, *last])


def of_models(path: str, endpoint: Endpoint, scope: Scope, **options: Any) -> Sequence[Guarded]:
    """Return two routes of what belongs to a model: of the settings' own, and of the one named.

    They are `/v1<path>` and `/v1/models/{model_id}<path>`; `serving.services.services` gives the
    endpoint what is that model's. `options` are those of `Guarded`.
    """
    return (
        Guarded(f"/v1{path}", endpoint, scope, **options),
        Guarded(f"{OF_MODEL}{path}", _of_model(endpoint), scope, **options),
    )


def _of_model(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint, for a path with a model's id; 404 when there is no such model."""

    @wraps(endpoint)
    async def of_model(request: Request) -> Response:
        services: Services = request.app.state.services
        services.of_model(model_id_of(request))
        return await endpoint(request)

    of_model.__name__ = f"{endpoint.__name__}_of_model"
    return of_model

"""Errors as problem documents (RFC 9457): what is wrong, with which value, and the cure."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import redis.exceptions
from aiokafka.errors import KafkaError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from headrace.errors import (
    ArtifactInvalid,
    ChangeRefused,
    HeadraceError,
    InvalidEvent,
    ModelDeleted,
    StoreUnavailable,
    TaskEnded,
    TaskNotFound,
    TooManyHidden,
    TooSoon,
    VersionNotFound,
)
from headrace.replaying.queue import ReplayNotFound, ReplayRefused
from headrace.task_store import TrainingInProgress

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 2
MEDIA_TYPE = "application/problem+json"
_CLIENT_GONE = 499


_CONFLICTS = (
    ArtifactInvalid,
    ChangeRefused,
    ModelDeleted,
    ReplayRefused,
    TaskEnded,
    TooManyHidden,
)


class Problem(Exception):
    """An answer other than what was asked for."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[dict[str, Any]] = (),
        *,
        retry_after_s: int | None = None,
        more: Mapping[str, object] | None = None,
        bad_token: bool = False,
        needs: str | None = None,
    ) -> None:
        """`more`: members of the document beyond those that every problem has.

        `bad_token`: a key was sent, and is not taken; `needs`: the scope that it lacks.
        """
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.more = dict(more or {})
        self.headers: dict[str, str] = {}
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)
        if status == HTTPStatus.UNAUTHORIZED:
            self.headers["WWW-Authenticate"] = _challenge("invalid_token" if bad_token else None)
        if status == HTTPStatus.REQUEST_TIMEOUT:
            # What may come yet of the body is not read.
            self.headers["Connection"] = "close"
        if needs is not None:
            self.headers["WWW-Authenticate"] = _challenge("insufficient_scope", needs)


def respond(problem: Problem) -> Response:
    """Return the problem document."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = problem.errors
    body |= problem.more
    return Response(
        msgspec.json.encode(body), problem.status, media_type=MEDIA_TYPE, headers=problem.headers
    )


def wrong_field(
    field: str, reason: str, value: str | None, *, index: int | None = None
) -> dict[str, Any]:
    """Return what a problem document says of one field; `reason` has the limit in it.

    `index`: which one of several it is; `value`: as `serving.values` shows it.
    """
    told: dict[str, Any] = {} if index is None else {"index": index}
    told |= {"field": field, "reason": reason}
    return told if value is None else {**told, "value": value}


def _challenge(error: str | None, scope: str | None = None) -> str:
    """Return what a client is told of the key that it needs (RFC 6750, section 3)."""
    told = [f'error="{error}"'] if error else []
    told += [f'scope="{scope}"'] if scope else []
    return " ".join(("Bearer", ", ".join(('realm="headrace"', *told))))


def from_error(error: Exception) -> Problem:
    """Return the problem that stands for an error of ours or of a part we depend on."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, InvalidEvent):
        return Problem(422, str(error), [wrong_field(error.field, error.reason, None)])
    if isinstance(error, (ReplayNotFound, TaskNotFound, VersionNotFound)):
        return Problem(404, str(error))
    if isinstance(error, TrainingInProgress):
        return Problem(409, str(error), more={"task": error.task})
    if isinstance(error, TooSoon):
        return Problem(429, str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, _CONFLICTS):
        return Problem(409, str(error))
    if isinstance(error, StoreUnavailable):
        return Problem(503, str(error), retry_after_s=RETRY_AFTER_S)
    if isinstance(error, KafkaError):
        return Problem(503, "Kafka cannot be reached; send it again.", retry_after_s=RETRY_AFTER_S)
    if isinstance(error, (redis.exceptions.RedisError, OSError)):
        return Problem(
            503,
            "Redis, the session store, cannot be reached; try again.",
            retry_after_s=RETRY_AFTER_S,
        )
    if isinstance(error, HeadraceError):
        return Problem(500, str(error))
    return Problem(500, "Something went wrong here; the server's log says what.")


FORESEEN = (Problem, HeadraceError, KafkaError, redis.exceptions.RedisError, OSError)
"""What `from_error` has words for; anything else is a fault of ours."""


async def handle_error(_: Request, error: Exception) -> Response:
    """Answer an error that left a route."""
    problem = from_error(error)
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("%s (%r)", problem.detail, error)
    elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", problem.detail, exc_info=error)
    return respond(problem)


async def handle_gone(_: Request, __: Exception) -> Response:
    """End a request whose client has gone before all of it had come: nobody reads the answer.

    The log and the metrics have the status that nginx gives such requests.
    """
    return Response(status_code=_CLIENT_GONE)


async def handle_http(request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: an unknown path, a method that a path has not."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _not_allowed(request)
    response = respond(Problem(error.status_code, error.detail))
    response.headers.update(error.headers or {})
    return response


def _not_allowed(request: Request) -> Response:
    """Answer with the methods of all routes of this path; Starlette tells those of the first."""
    routes = [
        route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE
    ]
    allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    response = respond(Problem(405, f"{request.method} is not for this path; it has {allowed}."))
    response.headers["Allow"] = allowed
    return response

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

from headrace.errors import (
    ArtifactInvalid,
    HeadraceError,
    InvalidEvent,
    TaskNotFound,
    TooManyHidden,
    VersionNotFound,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 2
MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer other than what was asked for."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[dict[str, Any]] = (),
        retry: bool = False,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`more`: members of the document beyond those that every problem has."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.retry = retry
        self.more = dict(more or {})


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
    headers = {"Retry-After": str(RETRY_AFTER_S)} if problem.retry else {}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(body), problem.status, media_type=MEDIA_TYPE, headers=headers
    )


def from_error(error: Exception) -> Problem:
    """Return the problem that stands for an error of ours or of a part we depend on."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, InvalidEvent):
        return Problem(422, str(error), [{"field": error.field, "reason": error.reason}])
    if isinstance(error, (TaskNotFound, VersionNotFound)):
        return Problem(404, str(error))
    if isinstance(error, (ArtifactInvalid, TooManyHidden)):
        return Problem(409, str(error))
    if isinstance(error, KafkaError):
        return Problem(503, "Kafka cannot be reached; send it again.", retry=True)
    if isinstance(error, (redis.exceptions.RedisError, OSError)):
        return Problem(503, "The session store cannot be reached; try again.", retry=True)
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


async def handle_http(_: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: an unknown path, a method that a path has not."""
    if not isinstance(error, HTTPException):
        raise error
    response = respond(Problem(error.status_code, error.detail))
    response.headers.update(error.headers or {})
    return response

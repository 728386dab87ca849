"""What can go wrong, as exceptions: no answer, or one that says no (RFC 9457)."""

from __future__ import annotations

import httpx
import msgspec

from headrace_client.types import Problem, RecommendationAnswer

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class HeadraceError(Exception):
    """A call has not done what was asked; the message says why."""


class Unreachable(HeadraceError):
    """The server has not answered. Unless `not_sent`, it may have done what was asked."""

    def __init__(self, message: str, *, not_sent: bool) -> None:
        super().__init__(message)
        self.not_sent = not_sent


class Unreadable(HeadraceError):
    """What has answered is no server of Headrace's, or one of another version."""


class Ended(HeadraceError):
    """The server has ended a stream whose caller may not go on; the message says why."""


class Refused(HeadraceError):
    """The server has answered, and not with what was asked."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        """`retry_after_s`: seconds until it may be asked again, if the server says so."""
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """The status of HTTP."""
        return self.problem.status


class Unauthorized(Refused):
    """401: there is no key, or it is not known, was revoked, or has expired."""


class Forbidden(Refused):
    """403: the key has not the scope, or the token is for another user."""


class NotFound(Refused):
    """404."""


class Conflict(Refused):
    """409."""


class Stale(Conflict):
    """409: the session has not seen the events of `after` in time."""

    @property
    def missing(self) -> list[str]:
        """The tokens of the events not seen."""
        return self.problem.missing

    @property
    def answer(self) -> RecommendationAnswer | None:
        """What there is without them."""
        return self.problem.answer


class TooLarge(Refused):
    """413: the body is too long."""


class Invalid(Refused):
    """422: `problem.errors` names each field, the reason and the value."""


class TooManyRequests(Refused):
    """429: the key may not make so many requests; none of it was done."""


class Unavailable(Refused):
    """502, 503 or 504: something is away for now."""


class ServerFault(Refused):
    """Another 5xx: a fault of the server's."""


_BY_STATUS: dict[int, type[Refused]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def from_transport(error: httpx.TransportError, url: httpx.URL) -> Unreachable:
    """Return what stands for a failed transport."""
    said = str(error) or type(error).__name__
    return Unreachable(
        f"The server at {url} does not answer: {said}.", not_sent=isinstance(error, _NOT_SENT)
    )


class _End(msgspec.Struct):
    reason: str


def from_end(data: bytes) -> Ended:
    """Return what stands for the last event of a stream, which has these data."""
    return Ended(msgspec.json.decode(data, type=_End).reason)


def from_response(response: httpx.Response) -> Refused:
    """Return what stands for an answer that is none; its body has been read."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A proxy in between speaks for itself.
        status, title = response.status_code, response.reason_phrase
        problem = Problem(type="about:blank", title=title, status=status, detail="")
    retry_after = response.headers.get("retry-after", "")
    return _kind(response.status_code, problem)(
        problem, float(retry_after) if retry_after.isdigit() else None
    )


def _kind(status: int, problem: Problem) -> type[Refused]:
    if problem.code == "stale":
        return Stale
    fallback = ServerFault if status >= httpx.codes.INTERNAL_SERVER_ERROR else Refused
    return _BY_STATUS.get(status, fallback)

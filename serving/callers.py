"""Who makes a request, and for whom it may act."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from starlette.requests import Request

from headrace.keys import SCOPES, Scope
from serving.problems import Problem


class Caller(Struct, frozen=True):
    """Who makes a request, and what for."""

    key_id: str
    scopes: Sequence[Scope]
    rate_per_s: float = 0.0
    """Requests a second; 0: any."""
    burst: int = 1
    user_id: str | None = None
    """The one user that it may act for; None: any."""
    expires_at: float | None = None
    """Unix seconds at which the user's token is no longer taken."""

    def check_user(self, user_id: str | None) -> None:
        """Raise `Problem` 403 unless it may act for this user."""
        if self.user_id is not None and user_id != self.user_id:
            raise Problem(403, "This token is for another user, or for one user alone.")


ANYONE = Caller("none", SCOPES)
"""Whoever calls a server without keys, which other machines cannot reach."""


def caller_of(request: Request) -> Caller:
    """Return who makes this request; a `Guarded` route has found out."""
    found: Caller = request.state.caller
    return found


def act_for(request: Request, *user_ids: str | None) -> None:
    """Say for which users a request's body is; None: for a session that it brings along.

    Raises `Problem` 403 when the caller may not act for one of them.
    """
    caller = caller_of(request)
    for user_id in user_ids:
        caller.check_user(user_id)
    if len(user_ids) == 1:
        request.state.user_id = user_ids[0]

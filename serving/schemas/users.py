"""What is held of a user, merging two of them, and tokens."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from headrace.events import UserId
from headrace.sessions import Interaction
from headrace.tokens import TokenText
from serving.user_tokens import MAX_LIFE_S, UserScope


class UserInteractions(Struct, frozen=True):
    """Answer of `GET /v1/users/{id}/interactions`: the session dictionary as it is held."""

    user_id: str
    interactions: dict[str, Interaction]
    applied: int
    marks: dict[str, int]


class KnownUser(Struct, frozen=True):
    """A user whose session is held."""

    user_id: str
    interactions: int
    """How many the session dictionary holds."""


class UserList(Struct, frozen=True):
    """Answer of `GET /v1/users`: some users, those with the most interactions first."""

    users: list[KnownUser]


class MergeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/users/{id}/merge`."""

    anonymous_id: UserId = msgspec.field(name="from")
    """The anonymous user, of whom nothing is left afterwards."""
    from_token: (
        Annotated[
            str,
            Meta(
                max_length=4_096,
                description="The anonymous user's token, with the scope `events`: who calls with "
                "a user's token must bring it.",
            ),
        ]
        | None
    ) = None
    timeout_ms: Annotated[int, Meta(ge=0, le=10_000)] = 5_000
    """Longest wait for workers to apply what was acknowledged before, in milliseconds."""


class MergeAnswer(Struct, frozen=True):
    """Answer of `POST /v1/users/{id}/merge`."""

    user_id: str
    anonymous_id: str = msgspec.field(name="from")
    interactions: int
    """How many the known user took over."""
    hidden: int
    """Items hidden from the known user by the merge."""
    tokens: list[TokenText]
    """For `after` of a request that must know of them."""
    message: str | None = None
    """Says in words that there was nothing to merge."""


class HiddenItems(Struct, frozen=True):
    """Answer of `GET /v1/users/{id}/hidden`, the oldest first."""

    user_id: str
    items: dict[str, float]
    """By item id, when it was hidden, in Unix seconds."""


class TokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/users/{id}/token`."""

    scopes: Annotated[tuple[UserScope, ...], Meta(min_length=1, max_length=2)] = ("recommend",)
    expires_s: Annotated[int, Meta(ge=1, le=MAX_LIFE_S)] = 900
    """Seconds until it is no longer taken."""


class TokenAnswer(Struct, frozen=True):
    """Answer of `POST /v1/users/{id}/token`."""

    token: str
    user_id: str
    scopes: tuple[UserScope, ...]
    expires_at: float
    """Unix seconds."""

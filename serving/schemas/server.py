"""What a server says of itself and of who asks."""

from __future__ import annotations

from msgspec import Struct

from headrace.keys import Scope
from serving.taking_up import Refusal


class Ready(Struct, frozen=True):
    """Answer of `GET /readyz`."""

    ready: bool
    """Whether requests may come."""
    redis: bool
    kafka: bool
    model_id: str
    """The model that is meant where a path names none."""
    model: str | None
    """The version of it that this server has live."""
    loading: bool = False
    """Whether it has just started, and has yet to take up the version that is live."""
    refused: Refusal | None = None
    """The version that should be, and why it is not; the one in `model` goes on serving."""
    refusals: dict[str, Refusal] = {}
    """The same of every model, by its id: of what is similar, and of the second stage, too."""
    arms: dict[str, str] = {}
    """By version of the A/B test: `ready`, or why its users get the live version."""


class KeyInfo(Struct, frozen=True):
    """Answer of `GET /v1/key`."""

    id: str | None
    """None where no key is needed, and of the key in the server's settings."""
    name: str
    scopes: list[Scope]
    expires_at: float | None
    """Unix seconds; None: never."""

"""Dead letters, and sending them again."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from headrace.tokens import TokenText

LetterId = Annotated[str, Meta(pattern="^[0-9]{1,9}-[0-9]{1,18}(?!\\n)$")]


LetterCursor = Annotated[
    str,
    Meta(
        pattern="^-?[0-9]{1,16}-[0-9]{1,9}-[0-9]{1,18}(?!\\n)$",
        description="The `cursor` of the page before.",
    ),
]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that is wrong in itself, as received; in base64 what is no UTF-8."""

    id: str
    buried_at: float
    """Unix seconds."""
    topic: str | None
    """Where it came from, without the prefix; None: nothing says so."""
    partition: int
    offset: int
    field: str
    """The field at fault, or empty when the whole record is."""
    reason: str
    resent: bool
    """Whether it was sent again."""
    key: str | None
    key_base64: str | None
    value: str | None
    value_base64: str | None


class DeadLetterList(Struct, frozen=True):
    """Answer of `GET /v1/dead-letters`, newest first."""

    count: int
    """Of all that match."""
    dead_letters: list[DeadLetter]
    cursor: str | None
    """Asks for the next page, of older ones; null when there are none."""


class ResendRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/dead-letters/{letter_id}/resend`; without a field as it was received."""

    value: str | None = None
    """In place of the whole value."""
    value_base64: str | None = None
    """The same, in base64."""
    set: Annotated[dict[str, str], Meta(max_length=100)] = {}
    """By field of the event or item (`rating`, `context.device`), what it shall be."""
    drop: Annotated[list[str], Meta(max_length=100)] = []
    """Members of the value that shall go."""
    again: bool = False
    """Whether one that was sent again already may be sent once more."""
    dry_run: bool = False
    """Whether it is only to be told what would be sent, or why no worker would take it."""


class ResentLetter(Struct, frozen=True, kw_only=True):
    """What was sent for a dead letter, or would be."""

    id: str
    topic: str | None
    """Without the prefix; None: it is refused."""
    key: str | None
    value: str | None
    """None: it deletes an item, or is refused."""
    sent: bool
    token: TokenText | None
    """Of an event that was sent."""
    refused: str | None
    """Why no worker would take it: what a dry run has found out. None: one would."""

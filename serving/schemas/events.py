"""What became of events that were sent."""

from __future__ import annotations

from typing import Union

from msgspec import Struct

from headrace.tokens import TokenText


class AcceptedEvent(Struct, frozen=True, tag_field="status", tag="accepted"):
    """An event that Kafka has acknowledged, and where it stands in the log."""

    event_id: str
    topic: str
    partition: int
    offset: int
    token: TokenText
    """For `after` of a request that must know of it."""


class RefusedEvent(Struct, frozen=True, tag_field="status", tag="invalid"):
    """An event that is wrong in itself, and was not sent."""

    event_id: str | None
    """None where it cannot be read."""
    field: str
    """Which one is wrong; empty when the whole event is."""
    reason: str


class UnknownEvent(Struct, frozen=True, tag_field="status", tag="unknown"):
    """An event that Kafka has not acknowledged: it may have arrived, or may do so yet."""

    event_id: str
    reason: str


EventOutcome = Union[AcceptedEvent, RefusedEvent, UnknownEvent]


class EventsAnswer(Struct, frozen=True):
    """Answer of `POST /v1/events`."""

    accepted: int
    invalid: int
    unknown: int
    """Send these again, under the same `event_id`s."""
    events: list[EventOutcome]
    """What became of each, in the order of the request."""

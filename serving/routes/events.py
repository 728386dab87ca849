"""Events in: checked like those from Kafka, sent to Kafka, answered once Kafka has them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidEvent
from headrace.events import AnyEvent, parse_event
from headrace.producer import Outgoing, Position
from headrace.tokens import Token
from headrace.topics import Topics
from serving.bodies import json_response, read_bulk, refuse_invalid
from serving.callers import act_for
from serving.problems import RETRY_AFTER_S, Problem
from serving.schemas.events import (
    AcceptedEvent,
    EventOutcome,
    EventsAnswer,
    RefusedEvent,
    UnknownEvent,
)
from serving.services import Services, services

_NONE_ACKNOWLEDGED = "Kafka cannot be reached; send it all again, under the same event_id."
_NOT_ACKNOWLEDGED = "Kafka has not acknowledged it; send it again under the same event_id."


async def post_events(request: Request) -> Response:
    """Take one event, an array, or NDJSON; answer what became of each.

    202 when Kafka has acknowledged at least one of them. 422 when each is invalid, 503 when there
    are others and Kafka has acknowledged none.
    """
    server = services(request)
    rows = await read_bulk(request)
    parsed = [_parse(row, now=server.clock()) for row in rows]
    wrong = [(at, each) for at, each in enumerate(parsed) if isinstance(each, InvalidEvent)]
    if len(wrong) == len(rows):
        refuse_invalid(wrong, rows, "events")
    events = [each for each in parsed if not isinstance(each, InvalidEvent)]
    act_for(request, *{event.user_id for event in events})
    sent = iter(await _send(server, events))
    outcomes = [
        _refused(row, each) if isinstance(each, InvalidEvent) else next(sent)
        for row, each in zip(rows, parsed, strict=True)
    ]
    accepted = sum(isinstance(each, AcceptedEvent) for each in outcomes)
    unknown = len(rows) - accepted - len(wrong)
    return json_response(EventsAnswer(accepted, len(wrong), unknown, outcomes), 202)


async def _send(server: Services, events: Sequence[AnyEvent]) -> list[EventOutcome]:
    """Send events. Raises `Problem` 503 when Kafka acknowledges none of them."""
    outcomes = await server.producer.send_each([_record(event, server.topics) for event in events])
    if not any(isinstance(outcome, Position) for outcome in outcomes):
        cause = next(outcome for outcome in outcomes if not isinstance(outcome, Position))
        raise Problem(503, _NONE_ACKNOWLEDGED, retry_after_s=RETRY_AFTER_S) from cause
    return [
        _accepted(event, outcome, server.topics)
        if isinstance(outcome, Position)
        else UnknownEvent(event.event_id, _NOT_ACKNOWLEDGED)
        for event, outcome in zip(events, outcomes, strict=True)
    ]


def _parse(row: bytes, *, now: float) -> AnyEvent | InvalidEvent:
    try:
        return parse_event(row, None, received_at=now)
    except InvalidEvent as error:
        return error


def _record(event: AnyEvent, topics: Topics) -> Outgoing:
    topic = topics.name(topics.of_kind(event.kind))
    return Outgoing(topic, event.user_id.encode(), msgspec.json.encode(event))


def _accepted(event: AnyEvent, at: Position, topics: Topics) -> AcceptedEvent:
    token = Token(topics.plain(at.topic), at.partition, at.offset)
    return AcceptedEvent(event.event_id, token.topic, token.partition, token.offset, str(token))


def _refused(row: bytes, error: InvalidEvent) -> RefusedEvent:
    return RefusedEvent(_event_id(row), error.field, error.reason)


class _Named(msgspec.Struct):
    event_id: str


def _event_id(row: bytes) -> str | None:
    """Return the id of what is no event, so that its sender can tell which one it was."""
    try:
        return msgspec.json.decode(row, type=_Named).event_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

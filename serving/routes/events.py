"""Events in: checked like those from Kafka, sent to Kafka, answered once Kafka has them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidEvent
from headrace.events import AnyEvent, parse_event
from headrace.producer import Outgoing
from headrace.topics import EVENT_TOPICS, Topics
from serving.bodies import json_response, read_bulk, refuse_invalid
from serving.callers import act_for
from serving.schemas import AcceptedEvent, EventsAnswer
from serving.services import services

_TOPIC_OF = {kind: topic for topic, kind in EVENT_TOPICS.items()}


async def post_events(request: Request) -> Response:
    """Take one event, an array, or NDJSON; answer 202 when Kafka has acknowledged them all."""
    server = services(request)
    events = _parse(await read_bulk(request), now=server.clock())
    act_for(request, *{event.user_id for event in events})
    records = [_record(event, server.topics) for event in events]
    positions = await server.producer.send(records)
    accepted = [
        AcceptedEvent(
            event.event_id,
            "accepted",
            server.topics.plain(position.topic),
            position.partition,
            position.offset,
        )
        for event, position in zip(events, positions, strict=True)
    ]
    return json_response(EventsAnswer(len(accepted), accepted), 202)


def _parse(rows: Sequence[bytes], *, now: float) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    wrong: list[tuple[int, InvalidEvent]] = []
    for index, row in enumerate(rows):
        try:
            events.append(parse_event(row, None, received_at=now))
        except InvalidEvent as error:
            wrong.append((index, error))
    refuse_invalid(wrong, rows, "events")
    return events


def _record(event: AnyEvent, topics: Topics) -> Outgoing:
    topic = topics.name(_TOPIC_OF[event.kind])
    return Outgoing(topic, event.user_id.encode(), msgspec.json.encode(event))

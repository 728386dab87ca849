"""Events on their way: cut into calls that the server takes, each with its outcome in the end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Union

import msgspec

from headrace_client.errors import HeadraceError, Invalid
from headrace_client.types import (
    AcceptedEvent,
    Click,
    EventsAnswer,
    Purchase,
    Rating,
    RefusedEvent,
    UnknownEvent,
)

Event = Union[Click, Purchase, Rating]
EventOutcome = Union[AcceptedEvent, RefusedEvent, UnknownEvent]

MOST_EVENTS = 5_000
"""In one call."""
MOST_BYTES = 8 << 20
"""Of one call's body."""
NDJSON = "application/x-ndjson"


class Chunk:
    """Events of one call, and what has become of each."""

    def __init__(self, events: Sequence[tuple[Event, bytes]]) -> None:
        """`events`: each with its JSON."""
        self._events = events
        self._outcomes: list[EventOutcome | None] = [None] * len(events)

    @property
    def body(self) -> bytes:
        """The events to be sent, as NDJSON: those that are not known to have arrived."""
        return b"\n".join(self._events[index][1] for index in self._open())

    @property
    def settled(self) -> bool:
        """Whether each event was accepted or refused."""
        return not any(self._open())

    @property
    def outcomes(self) -> list[EventOutcome]:
        """What has become of each, in their order."""
        return [
            outcome or UnknownEvent(event_id=event.event_id, reason="It was not sent.")
            for (event, _), outcome in zip(self._events, self._outcomes, strict=True)
        ]

    def take(self, answer: EventsAnswer) -> None:
        """Note what the server says of the events of `body`."""
        for index, outcome in zip(list(self._open()), answer.events, strict=True):
            self._outcomes[index] = outcome

    def refuse(self, error: Invalid) -> None:
        """Note that each event of `body` is invalid. Raises it when it is not about events."""
        open_events = list(self._open())
        if not error.problem.errors:
            raise error
        for told in error.problem.errors:
            if told.index is None:
                raise error
            index = open_events[told.index]
            event_id = self._events[index][0].event_id
            self._outcomes[index] = RefusedEvent(
                event_id=event_id, field=told.field, reason=told.reason
            )

    def give_up(self, error: HeadraceError) -> None:
        """Note that it is unknown what has become of the rest."""
        for index in list(self._open()):
            event_id = self._events[index][0].event_id
            self._outcomes[index] = UnknownEvent(event_id=event_id, reason=str(error))

    def _open(self) -> Iterator[int]:
        for index, outcome in enumerate(self._outcomes):
            if outcome is None or isinstance(outcome, UnknownEvent):
                yield index


def chunks(events: Iterable[Event]) -> Iterator[Chunk]:
    """Cut events into calls, in their order."""
    chunk: list[tuple[Event, bytes]] = []
    size = 0
    for event in events:
        line = msgspec.json.encode(event)
        if chunk and (len(chunk) == MOST_EVENTS or size + len(line) >= MOST_BYTES):
            yield Chunk(chunk)
            chunk, size = [], 0
        chunk.append((event, line))
        size += len(line) + 1
    if chunk:
        yield Chunk(chunk)


def answer_of(outcomes: Sequence[EventOutcome]) -> EventsAnswer:
    """Return the answer that tells these outcomes."""
    return EventsAnswer(
        accepted=sum(isinstance(outcome, AcceptedEvent) for outcome in outcomes),
        invalid=sum(isinstance(outcome, RefusedEvent) for outcome in outcomes),
        unknown=sum(isinstance(outcome, UnknownEvent) for outcome in outcomes),
        events=list(outcomes),
    )


def tokens(answer: EventsAnswer) -> list[str]:
    """Return the tokens of the events accepted, for `after` of a request that must know them."""
    return [outcome.token for outcome in answer.events if isinstance(outcome, AcceptedEvent)]


def click(user_id: str, item_id: str, *, recommendation_id: str | None = None) -> Click:
    """Return a click that happens now, under an id of its own."""
    return Click(
        event_id=uuid.uuid4().hex,
        user_id=user_id,
        item_id=item_id,
        timestamp=time.time(),
        recommendation_id=recommendation_id,
    )

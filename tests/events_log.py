"""Events as a log has them, and what they must come to, computed plainly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.events import Click, Purchase, Rating
from headrace.sessions import Interaction, LoggedEvent

TOPIC_OF = {"click": "clicks", "purchase": "purchases", "rating": "ratings"}
NOW = 1_704_060_026.0


def logged(
    offset: int,
    user_id: str = "u",
    item_id: str = "i",
    timestamp: float = NOW,
    *,
    kind: str = "rating",
    rating: float | None = 4.0,
    partition: int = 0,
    topic_id: str = "first",
) -> LoggedEvent:
    """An event at this offset of its kind's topic."""
    fields: dict[str, Any] = {
        "event_id": f"{kind}-{topic_id}-{partition}-{offset}",
        "user_id": user_id,
        "item_id": item_id,
        "timestamp": timestamp,
    }
    event = (
        Click(**fields)
        if kind == "click"
        else Rating(**fields, rating=4.0 if rating is None else rating)
        if kind == "rating"
        else Purchase(**fields, rating=rating)
    )
    return LoggedEvent(event, TOPIC_OF[kind], topic_id, partition, offset)


def order(event: LoggedEvent) -> tuple[float, str, int, int]:
    """What settles which of two events is the newer one."""
    return event.event.timestamp, event.topic, event.partition, event.offset


def fold(log: Iterable[LoggedEvent], user_id: str, limit: int) -> dict[str, Interaction]:
    """The session dictionary that a log comes to: of each item the newest event, the newest items.

    The log holds each event once; its order does not matter.
    """
    newest: dict[str, LoggedEvent] = {}
    for event in log:
        item_id = event.event.item_id
        if event.event.user_id == user_id and (
            item_id not in newest or order(event) > order(newest[item_id])
        ):
            newest[item_id] = event
    kept = sorted(newest.values(), key=order)[-limit:]
    return {event.event.item_id: interaction(event) for event in kept}


def interaction(event: LoggedEvent) -> Interaction:
    """What a session dictionary holds of an event."""
    of = event.event
    return Interaction(of.timestamp, getattr(of, "rating", None), of.kind)  # type: ignore[arg-type]


def last_offsets(log: Iterable[LoggedEvent], user_id: str) -> dict[str, int]:
    """The marks that a log comes to."""
    marks: dict[str, int] = {}
    for event in log:
        if event.event.user_id == user_id:
            marks[event.mark] = max(event.offset, marks.get(event.mark, -1))
    return marks

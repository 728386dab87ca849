"""Events as a log has them, and what they must come to, computed plainly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis

from headrace.events import Click, Purchase, Rating
from headrace.sessions import Interaction, LoggedEvent
from headrace.settings import Settings
from headrace.topics import Place

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


Streams = dict[Place, list[tuple[bytes, dict[bytes, bytes]]]]
"""By place, the entries of its stream as Redis gives them."""


def fold_transitions(log: Iterable[LoggedEvent]) -> Streams:
    """The streams that a log comes to, in which each event stands once; their order matters."""
    streams: Streams = {}
    met: dict[tuple[int, str], list[str]] = {}
    for each in log:
        before = met.setdefault((each.partition, each.event.user_id), [])
        fields = {
            b"item": each.event.item_id.encode(),
            b"previous": "\n".join(before[:10]).encode(),
        }
        entries = streams.setdefault(Place(each.topic, each.topic_id, each.partition), [])
        entries.append((f"{each.offset}-1".encode(), fields))
        before.insert(0, each.event.item_id)
    return streams


async def stored_transitions(redis: Redis, settings: Settings) -> Streams:
    """The streams that Redis holds."""
    streams: Streams = {}
    async for key in redis.scan_iter(settings.key("transitions", "{*}:of:*")):
        partition, _, topic, topic_id = key.decode().rsplit(":", 4)[1:]
        place = Place(topic, topic_id, int(partition.strip("{}")))
        streams[place] = await redis.xrange(key)
    return streams

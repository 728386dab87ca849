"""Merging an anonymous user into a known one, who was the same person all along.

What the anonymous user's session holds is written to the topics of events once more, as the known
user's, with the times that it had; then the anonymous user is erased. So the log itself tells what
became of whom: who reads it needs to know of events and erasures alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from headrace.erasures import Erasure
from headrace.events import AnyEvent, Click, Purchase, Rating
from headrace.producer import Outgoing, Producer
from headrace.sessions import Held, Interaction, Mark, SessionStore
from headrace.tokens import Token, newest
from headrace.topics import Topics
from serving.eraser import Eraser
from serving.freshness import Freshness
from serving.problems import Problem

_TYPES: dict[str, type[AnyEvent]] = {"click": Click, "purchase": Purchase, "rating": Rating}


class Merged(Struct, frozen=True):
    """What a merge took over."""

    interactions: int = 0
    hidden: int = 0
    """Items that the known user had not hidden."""
    tokens: tuple[Token, ...] = ()
    """What has seen these has seen all of it."""
    erasure: Erasure | None = None
    """Written to Kafka, and yet to be carried out; None where there was nothing to merge."""


@dataclass(frozen=True)
class MergedTopics:
    """A model's topics, and what they come to."""

    topics: Topics
    sessions: SessionStore
    freshness: Freshness

    def ends(self, now: Erasure) -> list[Token]:
        """Return the tokens of the last events that these topics held."""
        return [
            Token(topic, int(partition), end - 1)
            for topic, by_partition in now.through.items()
            if topic in self.topics.kinds
            for partition, end in by_partition.items()
            if end > 0
        ]


class Merger:
    """Merges users, in all models' topics. Any step may be repeated, and so may the whole."""

    def __init__(
        self,
        producer: Producer,
        parts: Sequence[MergedTopics],
        eraser: Eraser,
        clock: Callable[[], float],
    ) -> None:
        """`parts`: all topics of events; `clock` gives Unix seconds."""
        self._producer = producer
        self._parts = parts
        self._eraser = eraser
        self._clock = clock

    async def announce(self, user_id: str, anonymous_id: str, within_s: float) -> Merged:
        """Write to Kafka what the known user takes over, and that the other one is erased.

        1. The topics' ends are asked for, and it is waited until the session has seen them: what
           was acknowledged before the merge is in it.
        2. The session is read, as of one moment.
        3. It is written as the known user's, and acknowledged; what is hidden is hidden, as of now.
        4. The erasure is written. It covers what was read in step 2, and no more: what came since
           is the anonymous user's still, and can be merged again.

        Broken off anywhere it is to be called again. Raises `Problem` 409 when workers are
        behind, `TooManyHidden`, `aiokafka.errors.KafkaError`, `redis.exceptions.RedisError`,
        `OSError`.
        """
        now = await self._eraser.up_to_now(anonymous_id)
        await self._wait(now, within_s)
        held = [await part.sessions.held(anonymous_id) for part in self._parts]
        if not any(each.session.item_ids or each.session.hidden for each in held):
            return Merged()
        interactions, hidden, tokens = 0, 0, list[Token]()
        for part, of_part in zip(self._parts, held, strict=True):
            taken = of_part.session.interactions()
            interactions += len(taken)
            # As of now: an erasure of the known user may be carried out again, and would undo what
            # was hidden before it.
            hidden += await part.sessions.hide_all(
                user_id, of_part.session.hidden, now=self._clock()
            )
            tokens += await self._repeat(part.topics, user_id, anonymous_id, taken)
        erasure = _of_what_is_held(now, held)
        await self._eraser.write(erasure)
        return Merged(interactions, hidden, tuple(tokens), erasure)

    async def _wait(self, now: Erasure, within_s: float) -> None:
        """Wait until workers have applied all that the topics held."""
        # Of the topics as they are: workers may not have noticed yet that one was made anew.
        waits = [
            part.freshness.unseen(now.user_id, part.ends(now), within_s, now.topic_ids)
            for part in self._parts
        ]
        missing = [token for unseen in await asyncio.gather(*waits) for token in unseen]
        if missing:
            raise Problem(
                409,
                f"Workers have not come to {missing[0]} within {within_s:g} s, so the session may "
                "lack events that were acknowledged. Nothing was merged; try again.",
                more={"code": "stale", "missing": list(map(str, missing))},
            )

    async def _repeat(
        self,
        topics: Topics,
        user_id: str,
        anonymous_id: str,
        interactions: dict[str, Interaction],
    ) -> list[Token]:
        """Write the interactions as the known user's; return their tokens, one of a partition."""
        records = [
            Outgoing(
                topics.name(topics.of_kind(each.event)),
                user_id.encode(),
                msgspec.json.encode(_as_of(user_id, anonymous_id, item_id, each)),
            )
            for item_id, each in interactions.items()
        ]
        positions = await self._producer.send(records) if records else []
        return newest(Token(topics.plain(at.topic), at.partition, at.offset) for at in positions)


def _as_of(user_id: str, anonymous_id: str, item_id: str, of: Interaction) -> AnyEvent:
    """Return the event that says of the known user what the interaction says of the other one.

    Its id is made of what it says: a merge that is repeated repeats the event, which counts once.
    """
    said = msgspec.json.encode((user_id, anonymous_id, item_id, of))
    fields: dict[str, Any] = {
        "event_id": f"merged-{hashlib.sha256(said).hexdigest()[:32]}",
        "user_id": user_id,
        "item_id": item_id,
        "timestamp": of.timestamp,
        "merged": True,
    }
    if of.rating is not None:
        fields["rating"] = of.rating
    return _TYPES[of.event](**fields)


def _of_what_is_held(now: Erasure, held: Sequence[Held]) -> Erasure:
    """Return the erasure of what is held: workers may have come further than `now` says."""
    marks = {name: mark for each in held for name, mark in each.marks.items()}
    return msgspec.structs.replace(
        now,
        through={
            topic: {
                partition: max(end, _end(marks.get(f"{topic}/{partition}"), topic_id))
                for partition, end in by_partition.items()
            }
            for topic, by_partition in now.through.items()
            for topic_id in (now.topic_ids[topic],)
        },
    )


def _end(mark: Mark | None, topic_id: str) -> int:
    """Return the offset after the last event applied, of the topic as it is now."""
    return mark.offset + 1 if mark is not None and mark.topic_id == topic_id else 0

"""What a log must come to, computed plainly from its records, and what Redis holds instead."""

from __future__ import annotations

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from chaos_events import MALFORMED
from events_log import Streams, fold, last_offsets, stored_transitions
from kafka_tools import read_topic
from redis.asyncio import Redis

from headrace.aggregates import REMEMBERED, STEPS, AggregateKeys
from headrace.events import parse_event
from headrace.sessions import Interaction, LoggedEvent, SessionStore
from headrace.settings import Settings
from headrace.store import read_together, text
from headrace.topics import DEAD_LETTERS, EVENT_TOPICS, Place, Topics, event_topic_ids

_AT_ONCE = 50

At = tuple[str, int, int]
"""A topic without its prefix, a partition and an offset."""


@dataclass
class Log:
    """The topics of events as the broker holds them."""

    events: list[LoggedEvent] = field(default_factory=list)
    """By topic, partition and offset."""
    malformed: dict[At, bytes | None] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)

    def until(self, ends: Mapping[Place, int]) -> Log:
        """Return what stands before these ends."""
        ends_of = {(place.topic, place.partition): end for place, end in ends.items()}
        return Log(
            [
                each
                for each in self.events
                if each.offset < ends_of.get((each.topic, each.partition), 0)
            ],
            {
                (topic, partition, offset): value
                for (topic, partition, offset), value in self.malformed.items()
                if offset < ends_of.get((topic, partition), 0)
            },
            dict(ends),
        )


def read_log(settings: Settings) -> Log:
    """Return what the broker holds, read without anything of the worker's. Blocks."""
    log, ids = Log(), event_topic_ids(settings)
    for topic, kind in EVENT_TOPICS.items():
        for record in read_topic(settings, topic):
            log.ends[Place(topic, ids[topic], record.partition)] = record.offset + 1
            if record.value in MALFORMED:
                log.malformed[topic, record.partition, record.offset] = record.value
                continue
            event = parse_event(record.value, kind, received_at=record.timestamp / 1000)
            log.events.append(
                LoggedEvent(event, topic, ids[topic], record.partition, record.offset)
            )
    return log


@dataclass
class State:
    """What a log comes to, in terms of what is promised; a dictionary is the bytes of its JSON."""

    sessions: dict[str, bytes] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    marks: dict[str, dict[str, int]] = field(default_factory=dict)
    seen: dict[str, set[str]] = field(default_factory=dict)
    trending: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    """By topic and partition, of each item the bits of the logarithm of its decayed count."""
    counted: dict[int, int] = field(default_factory=dict)
    """By partition number, events of an `event_id` of their own."""
    newest: dict[int, float] = field(default_factory=dict)
    transitions: Streams = field(default_factory=dict)
    """Of a log of one topic: which topic's event comes first nobody promises."""
    dead_letters: dict[At, str] = field(default_factory=dict)
    """The reason; of what is wanted, a pattern of it."""

    def differences(self, wanted: State) -> list[str]:
        """Return in words where this differs from what is wanted."""
        return [
            line
            for name in ("sessions", "marks", "seen", "trending", "counted", "newest")
            for line in _differences(name, getattr(self, name), getattr(wanted, name))
        ] + [
            *_differences("transitions", self.transitions, wanted.transitions),
            *_differences("dead letters", self.dead_letters.keys(), wanted.dead_letters.keys()),
            *(
                f"dead letter at {at}: {reason!r} instead of {wanted.dead_letters[at]!r}"
                for at, reason in self.dead_letters.items()
                if at in wanted.dead_letters and not re.search(wanted.dead_letters[at], reason)
            ),
        ]

    def lost(self, wanted: State) -> int:
        """Return how many events were never applied."""
        return sum(max(0, n - self.applied.get(user, 0)) for user, n in wanted.applied.items())

    def twice(self, wanted: State) -> int:
        """Return how many times an event was applied that had been applied before."""
        return sum(max(0, n - wanted.applied.get(user, 0)) for user, n in self.applied.items())


def _differences(name: str, found: Any, wanted: Any) -> list[str]:
    if found == wanted:
        return []
    if isinstance(found, dict):
        keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        first = keys[0]
        return [
            f"{name}: {len(keys)} differ, such as {first}: {found.get(first)!r:.600} instead of "
            f"{wanted.get(first)!r:.600}"
        ]
    missing, surplus = set(wanted) - set(found), set(found) - set(wanted)
    return [f"{name}: {sorted(missing)[:3]} are missing, {sorted(surplus)[:3]} are too many"]


def fold_log(log: Log, settings: Settings) -> State:
    """Return what the log must come to."""
    state = State()
    by_user: dict[str, list[LoggedEvent]] = defaultdict(list)
    for event in log.events:
        by_user[event.event.user_id].append(event)
    for user, events in by_user.items():
        state.sessions[user] = _bytes(fold(events, user, settings.sessions.limit))
        state.applied[user] = len(events)
        state.marks[user] = last_offsets(events, user)
        state.seen[user] = {each.event.item_id for each in events}
    _fold_aggregates(log, settings, state)
    if len({each.topic for each in log.events}) > 1:
        state.transitions = {}
    state.dead_letters = {at: MALFORMED[value] for at, value in log.malformed.items()}
    return state


def _fold_aggregates(log: Log, settings: Settings, state: State) -> None:
    """Count each `event_id` once among its user's newest, in the order of each partition."""
    digests: dict[tuple[int, str], list[str]] = defaultdict(list)
    met: dict[tuple[int, str], list[str]] = defaultdict(list)
    counts: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    newest: dict[int, float] = {}
    weight = {
        "click": settings.trending.click_weight,
        "purchase": settings.trending.purchase_weight,
        "rating": settings.trending.rating_weight,
    }
    for each in log.events:
        event, partition = each.event, each.partition
        remembered = digests[partition, event.user_id]
        if event.event_id in remembered:
            continue
        remembered.insert(0, event.event_id)
        del remembered[REMEMBERED:]

        items = met[partition, event.user_id]
        place = Place(each.topic, each.topic_id, partition)
        entry = {b"item": event.item_id.encode(), b"previous": "\n".join(items).encode()}
        state.transitions.setdefault(place, []).append((f"{each.offset}-1".encode(), entry))
        items.insert(0, event.item_id)
        del items[STEPS:]

        of_place = counts[each.topic, partition]
        added = math.log2(weight[event.kind]) + event.timestamp / settings.trending.half_life_s
        of_place[event.item_id] = _log2_sum(of_place.get(event.item_id, -math.inf), added)
        if len(of_place) > settings.trending.limit:
            least = min(of_place, key=lambda item: (of_place[item], item.encode()))
            del of_place[least]

        state.counted[partition] = state.counted.get(partition, 0) + 1
        newest[partition] = max(newest.get(partition, -math.inf), event.timestamp)
    state.newest = newest
    state.trending = {
        at: {item: count.hex() for item, count in of_place.items()}
        for at, of_place in counts.items()
    }


def _log2_sum(a: float, b: float) -> float:
    # log(x) / log(2), not log2(x): the last bit is to be the same.
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log(1 + 2 ** (low - high)) / math.log(2)


def _bytes(interactions: Mapping[str, Interaction]) -> bytes:
    """Return a dictionary as JSON, in its order and with what is left to defaults."""
    rows = ((item_id, msgspec.structs.astuple(each)) for item_id, each in interactions.items())
    return msgspec.json.encode(tuple(rows))


async def stored_state(redis: Redis, settings: Settings, wanted: State) -> State:
    """Return what Redis and the topic of dead letters hold, in the terms of what is wanted."""
    state, store, keys = State(), SessionStore(redis, settings), AggregateKeys(settings)
    users = await _stored_users(redis, settings)
    for first in range(0, len(users), _AT_ONCE):
        some = users[first : first + _AT_ONCE]
        sessions = await read_together(redis, *map(store.reading, some))
        seen = await asyncio.gather(*map(store.all_seen, some))
        for user, session, items in zip(some, sessions, seen, strict=True):
            state.sessions[user] = _bytes(session.interactions())
            state.applied[user] = session.applied
            state.marks[user] = session.marks
            state.seen[user] = set(items)
    for topic in EVENT_TOPICS:
        for partition in range(settings.topics.partitions):
            rows = await redis.zrange(keys.trending(topic, partition), 0, -1, withscores=True)
            if rows:
                state.trending[topic, partition] = {text(item): at.hex() for item, at in rows}
    for partition in range(settings.topics.partitions):
        marks = await redis.hgetall(keys.marks(partition))
        if marks:
            state.counted[partition] = int(marks[b"events"])
            state.newest[partition] = float(marks[b"newest"])
    if wanted.transitions:
        state.transitions = await stored_transitions(redis, settings)
    state.dead_letters = await asyncio.to_thread(_dead_letters, settings)
    return state


async def _stored_users(redis: Redis, settings: Settings) -> Sequence[str]:
    names = {
        text(key).partition("{")[2].partition("}")[0]
        async for key in redis.scan_iter(settings.key("user", "*"), count=1_000)
    }
    return sorted(names)


def _dead_letters(settings: Settings) -> dict[At, str]:
    """Return the dead letters; one that was sent again after a failure is there twice."""
    topics, found = Topics(settings), {}
    for record in read_topic(settings, DEAD_LETTERS):
        headers = {name: value.decode() for name, value in record.headers}
        at = topics.plain(headers["topic"]), int(headers["partition"]), int(headers["offset"])
        found[at] = headers["reason"]
    return found

"""A replay from the asking to its end, into the live state or a shadow."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from redis.asyncio import Redis

from headrace.erasure_log import known_erasures, read_erasures
from headrace.erasures import Erasures
from headrace.errors import HeadraceError
from headrace.exchange import ExchangeStore, check_no_other, give_way, sole_writer
from headrace.identity import IdentityGuard
from headrace.log import log_spans, offsets_at
from headrace.positions import PositionStore
from headrace.replaying.lost import lost_offsets
from headrace.replaying.run import Limits, run_replay
from headrace.replaying.shadow import (
    ReplayRecord,
    Shadow,
    check_same,
    promotion,
    shadow_settings,
)
from headrace.replaying.targets import LiveTarget, NoTarget, ShadowTarget, Target
from headrace.replaying.window import (
    BEGINNING,
    NOW,
    Window,
    check_order,
    check_topics,
    parse_time,
)
from headrace.sessions import EXPIRES_AFTER
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import Place, Topics, event_topic_ids


@dataclass(frozen=True)
class ReplayOptions:
    """What was asked for."""

    topics: str | None
    """With commas between them; None: all of the model's."""
    begin: str = BEGINNING
    end: str = NOW
    into: str | None = None
    """A shadow's namespace; None: the live state."""
    rate: float = 0.0
    """Records a second at the most; 0: as fast as it goes."""
    dry_run: bool = False
    anew: bool = False


@dataclass(frozen=True)
class Listener:
    """Is told how a replay fares."""

    begun: Callable[[ReplayRecord, bool], None]
    """Where it begins, and whether it goes on with one that was broken off."""
    moved: Callable[[ReplayRecord], None]
    """How far it is, after each batch."""


async def replay(settings: Settings, options: ReplayOptions, listener: Listener) -> ReplayRecord:
    """Replay as asked; return the record then.

    Run again after it was broken off, one into a shadow goes on where it was left. Raises
    `HeadraceError`, and `redis.exceptions.RedisError` for Redis.
    """
    _check(options)
    if options.into is None:
        # A long one would bring back who is erased meanwhile: what Redis remembers of that expires.
        async with known_erasures(settings) as erasures:
            return await _into_live(settings, options, erasures, listener)
    # What it brings back of them, the promotion erases.
    erasures = await asyncio.to_thread(read_erasures, settings)
    return await _into_shadow(settings, options, options.into, erasures, listener)


def _check(options: ReplayOptions) -> None:
    if options.anew and options.into is None:
        raise HeadraceError("--anew deletes a shadow; give its namespace with --into.")
    if not math.isfinite(options.rate):
        raise HeadraceError(f"--rate {options.rate} is no number of records; 0 is without limit.")


async def _into_live(
    settings: Settings, options: ReplayOptions, erasures: Erasures, listener: Listener
) -> ReplayRecord:
    window = await asyncio.to_thread(_window, settings, options)
    redis = connect(settings, on_connect=IdentityGuard(settings, give_way))
    try:
        # Over this connection: one that begins from now on has the replay give way.
        await check_no_other(ExchangeStore(redis, settings))
        window = _up_to(window, await PositionStore(redis, settings).read())
        oldest_s = time.time() - EXPIRES_AFTER * settings.sessions.ttl_s
        limits = Limits(erasures, oldest_s, options.rate)
        target: Target = NoTarget() if options.dry_run else LiveTarget(redis, settings)
        record = ReplayRecord(window=window, begun_at=time.time(), asked={})
        listener.begun(record, False)
        return await run_replay(settings, record, target, limits, listener.moved)
    finally:
        await redis.aclose()


async def _into_shadow(
    settings: Settings,
    options: ReplayOptions,
    namespace: str,
    erasures: Erasures,
    listener: Listener,
) -> ReplayRecord:
    of_shadow = shadow_settings(settings, namespace)
    limits = Limits(erasures, rate=options.rate)
    async with _reader(of_shadow) as redis:
        # What is refused is refused before anybody has to give way, and by a dry run, too.
        record, goes_on = await _plan(redis, settings, options, namespace)
        if options.dry_run:
            # Of what was applied already nothing would be applied.
            record = msgspec.structs.replace(record, counts={})
            listener.begun(record, goes_on)
            return await run_replay(settings, record, NoTarget(), limits, listener.moved)
    async with sole_writer(of_shadow) as redis:
        shadow = Shadow(redis, settings, namespace)
        record, goes_on = await _plan(redis, settings, options, namespace)
        # From here on what an earlier replay left is no whole shadow, and is not taken for one.
        await shadow.store(record)
        listener.begun(record, goes_on)
        record = await _without_leftovers(shadow, record)
        target = ShadowTarget(redis, shadow)
        return await run_replay(settings, record, target, limits, listener.moved)


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[Redis]:
    redis = connect(settings)
    try:
        yield redis
    finally:
        await redis.aclose()


async def _plan(
    redis: Redis, settings: Settings, options: ReplayOptions, namespace: str
) -> tuple[ReplayRecord, bool]:
    """Return where the replay into the shadow begins, and whether that is where it was left.

    Changes nothing. Raises `HeadraceError` when there can be no such replay.
    """
    # A promotion that was begun needs all of the shadow that it has not moved yet.
    await check_no_other(ExchangeStore(redis, settings))
    shadow = Shadow(redis, settings, namespace)
    asked = _asked(settings, options)
    before = await shadow.read()
    if before is not None and not options.anew:
        if before.is_complete:
            raise HeadraceError(
                f"{namespace} holds a replay that is complete: promote it "
                f"(`{promotion(settings, namespace)}`), or begin anew, which deletes it (--anew)."
            )
        check_same(asked, before, namespace)
        _check_topics_are_the_same(before, await asyncio.to_thread(event_topic_ids, settings))
        return before, True
    if before is None:
        await shadow.check_empty()
    window = await asyncio.to_thread(_window, settings, options)
    record = ReplayRecord(
        window=window, begun_at=time.time(), asked=asked, has_leftovers=before is not None
    )
    return record, False


async def _without_leftovers(shadow: Shadow, record: ReplayRecord) -> ReplayRecord:
    """Have the shadow hold nothing of an earlier replay; return its record then."""
    if not record.has_leftovers:
        return record
    await shadow.clear()
    record = msgspec.structs.replace(record, has_leftovers=False)
    await shadow.store(record)
    return record


def size(record: ReplayRecord) -> int:
    """Return how many offsets the window has."""
    return sum(record.window.places.values())


def passed(record: ReplayRecord) -> int:
    """Return how many offsets of the window lie behind."""
    done = sum(
        end for place, end in record.window.places.items() if place.partition < record.partition
    )
    return done + sum(cursor.offset for cursor in record.cursors.values())


def _asked(settings: Settings, options: ReplayOptions) -> dict[str, str]:
    """Return what the outcome depends on, by the name that a user knows it under."""
    raw = msgspec.to_builtins(settings)
    parts = {
        f"{table}.{name}": str(value)
        for table in ("sessions", "trending", "rules")
        for name, value in raw[table].items()
    }
    topics = ",".join(check_topics(options.topics, Topics(settings)))
    return {"--topics": topics, "--from": options.begin, "--to": options.end, **parts}


def _window(settings: Settings, options: ReplayOptions) -> Window:
    topics = check_topics(options.topics, Topics(settings))
    begin = parse_time(options.begin, "--from", BEGINNING)
    end = parse_time(options.end, "--to", NOW)
    check_order(begin, end)
    topic_ids = event_topic_ids(settings)
    spans = log_spans(settings, topics)
    if missing := [topic for topic in topics if topic not in topic_ids]:
        raise HeadraceError(
            f"There is no topic {', '.join(missing)} in Kafka at {settings.kafka}; "
            "`headrace topics create` makes what is missing."
        )
    window = Window(
        topics=topics,
        begin_ms=begin,
        end_ms=end,
        topic_ids={topic: topic_ids[topic] for topic in topics},
        begins={} if begin is None else offsets_at(settings, topics, begin),
        ends={
            topic: {str(number): span.stop for number, span in spans.get(topic, {}).items()}
            for topic in topics
        },
    )
    return msgspec.structs.replace(window, lost=lost_offsets(settings, window, spans))


def _up_to(window: Window, positions: Mapping[Place, int]) -> Window:
    """Return the window, up to where workers have come: the rest is theirs.

    Nothing is in it from before topics were made anew: users' marks are of these, and beside them
    what was applied before looks new.
    """
    ends = {
        topic: {
            partition: min(
                end, positions.get(Place(topic, window.topic_ids[topic], int(partition)), 0)
            )
            for partition, end in of_topic.items()
        }
        for topic, of_topic in window.ends.items()
    }
    return msgspec.structs.replace(window, ends=ends, has_earlier=False)


def _check_topics_are_the_same(before: ReplayRecord, topic_ids: Mapping[str, str]) -> None:
    for topic, topic_id in before.window.topic_ids.items():
        if topic_ids.get(topic) != topic_id:
            raise HeadraceError(
                f"The topic {topic} was made anew since this replay began; begin anew, which "
                "deletes what is there (--anew)."
            )

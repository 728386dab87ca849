"""`headrace replay`: what was asked for, checked; the bar; the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from headrace.commands.bars import bar, explained
from headrace.erasure_log import read_erasures
from headrace.erasures import Erasures
from headrace.errors import HeadraceError
from headrace.exchange import give_way, sole_writer
from headrace.identity import IdentityGuard
from headrace.log import end_offsets, offsets_at
from headrace.positions import PositionStore
from headrace.replaying.run import Limits, run_replay
from headrace.replaying.shadow import (
    ReplayRecord,
    Shadow,
    check_same,
    name_of,
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
from headrace.settings import Settings
from headrace.state import NOTHING, state_hash
from headrace.store import connect
from headrace.topics import Place, Topics, event_topic_ids

_OUTCOMES = ("read", "new", "known", "expired", "erased", "invalid")


@dataclass(frozen=True)
class ReplayOptions:
    """What the command was asked for."""

    topics: str | None
    """With commas between them; None: all of the model's."""
    begin: str = BEGINNING
    end: str = NOW
    into: str | None = None
    """A shadow's namespace; None: the live state."""
    rate: float = 0.0
    dry_run: bool = False
    anew: bool = False


def replay_command(settings: Settings, options: ReplayOptions, console: Console) -> None:
    """Replay as asked, and report. Raises `HeadraceError`."""
    into = f" into {options.into}" if options.into else ""
    with explained(settings, f"Run the same command again to go on{into}."):
        asyncio.run(_replay(settings, options, console))


def state_hash_command(settings: Settings, namespace: str | None, console: Console) -> None:
    """Print the digest of a namespace's state."""
    if namespace is not None:
        settings = name_of(settings, namespace)
    with explained(settings, "Run the command again."):
        asyncio.run(_print_known_hash(settings, console))


async def _replay(settings: Settings, options: ReplayOptions, console: Console) -> None:
    erasures = await asyncio.to_thread(read_erasures, settings)
    if options.into is None:
        await _into_live(settings, options, erasures, console)
    else:
        await _into_shadow(settings, options, options.into, erasures, console)


async def _into_live(
    settings: Settings, options: ReplayOptions, erasures: Erasures, console: Console
) -> None:
    window = await asyncio.to_thread(_window, settings, options)
    redis = connect(settings, on_connect=IdentityGuard(settings, give_way))
    try:
        window = _up_to(window, await PositionStore(redis, settings).read())
        limits = Limits(erasures, time.time() - settings.sessions.ttl_s, options.rate)
        target: Target = NoTarget() if options.dry_run else LiveTarget(redis, settings)
        record = ReplayRecord(window=window, begun_at=time.time(), asked={})
        record = await _run(settings, record, target, limits, console)
    finally:
        await redis.aclose()
    _report(record, options, console)


async def _into_shadow(
    settings: Settings,
    options: ReplayOptions,
    namespace: str,
    erasures: Erasures,
    console: Console,
) -> None:
    of_shadow = shadow_settings(settings, namespace)
    async with _reader(of_shadow) if options.dry_run else sole_writer(of_shadow) as redis:
        shadow = Shadow(redis, settings, namespace)
        record = await _begin(shadow, settings, options, console)
        target: Target = NoTarget() if options.dry_run else ShadowTarget(redis, shadow)
        limits = Limits(erasures, rate=options.rate)
        record = await _run(settings, record, target, limits, console)
        _report(record, options, console)
    if not options.dry_run:
        await _print_hash(of_shadow, console)
        console.print(f"`{promotion(settings, namespace)}` makes it the live state.")


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[Redis]:
    redis = connect(settings)
    try:
        yield redis
    finally:
        await redis.aclose()


async def _begin(
    shadow: Shadow, settings: Settings, options: ReplayOptions, console: Console
) -> ReplayRecord:
    """Return where the replay into the shadow begins: where it was left, or at its beginning."""
    namespace = shadow.settings.namespace
    asked = _asked(settings, options)
    before = await shadow.read()
    if before is not None and not options.anew and not options.dry_run:
        if before.is_complete:
            raise HeadraceError(
                f"{namespace} holds a replay that is complete: `{promotion(settings, namespace)}` "
                "makes it live; add --anew to delete it and begin from nothing."
            )
        check_same(asked, before, namespace)
        _check_topics_are_the_same(before, await asyncio.to_thread(event_topic_ids, settings))
        console.print(f"The replay into {namespace} goes on where it was left.")
        return before
    if before is None:
        await shadow.check_empty()
    window = await asyncio.to_thread(_window, settings, options)
    record = ReplayRecord(window=window, begun_at=time.time(), asked=asked)
    if not options.dry_run:
        if before is not None:
            await shadow.delete()
        await shadow.store(record)
    return record


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
    ends = end_offsets(settings)
    if missing := [topic for topic in topics if topic not in topic_ids]:
        raise HeadraceError(
            f"There is no topic {', '.join(missing)} in Kafka at {settings.kafka}; "
            "`headrace topics` makes what is missing."
        )
    return Window(
        topics=topics,
        begin_ms=begin,
        end_ms=end,
        topic_ids={topic: topic_ids[topic] for topic in topics},
        begins={} if begin is None else offsets_at(settings, topics, begin),
        ends={topic: ends.get(topic, {}) for topic in topics},
    )


def _up_to(window: Window, positions: Mapping[Place, int]) -> Window:
    """Return the window, up to where workers have come: the rest is theirs."""
    ends = {
        topic: {
            partition: min(
                end, positions.get(Place(topic, window.topic_ids[topic], int(partition)), 0)
            )
            for partition, end in of_topic.items()
        }
        for topic, of_topic in window.ends.items()
    }
    return msgspec.structs.replace(window, ends=ends)


def _check_topics_are_the_same(before: ReplayRecord, topic_ids: Mapping[str, str]) -> None:
    for topic, topic_id in before.window.topic_ids.items():
        if topic_ids.get(topic) != topic_id:
            raise HeadraceError(
                f"The topic {topic} was made anew since this replay began; add --anew to begin "
                "from nothing."
            )


async def _run(
    settings: Settings, record: ReplayRecord, target: Target, limits: Limits, console: Console
) -> ReplayRecord:
    total = sum(record.window.places.values())
    with bar(console, "records") as progress:
        task = progress.add_task("replaying", total=total, completed=_passed(record))

        def show(record: ReplayRecord) -> None:
            progress.update(task, completed=_passed(record))

        return await run_replay(settings, record, target, limits, show)


def _passed(record: ReplayRecord) -> int:
    """Return how many offsets of the window lie behind."""
    done = sum(
        end for place, end in record.window.places.items() if place.partition < record.partition
    )
    return done + sum(cursor.offset for cursor in record.cursors.values())


def _report(record: ReplayRecord, options: ReplayOptions, console: Console) -> None:
    outcomes = [
        name for name in _OUTCOMES if any(name in counts for counts in record.counts.values())
    ]
    table = Table("topic", *outcomes, box=None)
    for topic in record.window.topics:
        counts = record.counts.get(topic, {})
        table.add_row(topic, *(f"{counts.get(name, 0):,}" for name in outcomes))
    console.print(f"From {options.begin} to {options.end}:")
    console.print(table)
    if options.dry_run:
        console.print("Nothing was written.")


async def _print_known_hash(settings: Settings, console: Console) -> None:
    if await _print_hash(settings, console) == NOTHING:
        raise HeadraceError(
            f"That is the digest of nothing: there is no state in the namespace "
            f"{settings.namespace}."
        )


async def _print_hash(settings: Settings, console: Console) -> str:
    redis = connect(settings)
    try:
        with bar(console, "keys") as progress:
            task = progress.add_task("digesting", total=None)
            digest = await state_hash(
                redis, settings, lambda keys: progress.update(task, completed=keys)
            )
    finally:
        await redis.aclose()
    console.print(f"state hash: {digest}", soft_wrap=True, highlight=False)
    return digest

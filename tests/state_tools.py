"""Commands that move the state, a log to move it with, and whether the state is that of the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from command_line import headrace
from events_log import fold, last_offsets, stored_transitions
from kafka_tools import read_topic, send_events, send_raw
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.errors import InvalidEvent
from headrace.events import parse_event
from headrace.sessions import LoggedEvent, SessionStore
from headrace.settings import Settings
from headrace.topics import EVENT_TOPICS, Place, event_topic_ids
from headrace.trending import TrendingStore

NOW = 1_704_060_026.0


class Log:
    """Draws events and sends them, some wrong ones and some twice."""

    def __init__(self, settings: Settings, users: int, seed: int = 3) -> None:
        self._settings = settings
        self._users = users
        self._rng = random.Random(seed)
        self._number = 0

    def send(self, count: int, topics: tuple[str, ...] = tuple(EVENT_TOPICS)) -> None:
        """Send so many more."""
        drawn: dict[str, list[dict[str, Any]]] = {topic: [] for topic in topics}
        for _ in range(count):
            self._number += 1
            topic = self._rng.choice(topics)
            drawn[topic].append(self._event(EVENT_TOPICS[topic]))
        for topic, events in drawn.items():
            send_events(self._settings, topic, events)

    def send_wrong(self, topic: str) -> None:
        """Send what is no event."""
        send_raw(self._settings, topic, [(b"user-0", b"\xff"), (b"user-0", None)])

    def send_twice(self, topic: str) -> None:
        """Send an event, and once more under its `event_id`."""
        self._number += 1
        send_events(self._settings, topic, [self._event(EVENT_TOPICS[topic])] * 2)

    def _event(self, kind: str) -> dict[str, Any]:
        event = {
            "event_id": f"event-{self._number}",
            "user_id": f"user-{self._rng.randrange(self._users)}",
            "item_id": f"item-{self._rng.randrange(80)}",
            "timestamp": NOW + self._number // 10 - self._rng.randrange(200),
        }
        return {**event, "rating": self._number % 5 + 0.5} if kind == "rating" else event


def read_log(settings: Settings) -> list[LoggedEvent]:
    """The events that the broker holds, read without anything of Headrace's but the parser."""
    log = []
    ids = event_topic_ids(settings)
    for topic, kind in EVENT_TOPICS.items():
        for record in read_topic(settings, topic):
            with contextlib.suppress(InvalidEvent):
                event = parse_event(record.value, kind, received_at=record.timestamp / 1000)
                log.append(LoggedEvent(event, topic, ids[topic], record.partition, record.offset))
    return log


async def check_against_log(settings: Settings, redis: Redis, log: list[LoggedEvent]) -> None:
    """Each event of the log, in which each stands once, counts once in everything."""
    store = SessionStore(redis, settings)
    for user in sorted({each.event.user_id for each in log}):
        session = await store.read(user)
        assert session.interactions() == fold(log, user, settings.sessions.limit)
        assert session.applied == sum(each.event.user_id == user for each in log)
        assert session.marks == last_offsets(log, user)
    assert await TrendingStore(redis, settings).events_counted() == len(log)
    offsets: dict[Place, list[bytes]] = {}
    for each in log:
        place = Place(each.topic, each.topic_id, each.partition)
        offsets.setdefault(place, []).append(f"{each.offset}-1".encode())
    streams = await stored_transitions(redis, settings)
    assert {at: [entry for entry, _ in rows] for at, rows in streams.items()} == offsets


@contextlib.contextmanager
def load(log: Log) -> Iterator[None]:
    """Send events, again and again, until the block is left."""
    left = threading.Event()

    def send() -> None:
        while not left.wait(0.05):
            log.send(100)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


async def all_done(settings: Settings, redis: Redis) -> None:
    """Wait until every event of the log is applied, and check that each counts once."""
    log = await asyncio.to_thread(read_log, settings)

    async def holds() -> bool:
        counted = await TrendingStore(redis, settings).events_counted()
        return counted == len(log) and await applied(settings, redis, log) == len(log)

    await eventually(holds, "every event is applied")
    await check_against_log(settings, redis, log)


async def applied(settings: Settings, redis: Redis, log: list[LoggedEvent]) -> int:
    """How many events of the log's users were applied."""
    store = SessionStore(redis, settings)
    users = {each.event.user_id for each in log}
    return sum([(await store.read(user)).applied for user in users])


async def succeeds(settings: Settings, *arguments: str) -> str:
    """Run `headrace`, which must succeed; return what it printed."""
    done = await asyncio.to_thread(headrace, *arguments, **settings.environ())
    assert done.returncode == 0, done.stderr
    return done.stdout


async def fails(settings: Settings, *arguments: str) -> str:
    """Run `headrace`, which must end in one line of an error; return it."""
    done = await asyncio.to_thread(headrace, *arguments, **settings.environ())
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("headrace: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def hash_in(printed: str) -> str:
    """The digest that a command printed."""
    [line] = [line for line in printed.splitlines() if line.startswith("state hash: ")]
    return line.removeprefix("state hash: ")


@contextlib.asynccontextmanager
async def supervised(worker: Part) -> AsyncIterator[None]:
    """Start the worker again whenever it has ended, until the block is left."""

    async def supervise() -> None:
        while True:
            if not worker.runs:
                worker.start()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(supervise())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})

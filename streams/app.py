"""The Faust app: which agents and timers a worker runs, and how Faust is set up for them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import kafka.errors
from faust.types import TP

from headrace.catalog import CatalogStore
from headrace.dead_letters import DeadLetters, Record
from headrace.heartbeats import INTERVAL_S, Heartbeat, HeartbeatStore
from headrace.producer import Producer
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import ITEMS, TopicId, Topics, TopicWatch
from headrace.transitions import TransitionStore
from headrace.trending import TrendingStore
from streams.agents import EventsAgent, ItemsAgent, Progress
from streams.failure import AWAY, end_process, end_process_after, finish
from streams.fetching import consumer_of
from streams.triggers import CountTrigger

logger = logging.getLogger(__name__)

_TRIGGER_S = 0.5
_TOPIC_CHECK_S = 1.0
_COMMIT_S = 0.5
_STOP_WITHIN_S = 2.5
"""Faust waits much longer for a broker that goes away at the same time."""


def create_app(settings: Settings, known_topics: Mapping[str, TopicId]) -> faust.App:
    """Return the Faust app of one worker.

    `known_topics` are the topics as they are now, by name on the broker; when one is made anew the
    worker ends, because the offsets it holds mean nothing there.
    """
    topics = Topics(settings)
    app = reading_app(settings, known_topics)
    topic_ids = {name: topic.id for name, topic in known_topics.items()}
    redis = connect(settings)
    producer = Producer(settings)
    progress = Progress()
    trending = TrendingStore(redis, settings)
    dead_letters = DeadLetters(producer, settings)
    events_agent = EventsAgent(
        topics,
        topic_ids,
        SessionStore(redis, settings),
        trending,
        TransitionStore(redis, settings),
        dead_letters,
        progress,
    )
    items_agent = ItemsAgent(topic_ids, CatalogStore(redis, settings), dead_letters, progress)
    chores = Chores(
        app,
        TopicWatch(settings, known_topics),
        progress,
        HeartbeatStore(redis, settings),
        CountTrigger(redis, settings, trending, producer),
    )

    app.agent(raw_topic(app, *topics.events), name="events")(batches(events_agent, settings))
    app.agent(raw_topic(app, topics.name(ITEMS)), name="items")(batches(items_agent, settings))
    app.timer(INTERVAL_S, name="heartbeat")(chores.beat)
    app.timer(_TRIGGER_S, name="retrain-trigger")(chores.fire_retrain)
    app.timer(_TOPIC_CHECK_S, name="topic-ids")(chores.check_topics)

    async def close(*_: Any, **__: Any) -> None:
        end_process_after(_STOP_WITHIN_S)
        await producer.close()
        await redis.aclose()

    app.on_before_shutdown.connect(close, weak=False)
    return app


def reading_app(settings: Settings, known_topics: Mapping[str, TopicId]) -> faust.App:
    """Return a Faust app that reads as a worker's does, and has no agents yet."""
    topics = Topics(settings)
    read = [known_topics[name] for name in (*topics.events, topics.name(ITEMS))]
    app = faust.App(**faust_options(settings, consumer_group(settings, read)))
    app.transport.Consumer = consumer_of(settings.worker.fetch_wait_ms)
    return app


def consumer_group(settings: Settings, topics: Iterable[TopicId]) -> str:
    """Return the group that reads these topics, another one when one of them was made anew.

    A worker that has not noticed yet may commit once more for the old topic; in the same group the
    next worker would pass over as many of the new topic's records. In another one it reads all
    topics from their beginning, and the marks tell what has been applied.
    """
    ids = ",".join(sorted(topic.id for topic in topics))
    return f"{settings.worker.group}-{hashlib.sha256(ids.encode()).hexdigest()[:12]}"


def faust_options(settings: Settings, group: str) -> dict[str, Any]:
    """Return how Faust is set up: at least once, one batch at a time, nothing of its own kept.

    What makes an event count once is its offset in Redis, so Faust needs neither tables nor
    transactions; its web server, open on all addresses by default, stays off.
    """
    session_timeout = settings.worker.session_timeout_s
    return {
        "id": group,
        "broker": [f"kafka://{address}" for address in settings.kafka.split(",")],
        "store": "memory://",
        "autodiscover": False,
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "processing_guarantee": "at_least_once",
        "consumer_auto_offset_reset": "earliest",
        "broker_commit_interval": _COMMIT_S,
        "broker_session_timeout": session_timeout,
        "broker_heartbeat_interval": session_timeout / 4,
        "stream_wait_empty": False,
        # Faust makes this folder although nothing of ours is put there.
        "datadir": Path(tempfile.gettempdir()) / f"headrace-faust-{os.getuid()}",
        "loghandlers": [],
    }


def raw_topic(app: faust.App, *names: str) -> Any:
    """Return Faust's channel of these topics' bytes; a record without a value is delivered too."""
    return app.topic(
        *names,
        key_type=bytes,
        key_serializer="raw",
        value_type=bytes,
        value_serializer="raw",
        allow_empty=True,
    )


def batches(agent: Any, settings: Settings) -> Any:
    """Return the agent as Faust wants it: a function of a stream.

    A batch is what has arrived while the one before was applied, so an event never waits for others
    to come. Faust's own `take_events` waits its time out whenever a batch is not full, and
    acknowledges a batch even when its work was broken off.
    """
    size = settings.worker.batch_size

    async def consume(stream: Any) -> None:
        batch: list[Any] = []
        async for event in stream.noack().events():
            batch.append(event)
            if len(batch) < size and not stream.channel.empty():
                continue
            await finish(agent([_record(each.message) for each in batch]))
            for each in batch:
                await stream.ack(each)
            batch.clear()

    return consume


def _record(message: Any) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        message.value,
    )


@dataclass(frozen=True)
class Chores:
    """What a worker does by the clock. A store that is away is tried again at the next turn."""

    app: Any
    topics: TopicWatch
    progress: Progress
    heartbeats: HeartbeatStore
    trigger: CountTrigger

    async def beat(self) -> None:
        """Tell Redis that this worker is well, and what it has done."""
        progress = self.progress
        heartbeat = Heartbeat(
            part="worker",
            name=f"{socket.gethostname()}-{os.getpid()}",
            pid=os.getpid(),
            at=time.time(),
            state="running" if self._assignment() else "waiting for partitions",
            figures={
                "applied": progress.applied,
                "duplicates": progress.duplicates,
                "dead_letters": progress.dead_letters,
                "items": progress.items,
                "lag": self._lag(),
            },
        )
        try:
            await self.heartbeats.beat(heartbeat)
        except AWAY as exc:
            logger.warning("no heartbeat: %r", exc)

    async def fire_retrain(self) -> None:
        """Send a retrain event when one is due."""
        try:
            if await self.trigger.check():
                logger.info("a retrain event was sent")
        except AWAY as exc:
            logger.warning("the retrain trigger waits: %r", exc)

    async def check_topics(self) -> None:
        """End the worker when a topic was made anew."""
        try:
            made_anew = await asyncio.to_thread(self.topics.made_anew)
        except (kafka.errors.KafkaError, OSError) as exc:
            logger.warning("the topics cannot be read: %r", exc)
            return
        if made_anew:
            end_process(
                f"made anew: {', '.join(made_anew)}; the worker starts again with their new ids"
            )

    def _assignment(self) -> set[TP]:
        return set(self.app.consumer.assignment())

    def _lag(self) -> int:
        return sum(
            max(0, (self.app.consumer.highwater(tp) or 0) - self.progress.processed[tp])
            for tp in self._assignment()
            if tp in self.progress.processed
        )

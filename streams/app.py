"""The Faust app: which agents and timers a worker runs, and how Faust is set up for them."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from headrace.aggregates import AggregateStore
from headrace.catalog import CatalogStore
from headrace.dead_letters import DeadLetters, Record
from headrace.erasures import Erasures
from headrace.errors import HeadraceError
from headrace.exchange import ExchangeStore
from headrace.heartbeats import INTERVAL_S, HeartbeatStore
from headrace.identity import IdentityGuard
from headrace.positions import PositionStore
from headrace.producer import Producer
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import ITEMS, Place, TopicId, Topics, TopicWatch
from headrace.trending import TrendingStore
from streams.agents import EventsAgent, ItemsAgent
from streams.chores import Chores
from streams.failure import Patience, end_process, end_process_after, finish
from streams.fetching import Starts, consumer_of
from streams.listener import Listener
from streams.metrics import Metrics
from streams.progress import Progress
from streams.triggers import CountTrigger
from streams.watchdog import Watchdog

logger = logging.getLogger(__name__)

Agent = Callable[[Sequence[Record]], Awaitable[None]]
"""What is done with a batch; after that it may be committed."""

_TRIGGER_S = 0.5
_LOOK_S = 1.0
_POSITIONS_S = 0.25
_COMMIT_S = 0.5
_POSITIONS_WITHIN_S = 60.0
"""Faust gives a rebalance up some time after; the worker then begins anew."""
_STOP_WITHIN_S = 2.5
"""Faust waits much longer for a broker that goes away at the same time."""


def create_app(settings: Settings, known_topics: Mapping[str, TopicId]) -> faust.App:
    """Return the Faust app of one worker.

    `known_topics` are the topics as they are now, by name on the broker; when one is made anew or
    grows the worker ends, because what it holds of it means nothing there.
    """
    topics = Topics(settings)
    read = {name: known_topics[name] for name in (*topics.events, topics.name(ITEMS))}
    topic_ids = {name: topic.id for name, topic in read.items()}
    redis = connect(settings, on_connect=IdentityGuard(settings, end_process))
    producer = Producer(settings)
    progress, patience, positions = (
        Progress(topics, read),
        Patience(),
        PositionStore(redis, settings),
    )

    app = faust.App(**faust_options(settings))
    app.transport.Consumer = consumer_of(
        settings.worker.fetch_wait_ms,
        _starts(ExchangeStore(redis, settings), positions, progress, patience),
    )
    dead_letters = DeadLetters(producer, settings)
    events_agent = EventsAgent(
        topics,
        topic_ids,
        SessionStore(redis, settings),
        AggregateStore(redis, settings),
        Erasures(),
        dead_letters,
        progress,
        patience,
    )
    items_agent = ItemsAgent(
        topic_ids, CatalogStore(redis, settings), dead_letters, progress, patience
    )
    chores = Chores(
        app,
        TopicWatch(settings, read),
        progress,
        patience,
        HeartbeatStore(redis, settings),
        CountTrigger(redis, settings, TrendingStore(redis, settings), producer),
        positions,
        Watchdog(settings.worker.stall_s, time.monotonic),
    )
    metrics = Metrics(progress, lambda: chores.lags)
    listener = Listener(settings.worker, lambda: chores.state, metrics.expose)

    size = settings.worker.batch_size
    app.agent(raw_topic(app, *topics.events), name="events")(
        batches(observed(events_agent, "events", metrics), size)
    )
    app.agent(raw_topic(app, topics.name(ITEMS)), name="items")(
        batches(observed(items_agent, "items", metrics), size)
    )
    app.timer(INTERVAL_S, name="heartbeat")(chores.beat)
    app.timer(_TRIGGER_S, name="retrain-trigger")(chores.fire_retrain)
    app.timer(_LOOK_S, name="topics")(chores.check_topics)
    app.timer(_POSITIONS_S, name="positions")(chores.store_positions)

    async def open_listener() -> None:
        try:
            chores.address = await listener.start()
        except HeadraceError as exc:
            end_process(str(exc))
        logger.info("health and metrics at %s", chores.address)

    async def count_start() -> None:
        starts_key = settings.key("worker", "starts")
        await patience.wait_out(lambda: redis.incr(starts_key), "Redis cannot be written to")
        metrics.starts.inc(int(await redis.get(starts_key) or 0))

    async def close(*_: Any, **__: Any) -> None:
        end_process_after(_STOP_WITHIN_S)
        await listener.stop()
        await chores.store_positions()
        await producer.close()
        await redis.aclose()

    app.task(open_listener)
    app.task(count_start)
    app.on_before_shutdown.connect(close, weak=False)
    return app


def _starts(
    exchange: ExchangeStore, positions: PositionStore, progress: Progress, patience: Patience
) -> Starts:
    """Return where the worker's partitions begin: at their positions in Redis."""

    async def starts(partitions: Iterable[TP]) -> Mapping[TP, int]:
        found: dict[Place, int] = {}

        async def read() -> None:
            if (under_way := await exchange.read()) is not None:
                end_process(f"`{under_way.command}` exchanges the state: the worker starts again")
            found.update(await positions.read())

        try:
            await asyncio.wait_for(
                patience.wait_out(read, "positions cannot be read"), _POSITIONS_WITHIN_S
            )
        except asyncio.TimeoutError:
            end_process("the worker has no positions to begin at, and starts again")
        places = {tp: progress.place(tp.topic, tp.partition) for tp in partitions}
        return {tp: found[place] for tp, place in places.items() if place in found}

    return starts


def observed(agent: Agent, name: str, metrics: Metrics) -> Agent:
    """Return the agent, with each of its batches noted in the metrics."""

    async def observing(records: Sequence[Record]) -> None:
        begin = time.perf_counter()
        await agent(records)
        metrics.observe(name, len(records), time.perf_counter() - begin)

    return observing


def faust_options(settings: Settings) -> dict[str, Any]:
    """Return how Faust is set up: at least once, one batch at a time, nothing of its own kept.

    What makes an event count once is its offset in Redis, so Faust needs neither tables nor
    transactions; its web server, open on all addresses by default, stays off.
    """
    session_timeout = settings.worker.session_timeout_s
    return {
        "id": settings.worker.group,
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


def batches(agent: Agent, size: int) -> Any:
    """Return the agent as Faust wants it: a function of a stream; at most `size` records at once.

    A batch is what has arrived while the one before was applied, so an event never waits for others
    to come. Faust's own `take_events` waits its time out whenever a batch is not full, and
    acknowledges a batch even when its work was broken off.
    """

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

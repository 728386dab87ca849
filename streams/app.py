"""The worker: which agents, timers and tasks run in its Faust app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import faust
from faust.types import TP
from redis.asyncio import Redis

from headrace.aggregates import AggregateStore
from headrace.catalog import CatalogStore
from headrace.dead_letters import DeadLetters, Record
from headrace.erasure_log import ErasureLog
from headrace.errors import HeadraceError
from headrace.evaluation import EvaluationStore
from headrace.exchange import ExchangeStore
from headrace.figures import FiguresStore, Tally
from headrace.heartbeats import INTERVAL_S, HeartbeatStore
from headrace.identity import IdentityGuard
from headrace.impressions import ImpressionStore
from headrace.popularity import PopularityStore, PopularityTally
from headrace.positions import PositionStore
from headrace.producer import Producer
from headrace.redis_eraser import RedisEraser
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.store import DiscreetRedis, connect
from headrace.topics import ERASURES, IMPRESSIONS, ITEMS, Place, TopicId, Topics, TopicWatch
from headrace.tracing import start_tracing
from headrace.trending import TrendingStore
from streams.agents import EventsAgent, ItemsAgent
from streams.allocator import give_back_gaps
from streams.chores import Chores
from streams.erasing import ErasureFollower
from streams.failure import AWAY, Patience, StopLimit, end_process
from streams.fetching import Starts
from streams.figures import Popularity, WorkerFigures
from streams.impressions import ImpressionsAgent
from streams.listener import Listener
from streams.metrics import Metrics
from streams.progress import Progress
from streams.reading import Agent, batches, raw_topic, reading_app
from streams.triggers import CountTrigger
from streams.watchdog import Watchdog

if TYPE_CHECKING:
    from headrace.tracing.spans import Tracing

logger = logging.getLogger(__name__)

_TRIGGER_S = 0.5
_LOOK_S = 1.0
_POSITIONS_S = 0.25
_GAPS_S = 10.0
_POSITIONS_WITHIN_S = 60.0
"""Faust gives a rebalance up some time after; the worker then begins anew."""
_POPULARITY_S = 10.0
_COMMIT_WITHIN_S = 1.0
_STOP_WITHIN_S = 2.5
"""Faust waits much longer for a broker that goes away, or a group that rebalances, meanwhile."""


def create_app(
    settings: Settings,
    known_topics: Mapping[str, TopicId],
    erasure_log: ErasureLog,
    *,
    reads_common: bool = True,
) -> faust.App:
    """Return the Faust app of one worker, which reads the topics of the settings' model.

    `known_topics` are the topics as they are now, by name on the broker; when one is made anew or
    grows the worker ends, because what it holds of it means nothing there. `erasure_log` is what
    was read of the topic of erasures; the worker reads on. `reads_common`: it brings what is one
    for all models, too: the catalogue, and what was served.
    """
    topics = Topics(settings)
    common = (topics.name(ITEMS), topics.name(IMPRESSIONS)) if reads_common else ()
    read = {name: known_topics[name] for name in (*topics.events, *common)}
    topic_ids = {name: topic.id for name, topic in read.items()}
    tracing = start_tracing(settings, "headrace-worker")
    redis = connect(
        settings, on_connect=IdentityGuard(settings, end_process), kind=_redis_kind(tracing)
    )
    producer = Producer(settings)
    progress, patience, positions = (
        Progress(topics, read),
        Patience(),
        PositionStore(redis, settings),
    )

    exchanges = ExchangeStore(redis, settings)
    app = reading_app(settings, _starts(exchanges, positions, progress, patience))
    dead_letters = DeadLetters(producer, settings, topic_ids)
    evaluation = EvaluationStore(redis, settings)
    trending = TrendingStore(redis, settings)
    popularity = Popularity(
        trending, evaluation.popular_items, PopularityTally(PopularityStore(redis, settings))
    )
    events_agent = EventsAgent(
        topics,
        topic_ids,
        SessionStore(redis, settings),
        evaluation,
        popularity,
        AggregateStore(redis, settings),
        erasure_log.erasures,
        dead_letters,
        progress,
        patience,
    )
    impressions_agent = ImpressionsAgent(
        topic_ids,
        ImpressionStore(redis, settings),
        _evaluations(redis, settings),
        erasure_log.erasures,
        dead_letters,
        progress,
        patience,
    )
    erasing = ErasureFollower(
        settings,
        erasure_log,
        known_topics[topics.name(ERASURES)].id,
        (*events_agent.in_hand, impressions_agent.in_hand),
        # Who keeps what was served writes of all models.
        RedisEraser(redis, *(settings.states if reads_common else [settings])),
        PositionStore(redis, settings, of=ERASURES),
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
        CountTrigger(redis, settings, trending, producer),
        positions,
        Watchdog(settings.worker.stall_s, time.monotonic),
    )
    metrics = Metrics(progress, lambda: chores.lags)
    figures = WorkerFigures(
        Tally(FiguresStore(redis, settings), "worker", time.time), progress, lambda: chores.lags
    )
    listener = Listener(settings.worker, lambda: chores.state, metrics.expose)

    def seen(agent: Agent, name: str) -> Agent:
        if tracing is not None:
            from streams.traced import traced

            agent = traced(agent, name, settings.worker.group, tracing)
        return observed(agent, name, metrics)

    size = settings.worker.batch_size
    app.agent(raw_topic(app, *topics.events), name="events")(
        batches(seen(timed(events_agent, figures), "events"), size, in_flight=3)
    )
    if reads_common:
        app.agent(raw_topic(app, topics.name(ITEMS)), name="items")(
            batches(seen(items_agent, "items"), size)
        )
        app.agent(raw_topic(app, topics.name(IMPRESSIONS)), name="impressions")(
            batches(seen(impressions_agent, "impressions"), size)
        )
    app.timer(INTERVAL_S, name="heartbeat")(chores.beat)
    app.timer(_TRIGGER_S, name="retrain-trigger")(chores.fire_retrain)
    app.timer(_LOOK_S, name="topics")(chores.check_topics)
    app.timer(_POSITIONS_S, name="positions")(chores.store_positions)
    app.timer(_GAPS_S, name="memory")(give_back_gaps)
    app.timer(_POPULARITY_S, name="popularity")(popularity.refresh)

    async def open_listener() -> None:
        try:
            chores.address = await listener.start()
        except HeadraceError as exc:
            end_process(str(exc))
        logger.info("health and metrics at %s", chores.address)

    async def note_topics() -> None:
        ids = {topics.plain(name): topic_id for name, topic_id in topic_ids.items()}
        await patience.wait_out(lambda: positions.begin(ids), "Redis cannot be written to")

    async def count_start() -> None:
        async def count() -> None:
            metrics.starts.inc(await redis.incr(settings.key("worker", "starts")))

        await patience.wait_out(count, "Redis cannot be written to")

    limit = StopLimit(_STOP_WITHIN_S)

    async def bound_stop() -> None:
        await app.wait_until_stopped()
        limit.begin()

    async def close(*_: Any, **__: Any) -> None:
        await listener.stop()
        # The batches in hand are finished: their positions are to be stored, too.
        await app.agents.stop()
        if await chores.store_positions():
            limit.committed()
        # Faust does it when it has taken leave of the group, which may take longer than there is.
        with contextlib.suppress(asyncio.TimeoutError, *AWAY):
            await asyncio.wait_for(app.consumer.commit(), _COMMIT_WITHIN_S)
        await figures.tell()
        await popularity.refresh()
        await producer.close()
        await redis.aclose()
        if tracing is not None:
            await tracing.close()

    app.task(bound_stop)
    app.task(open_listener)
    app.task(note_topics)
    app.task(count_start)
    app.task(erasing.run)
    app.task(popularity.refresh)
    app.task(figures.run)
    app.on_before_shutdown.connect(close, weak=False)
    return app


def _evaluations(redis: Redis, settings: Settings) -> dict[str, EvaluationStore]:
    """Return by model where its lists are kept for the events of its topics to judge."""
    stores = {state.event_topics: EvaluationStore(redis, state) for state in settings.states}
    return {
        model_id: stores[settings.of_model(model_id).event_topics]
        for model_id in settings.model_ids
    }


def _redis_kind(tracing: Tracing | None) -> type[DiscreetRedis]:
    if tracing is None:
        return DiscreetRedis
    from headrace.tracing.redis import traced_redis

    return traced_redis(tracing)


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


def timed(agent: Agent, figures: WorkerFigures) -> Agent:
    """Return the agent, with how fresh its work is told in the figures."""

    async def timing(records: Sequence[Record]) -> None:
        await agent(records)
        figures.done(records)

    return timing


def observed(agent: Agent, name: str, metrics: Metrics) -> Agent:
    """Return the agent, with each of its batches noted in the metrics."""

    async def observing(records: Sequence[Record]) -> None:
        begin = time.perf_counter()
        await agent(records)
        metrics.observe(name, len(records), time.perf_counter() - begin)

    return observing

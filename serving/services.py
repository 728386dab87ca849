"""What the routes work with: one set for each server, made when it starts."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from starlette.requests import Request

from headrace.catalog import CatalogStore
from headrace.evaluation import EvaluationStore
from headrace.experiment import Experiment, experiment_of
from headrace.impressions import ImpressionStore
from headrace.keys import KeyStore
from headrace.positions import PositionStore
from headrace.producer import Producer
from headrace.redis_eraser import RedisEraser
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.task_store import TaskStore
from headrace.topics import Topics
from headrace.transitions import TransitionStore
from headrace.trending import TrendingStore
from headrace.versions import VersionStore
from serving.admission import Admission
from serving.catalog_writer import CatalogWriter
from serving.eraser import Eraser
from serving.evaluation import EvaluationCache
from serving.exposure import is_loopback
from serving.feed import Feed
from serving.freshness import Freshness
from serving.impressions import ImpressionLog
from serving.key_ring import KeyRing
from serving.live_model import LiveModel
from serving.live_ranking import LiveRanking
from serving.merger import Merger
from serving.metrics import Metrics
from serving.recommender import Recommender
from serving.request_log import RequestLog
from serving.trending import TrendingCache
from serving.user_changes import UserChanges
from serving.version_loader import VersionLoader
from serving.worker_metrics import WorkerMetrics

if TYPE_CHECKING:
    from headrace.tracing.spans import Tracing

_KAFKA_TIMEOUT_S = 5.0
"""Who sends events hears in time that Kafka is away."""
_REDIS_TIMEOUT_S = 0.5
"""An answer without the session beats one that comes later than this."""


@dataclass(frozen=True)
class Services:
    """The stores, the producer and the live model of one server."""

    settings: Settings
    redis: Redis
    producer: Producer
    topics: Topics
    sessions: SessionStore
    eraser: Eraser
    merger: Merger
    catalog: CatalogStore
    catalog_writer: CatalogWriter
    versions: VersionStore
    loader: VersionLoader
    tasks: TaskStore
    live: LiveModel
    similar: LiveModel
    """The model that says which items are like one, once it has a version."""
    ranking: LiveRanking
    trending: TrendingCache
    recommender: Recommender
    freshness: Freshness
    feed: Feed
    impressions: ImpressionLog
    served: ImpressionStore
    evaluation: EvaluationCache
    key_ring: KeyRing
    metrics: Metrics
    request_log: RequestLog
    admission: Admission
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    new_id: Callable[[], str] = field(default=lambda: uuid.uuid4().hex)


def create_services(
    settings: Settings, tracing: Tracing | None = None, workers: WorkerMetrics | None = None
) -> Services:
    """Return the services of a server; they connect when they are first used.

    `workers`: with whom this process shares the server, if it does.
    """
    redis, producer, recommender_kind = _traceable(settings, tracing)
    sessions = SessionStore(redis, settings)
    catalog = CatalogStore(redis, settings)
    versions = VersionStore(redis, settings, producer)
    transitions = TransitionStore(redis, settings)
    experiment = experiment_of(settings.experiment)
    loader = VersionLoader(settings)
    live = LiveModel(settings, versions, catalog, transitions, loader, experiment)
    similar_id = settings.serving.similar_model_id
    similar = LiveModel(
        settings, versions, catalog, transitions, loader, Experiment("", ()), similar_id
    )
    trending = TrendingCache(TrendingStore(redis, settings), settings)
    ranking = LiveRanking(settings, versions, loader)
    recommender = recommender_kind(
        settings, sessions, live, ranking, trending, lambda: uuid.uuid4().hex
    )
    impressions = ImpressionLog(
        settings, experiment, Producer(settings, timeout_s=_KAFKA_TIMEOUT_S), time.time
    )
    feed = Feed(settings, recommender, live, UserChanges(redis, settings), impressions)
    evaluation = EvaluationCache(settings.evaluation, EvaluationStore(redis, settings), time.time)
    eraser = Eraser(settings, producer, RedisEraser(redis, settings), time.time)
    freshness = Freshness(redis, sessions, PositionStore(redis, settings))
    admission = Admission(settings.serving)
    return Services(
        settings=settings,
        redis=redis,
        producer=producer,
        topics=Topics(settings),
        sessions=sessions,
        eraser=eraser,
        merger=Merger(settings, producer, sessions, freshness, eraser),
        catalog=catalog,
        catalog_writer=CatalogWriter(settings, producer, catalog),
        versions=versions,
        loader=loader,
        tasks=TaskStore(redis, settings),
        live=live,
        similar=similar,
        ranking=ranking,
        trending=trending,
        recommender=recommender,
        freshness=freshness,
        feed=feed,
        impressions=impressions,
        served=ImpressionStore(redis, settings),
        evaluation=evaluation,
        key_ring=KeyRing(
            settings, KeyStore(redis, settings), time.time, needs_key=not is_loopback(settings)
        ),
        metrics=Metrics(live, feed, impressions, evaluation, admission, workers),
        admission=admission,
        request_log=RequestLog(settings, _write_log),
    )


def _traceable(
    settings: Settings, tracing: Tracing | None
) -> tuple[Redis, Producer, Callable[..., Recommender]]:
    """Return what is another class, or has one more layer, when this server is traced."""
    if tracing is None:
        return (
            connect(settings, timeout_s=_REDIS_TIMEOUT_S),
            Producer(settings, timeout_s=_KAFKA_TIMEOUT_S),
            Recommender,
        )
    from headrace.tracing.kafka import TracedProducer
    from headrace.tracing.redis import traced_redis
    from serving.traced import TracedRecommender

    return (
        connect(settings, timeout_s=_REDIS_TIMEOUT_S, kind=traced_redis(tracing)),
        TracedProducer(settings, tracing, timeout_s=_KAFKA_TIMEOUT_S),
        partial(TracedRecommender, tracing),
    )


def _write_log(raw: bytes) -> None:
    """Write to standard error, past the text layer that others write to."""
    sys.stderr.flush()
    sys.stderr.buffer.write(raw)
    sys.stderr.buffer.flush()


def services(request: Request) -> Services:
    """Return the services of the server that this request came to."""
    found: Services = request.app.state.services
    return found

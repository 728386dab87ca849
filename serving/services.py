"""What the routes work with: one set for each model of a server, made when it starts."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from starlette.requests import Request

from headrace.cancellation import side_by_side
from headrace.catalog import CatalogStore
from headrace.evaluation import EvaluationStore
from headrace.experiment import Experiment, experiment_of
from headrace.figures import FiguresStore, Tally
from headrace.impressions import ImpressionStore
from headrace.keys import KeyStore
from headrace.model_settings import EventTopicNames
from headrace.popularity import PopularityStore
from headrace.positions import PositionStore
from headrace.producer import Producer
from headrace.redis_eraser import RedisEraser
from headrace.replaying.queue import ReplayQueue
from headrace.sessions import SessionStore
from headrace.settings import ExperimentSettings, Settings
from headrace.store import connect
from headrace.task_store import TaskStore
from headrace.topics import Topics
from headrace.transitions import TransitionStore
from headrace.trending import TrendingStore
from headrace.version_store import VersionStore
from serving.admission import Admission
from serving.catalog_writer import CatalogWriter
from serving.eraser import Eraser
from serving.evaluation import EvaluationCache
from serving.exposure import is_loopback
from serving.feed import Feed, OpenStreams
from serving.figures import FiguresView, RequestFigures
from serving.freshness import Freshness
from serving.impressions import ImpressionLog
from serving.item_search import ItemSearch
from serving.kafka_views import KafkaViews
from serving.key_ring import KeyRing
from serving.live_model import LiveModel
from serving.live_ranking import LiveRanking
from serving.merger import MergedTopics, Merger
from serving.metrics import Metrics
from serving.problems import Problem
from serving.recommender import Recommender
from serving.request_log import RequestLog
from serving.taking_up import Followed
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
class OfTopics:
    """What a server holds of a model's topics, once for all models that read them."""

    topics: Topics
    sessions: SessionStore
    transitions: TransitionStore
    trending: TrendingCache
    popularity: PopularityStore
    evaluation: EvaluationCache
    freshness: Freshness
    changes: UserChanges

    @property
    def merged(self) -> MergedTopics:
        """What merging a user takes."""
        return MergedTopics(self.topics, self.sessions, self.freshness)

    async def follow(self) -> None:
        """Follow whose sessions change and how versions fare, until cancelled."""
        await side_by_side(self.changes.follow(), self.evaluation.follow())


def new_id() -> str:
    """Return 32 hexadecimal digits that nobody has had, nor can guess."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Services:
    """The stores, the producer and the live model of one server, for one of its models."""

    settings: Settings
    redis: Redis
    producer: Producer
    topics: Topics
    sessions: SessionStore
    eraser: Eraser
    merger: Merger
    catalog: CatalogStore
    catalog_writer: CatalogWriter
    item_search: ItemSearch
    versions: VersionStore
    loader: VersionLoader
    tasks: TaskStore
    live: LiveModel
    similar: LiveModel
    """The model that says which items are like one, once it has a version."""
    ranking: LiveRanking
    followed: Mapping[str, Followed]
    """By its id, what this server has live of each model, those that help others among them."""
    trending: TrendingCache
    popularity: PopularityStore
    recommender: Recommender
    freshness: Freshness
    feed: Feed
    impressions: ImpressionLog
    served: ImpressionStore
    evaluation: EvaluationCache
    key_ring: KeyRing
    metrics: Metrics
    request_log: RequestLog
    kafka: KafkaViews
    replays: ReplayQueue
    request_figures: RequestFigures
    figures: FiguresView
    models: Mapping[str, Services]
    """Those of each model, by its id, this one among them; what is no model's own is the same."""
    of_topics: Sequence[OfTopics]
    """What there is of all models' topics."""
    admission: Admission
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    new_id: Callable[[], str] = new_id

    def of_model(self, model_id: str) -> Services:
        """Return those of a model. Raises `Problem` 404 when the server has no such model."""
        if model_id not in self.models:
            there = ", ".join(sorted(self.models))
            raise Problem(404, f"There is no model with the id {model_id!r}; there are {there}.")
        return self.models[model_id]

    def check_trained(self, model_id: str) -> None:
        """Raise `Problem` 404 for a model that cannot be trained."""
        trained = self.settings.trained_ids
        if model_id not in trained:
            there = f"{', '.join(trained)}; HEADRACE_MODELS adds others"
            raise Problem(404, f"There is no model with the id {model_id!r}; there are {there}.")

    def close_streams(self) -> None:
        """End all streams of all models."""
        for each in self.models.values():
            each.feed.close()


def create_services(
    settings: Settings, tracing: Tracing | None = None, workers: WorkerMetrics | None = None
) -> Services:
    """Return the services of the settings' model, and with them those of all others.

    They connect when they are first used. `workers`: with whom this process shares the server, if
    it does.
    """
    redis, producer, recommender_kind = _traceable(settings, tracing)
    catalog = CatalogStore(redis, settings)
    versions = VersionStore(redis, settings, producer)
    of_topics = {state.event_topics: _of_topics(redis, state) for state in settings.states}
    loader = VersionLoader(settings)
    lives = _live_models(settings, versions, catalog, loader, of_topics)
    similar = lives.get(settings.serving.similar_model_id) or LiveModel(
        settings,
        versions,
        catalog,
        of_topics[settings.event_topics].transitions,
        loader,
        Experiment("", ()),
        settings.serving.similar_model_id,
    )
    ranking = LiveRanking(settings, versions, loader)
    followed: Mapping[str, Followed] = {
        **lives,
        settings.serving.similar_model_id: similar,
        settings.serving.ranking_model_id: ranking,
    }
    impressions = {
        model_id: _impressions(settings.of_model(model_id), live)
        for model_id, live in lives.items()
    }
    open_streams: OpenStreams = set()
    eraser = Eraser(settings, producer, RedisEraser(redis, *settings.states), time.time)
    catalog_writer = CatalogWriter(settings, producer, catalog)
    item_search = ItemSearch(catalog)
    tasks = TaskStore(redis, settings)
    served = ImpressionStore(redis, settings)
    key_ring = KeyRing(
        settings, KeyStore(redis, settings), time.time, needs_key=not is_loopback(settings)
    )
    evaluations = {topics.clicks: of.evaluation for topics, of in of_topics.items()}
    admission = Admission(settings.serving)
    metrics = Metrics(
        lives, followed, open_streams, [*impressions.values()], evaluations, admission, workers
    )
    request_log = RequestLog(settings, _write_log)
    told = FiguresStore(redis, settings)
    request_figures = RequestFigures(Tally(told, "server", time.time))
    figures = FiguresView(told, versions, settings.evaluation.k, settings.model_ids, time.time)
    kafka = KafkaViews(settings)
    replays = ReplayQueue(redis, settings)
    parts = [each.merged for each in of_topics.values()]
    merger = Merger(producer, parts, eraser, time.time)
    models: dict[str, Services] = {}
    for model_id, live in lives.items():
        own = settings.of_model(model_id)
        state, log = of_topics[own.event_topics], impressions[model_id]
        # The second stage has learnt from lists of the settings' own model.
        is_own = model_id == settings.model_id
        own_ranking = ranking if is_own else LiveRanking(own, versions, loader)
        recommender = recommender_kind(
            own, state.sessions, live, own_ranking, state.trending, new_id
        )
        models[model_id] = Services(
            settings=own,
            redis=redis,
            producer=producer,
            topics=Topics(own),
            sessions=state.sessions,
            eraser=eraser,
            merger=merger,
            catalog=catalog,
            catalog_writer=catalog_writer,
            item_search=item_search,
            versions=versions,
            loader=loader,
            tasks=tasks,
            live=live,
            similar=similar,
            ranking=own_ranking,
            followed=followed,
            trending=state.trending,
            popularity=state.popularity,
            recommender=recommender,
            freshness=state.freshness,
            feed=Feed(own, recommender, live, state.changes, log, served, open_streams, new_id),
            impressions=log,
            served=served,
            evaluation=state.evaluation,
            key_ring=key_ring,
            metrics=metrics,
            admission=admission,
            request_log=request_log,
            kafka=kafka,
            replays=replays,
            request_figures=request_figures,
            figures=figures,
            models=models,
            of_topics=tuple(of_topics.values()),
        )
    return models[settings.model_id]


def _impressions(settings: Settings, live: LiveModel) -> ImpressionLog:
    producer = Producer(settings, timeout_s=_KAFKA_TIMEOUT_S)
    return ImpressionLog(settings, live.experiment, producer, time.time)


def _of_topics(redis: Redis, settings: Settings) -> OfTopics:
    sessions = SessionStore(redis, settings)
    return OfTopics(
        topics=Topics(settings),
        sessions=sessions,
        transitions=TransitionStore(redis, settings),
        trending=TrendingCache(TrendingStore(redis, settings), settings),
        popularity=PopularityStore(redis, settings),
        evaluation=EvaluationCache(
            settings.evaluation, EvaluationStore(redis, settings), time.time
        ),
        freshness=Freshness(redis, sessions, PositionStore(redis, settings)),
        changes=UserChanges(redis, settings),
    )


def _live_models(
    settings: Settings,
    versions: VersionStore,
    catalog: CatalogStore,
    loader: VersionLoader,
    of_topics: Mapping[EventTopicNames, OfTopics],
) -> dict[str, LiveModel]:
    """Return what each model has live, by the model's id; but of the second stage."""
    found = {}
    for model_id in settings.model_ids:
        if model_id == settings.serving.ranking_model_id != settings.model_id:
            continue
        own = settings.of_model(model_id)
        transitions = of_topics[own.event_topics].transitions
        # The arms are versions of the settings' own model.
        arms = settings.experiment if model_id == settings.model_id else ExperimentSettings()
        found[model_id] = LiveModel(
            own, versions, catalog, transitions, loader, experiment_of(arms)
        )
    return found


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
    """Return the services of the model that the request's path names, or of the settings' own."""
    found: Services = request.app.state.services
    model_id = request.path_params.get("model_id")
    return found.models.get(model_id, found) if model_id else found

"""The HTTP application: its routes, what they pass through, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from headrace.cancellation import cancel_until_done
from headrace.settings import Settings
from headrace.tracing import start_tracing
from serving.admission import RefusedEarly
from serving.bodies import MAX_BULK_BYTES
from serving.middleware import Measured
from serving.openapi.queries import names_by_route
from serving.paths import EncodedPath
from serving.problems import FORESEEN, handle_error, handle_gone, handle_http
from serving.routes import (
    docs,
    events,
    figures,
    health,
    items,
    key,
    models,
    recommendations,
    replays,
    tasks,
    tokens,
    topics,
    training,
    users,
)
from serving.routing import Guarded, of_models
from serving.services import create_services
from serving.worker_metrics import WorkerMetrics

if TYPE_CHECKING:
    from headrace.tracing.spans import Tracing

logger = logging.getLogger(__name__)

ROUTES = [
    *of_models(
        "/events", events.post_events, "events",
        methods=["POST"], for_users=True, max_bytes=MAX_BULK_BYTES,
    ),
    *of_models(
        "/recommendations", recommendations.post_recommendations, "recommend",
        methods=["POST"], for_users=True, admitted=True,
    ),
    Guarded(
        "/v1/recommendations/{recommendation_id}", recommendations.get_recommendation, "recommend",
        for_users=True,
    ),
    *of_models("/trending", recommendations.get_trending, "recommend"),
    *of_models("/users", users.get_users, "recommend"),
    *of_models("/users/{user_id}/interactions", users.get_interactions, "recommend"),
    *of_models(
        "/users/{user_id}/recommendations/stream", recommendations.get_stream, "recommend",
        for_users=True, streams=True,
    ),
    *of_models("/users/{user_id}/hidden", users.get_hidden, "recommend", for_users=True),
    *of_models(
        "/users/{user_id}/hidden/{item_id}", users.put_hidden, "recommend",
        methods=["PUT"], for_users=True,
    ),
    *of_models(
        "/users/{user_id}/hidden/{item_id}", users.delete_hidden, "recommend",
        methods=["DELETE"], for_users=True,
    ),
    Guarded("/v1/users/{user_id}/token", tokens.post_token, "recommend", methods=["POST"]),
    Guarded(
        "/v1/users/{user_id}/merge", users.post_merge, "events", methods=["POST"], for_users=True
    ),
    Guarded("/v1/users/{user_id}", users.delete_user, "erase", methods=["DELETE"]),
    Guarded("/v1/key", key.get_key, None),
    Guarded("/v1/figures", figures.get_figures, "train"),
    Guarded("/v1/replays", replays.get_replays, "admin"),
    Guarded("/v1/replays", replays.post_replay, "admin", methods=["POST"]),
    Guarded("/v1/replays/{replay_id}", replays.get_replay, "admin"),
    Guarded("/v1/replays/{replay_id}", replays.delete_replay, "admin", methods=["DELETE"]),
    Guarded("/v1/replays/{replay_id}/resume", replays.post_resume, "admin", methods=["POST"]),
    Guarded("/v1/replays/{replay_id}/promote", replays.post_promote, "admin", methods=["POST"]),
    Guarded("/v1/topics", topics.get_topics, "train"),
    Guarded("/v1/dead-letters", topics.get_dead_letters, "admin"),
    Guarded("/v1/dead-letters/{letter_id}", topics.get_dead_letter, "admin"),
    Guarded(
        "/v1/dead-letters/{letter_id}/resend", topics.post_resend, "admin", methods=["POST"]
    ),
    Guarded("/v1/items", items.get_items, "recommend"),
    Guarded(
        "/v1/items", items.post_items, "admin", methods=["POST"], max_bytes=MAX_BULK_BYTES
    ),
    Guarded("/v1/items/{item_id}", items.get_item, "recommend"),
    Guarded("/v1/items/{item_id}", items.put_item, "admin", methods=["PUT"]),
    Guarded("/v1/items/{item_id}", items.delete_item, "admin", methods=["DELETE"]),
    *of_models(
        "/items/{item_id}/similar", recommendations.get_similar, "recommend",
        admitted=True,
    ),
    *of_models(
        "/items/{item_id}/bought-together", recommendations.get_bought_together, "recommend"
    ),
    *of_models("/items/{item_id}/popularity", recommendations.get_popularity, "recommend"),
    Guarded("/v1/models", models.get_models, "train"),
    Guarded("/v1/models/{model_id}/versions", models.get_versions, "train"),
    Guarded("/v1/models/{model_id}/map", models.get_map, "recommend"),
    Guarded(
        "/v1/models/{model_id}/versions/{version}/activate", models.activate_version, "admin",
        methods=["POST"],
    ),
    Guarded(
        "/v1/models/{model_id}/versions/{version}/pin", models.pin_version, "admin",
        methods=["PUT"],
    ),
    Guarded("/v1/models/{model_id}/pin", models.unpin_model, "admin", methods=["DELETE"]),
    Guarded(
        "/v1/models/{model_id}/versions/{version}", models.delete_version, "admin",
        methods=["DELETE"],
    ),
    Guarded("/v1/models/{model_id}", models.put_model, "admin", methods=["PUT"]),
    Guarded("/v1/models/{model_id}", models.delete_model, "admin", methods=["DELETE"]),
    Guarded("/v1/models/{model_id}/rollback", models.roll_back, "admin", methods=["POST"]),
    Guarded(
        "/v1/models/{model_id}/train", training.train, "train", methods=["POST"], takes_files=True
    ),
    Guarded("/v1/tasks", tasks.get_tasks, "train"),
    Guarded("/v1/tasks/{task_id}", tasks.get_task, "train"),
    Guarded("/v1/tasks/{task_id}", tasks.delete_task, "train", methods=["DELETE"]),
    Guarded("/v1/tasks/{task_id}/log", tasks.get_task_log, "train"),
    # What needs no key tells of no user and changes nothing.
    Route("/livez", health.livez),
    Route("/readyz", health.readyz),
    Route("/metrics", health.metrics),
    Route("/openapi.json", docs.openapi),
    Route("/asyncapi.json", docs.asyncapi),
    Route("/docs", docs.page),
]  # fmt: skip


def create_app(settings: Settings, workers: WorkerMetrics | None = None) -> Starlette:
    """Return the application of one server. Raises `HeadraceError` when it cannot be traced.

    `workers`: with whom this process shares the server, if it does.
    """
    tracing = start_tracing(settings, "headrace-server")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        services = create_services(settings, tracing, workers)
        app.state.services = services
        app.state.query_names = names_by_route(ROUTES)
        await services.key_ring.refresh()
        followers = [
            asyncio.create_task(services.key_ring.follow(), name="follow the API keys"),
            asyncio.create_task(services.metrics.follow(), name="show other workers the metrics"),
            asyncio.create_task(services.request_figures.follow(), name="tell figures"),
            asyncio.create_task(services.request_log.follow(), name="write the log of requests"),
        ]
        followers += [
            asyncio.create_task(each.follow(), name=f"follow {model_id}'s live version")
            for model_id, each in services.followed.items()
        ]
        for model_id, each in services.models.items():
            followers += [
                asyncio.create_task(
                    each.feed.follow(), name=f"follow what {model_id}'s streams show"
                ),
                asyncio.create_task(each.impressions.follow(), name=f"log what {model_id} serves"),
            ]
        followers += [
            asyncio.create_task(of.follow(), name="follow what users do")
            for of in services.of_topics
        ]
        for follower in followers:
            follower.add_done_callback(_end_without)
        try:
            yield
        finally:
            services.close_streams()
            for follower in followers:
                await cancel_until_done(follower)
            for each in services.models.values():
                await each.impressions.close()
            await services.request_figures.tell()
            services.kafka.close()
            await services.catalog_writer.close()
            await services.eraser.close()
            await services.producer.close()
            await services.redis.aclose()
            if tracing is not None:
                await tracing.close()
            services.request_log.flush()

    return Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(EncodedPath),
            *_traced(tracing),
            Middleware(Measured),
            *_cors(settings),
            Middleware(RefusedEarly, routes=_admitted()),
        ],
        exception_handlers={
            HTTPException: handle_http,
            ClientDisconnect: handle_gone,
            **dict.fromkeys((*FORESEEN, Exception), handle_error),
        },
        lifespan=lifespan,
    )


def _admitted() -> dict[str, Guarded]:
    """Return by their paths the routes to which requests are admitted that come one by one."""
    return {
        route.path: route
        for route in ROUTES
        if isinstance(route, Guarded) and route.admitted and not route.param_convertors
    }


def _traced(tracing: Tracing | None) -> list[Middleware]:
    """Return what makes a span of each request, if the server is traced."""
    if tracing is None:
        return []
    from serving.traced import Traced

    return [Middleware(Traced, tracing=tracing)]


def _cors(settings: Settings) -> list[Middleware]:
    """Return what lets pages of other origins call, if settings name any."""
    origins = [origin.strip() for origin in settings.serving.cors_origins.split(",")]
    if not any(origins):
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(filter(None, origins)),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After", "WWW-Authenticate"],
        )
    ]


def _end_without(task: asyncio.Task[None]) -> None:
    """End the server when what it cannot do without has failed; its supervisor starts it again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("%s: failed; the server ends", task.get_name(), exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)

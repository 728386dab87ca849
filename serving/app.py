"""The HTTP application: its routes, what they pass through, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from headrace.cancellation import cancel_until_done
from headrace.settings import Settings
from serving.middleware import BearerKey, Measured
from serving.paths import EncodedPath
from serving.problems import FORESEEN, handle_error, handle_http
from serving.routes import docs, events, health, items, models, recommendations, tasks, users
from serving.services import create_services

logger = logging.getLogger(__name__)

ROUTES = [
    Route("/v1/events", events.post_events, methods=["POST"]),
    Route("/v1/recommendations", recommendations.post_recommendations, methods=["POST"]),
    Route("/v1/trending", recommendations.get_trending),
    Route("/v1/users/{user_id}/interactions", users.get_interactions),
    Route("/v1/users/{user_id}/recommendations/stream", recommendations.get_stream),
    Route("/v1/users/{user_id}/hidden", users.get_hidden),
    Route("/v1/users/{user_id}/hidden/{item_id}", users.put_hidden, methods=["PUT"]),
    Route("/v1/users/{user_id}/hidden/{item_id}", users.delete_hidden, methods=["DELETE"]),
    Route("/v1/users/{user_id}", users.delete_user, methods=["DELETE"]),
    Route("/v1/items", items.post_items, methods=["POST"]),
    Route("/v1/items/{item_id}", items.get_item, methods=["GET"]),
    Route("/v1/items/{item_id}", items.put_item, methods=["PUT"]),
    Route("/v1/items/{item_id}", items.delete_item, methods=["DELETE"]),
    Route("/v1/items/{item_id}/similar", recommendations.get_similar),
    Route("/v1/items/{item_id}/bought-together", recommendations.get_bought_together),
    Route("/v1/models", models.get_models),
    Route("/v1/models/{model_id}/versions", models.get_versions),
    Route(
        "/v1/models/{model_id}/versions/{version}/activate",
        models.activate_version,
        methods=["POST"],
    ),
    Route("/v1/models/{model_id}/rollback", models.roll_back, methods=["POST"]),
    Route(
        "/v1/models/{model_id}/recommendations",
        recommendations.post_model_recommendations,
        methods=["POST"],
    ),
    Route("/v1/models/{model_id}/train", models.train, methods=["POST"]),
    Route("/v1/tasks", tasks.get_tasks),
    Route("/v1/tasks/{task_id}", tasks.get_task),
    Route("/livez", health.livez),
    Route("/readyz", health.readyz),
    Route("/metrics", health.metrics),
    Route("/openapi.json", docs.openapi),
    Route("/docs", docs.page),
]


def create_app(settings: Settings) -> Starlette:
    """Return the application of one server."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        services = create_services(settings)
        app.state.services = services
        followers = [
            asyncio.create_task(services.live.follow(), name="follow the live version"),
            asyncio.create_task(services.feed.follow(), name="follow what streams show"),
        ]
        for follower in followers:
            follower.add_done_callback(_end_without)
        try:
            yield
        finally:
            services.feed.close()
            for follower in followers:
                await cancel_until_done(follower)
            await services.catalog_writer.close()
            await services.eraser.close()
            await services.producer.close()
            await services.redis.aclose()

    return Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(EncodedPath),
            Middleware(Measured),
            Middleware(BearerKey, key=settings.api_key),
        ],
        exception_handlers={
            HTTPException: handle_http,
            **dict.fromkeys((*FORESEEN, Exception), handle_error),
        },
        lifespan=lifespan,
    )


def _end_without(task: asyncio.Task[None]) -> None:
    """End the server when what it cannot do without has failed; its supervisor starts it again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("%s: failed; the server ends", task.get_name(), exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)

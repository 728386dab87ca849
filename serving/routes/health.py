"""Whether this server lives, whether it is ready, and its figures."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from serving.bodies import json_response
from serving.schemas.server import Ready
from serving.services import Services, services

_ANSWER_WITHIN_S = 1.0


async def livez(_: Request) -> Response:
    """Answer that the process lives."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """Answer 200 when requests may come, else 503; the body says why not.

    Redis and Kafka answer, and the versions that were live when this server started are taken up,
    or refused: until then it would show trending items, or in another order.
    """
    server = services(request)
    redis, kafka = await asyncio.gather(_redis_answers(server), _kafka_answers(server))
    live = server.live
    loading = not all(each.has_looked for each in server.followed.values())
    refusals = {model_id: each.refusal for model_id, each in server.followed.items()}
    ready = redis and kafka and not loading
    state = Ready(
        ready,
        redis,
        kafka,
        server.settings.model_id,
        live.version,
        loading,
        live.refusal,
        {model_id: each for model_id, each in refusals.items() if each},
        dict(live.arms),
    )
    return json_response(state, 200 if ready else 503)


async def metrics(request: Request) -> Response:
    """Return the metrics for Prometheus."""
    # In a thread: those of other workers stand in files.
    shown = await asyncio.to_thread(services(request).metrics.expose)
    return Response(shown, media_type="text/plain; version=0.0.4")


async def _redis_answers(server: Services) -> bool:
    try:
        await asyncio.wait_for(server.redis.ping(), _ANSWER_WITHIN_S)
    except (RedisError, OSError, asyncio.TimeoutError):
        return False
    return True


async def _kafka_answers(server: Services) -> bool:
    try:
        await asyncio.wait_for(server.producer.ping(), _ANSWER_WITHIN_S)
    except (KafkaError, OSError, asyncio.TimeoutError):
        return False
    return True

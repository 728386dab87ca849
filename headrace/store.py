"""The connection to Redis that every store shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Generic, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer

from headrace.settings import Settings

_TIMEOUT_S = 5.0
_serializer = HiredisRespSerializer()
_Read = TypeVar("_Read")
OnConnect = Callable[[AbstractConnection], Awaitable[None]]


def connect(
    settings: Settings,
    *,
    timeout_s: float = _TIMEOUT_S,
    on_connect: OnConnect | None = None,
    kind: type[Redis] = Redis,
) -> Redis:
    """Return a client for the Redis of these settings; it connects when it is first used.

    `timeout_s` bounds each wait for an answer. `on_connect` is awaited with each new connection,
    before any command goes over it. `kind` is the client's class.
    It never repeats a command by itself: who calls knows whether to wait, and for how long.
    """

    async def begin(connection: AbstractConnection) -> None:
        await connection.on_connect()
        if on_connect is not None:
            await on_connect(connection)

    client: Redis = kind.from_url(
        settings.redis,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        redis_connect_func=begin,
    )
    pool = client.connection_pool
    pool.connection_class = type("PackedConnection", (_Packed, pool.connection_class), {})
    return client


class _Packed(AbstractConnection):
    """A connection whose commands hiredis puts into bytes; redis-py does that for replies alone."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return the command as it goes over the wire."""
        packed: list[bytes] = _serializer.pack(*args)
        return packed


@dataclass(frozen=True)
class Reading(Generic[_Read]):
    """Something to be read from Redis, in one round trip with other things."""

    queue: Callable[[Pipeline], object]
    """Puts its commands into a pipeline."""
    parse: Callable[[list[Any]], _Read]
    """Makes what is read of the commands' answers."""


async def read_together(redis: Redis, *readings: Reading[Any]) -> list[Any]:
    """Return what the readings read, in one round trip; their commands run in the order given.

    Raises `redis.exceptions.RedisError`.
    """
    async with redis.pipeline(transaction=False) as pipeline:
        ends = [0]
        for reading in readings:
            reading.queue(pipeline)
            ends.append(len(pipeline))
        answers = await pipeline.execute()
    return [
        reading.parse(answers[first:end])
        for reading, first, end in zip(readings, ends, ends[1:], strict=False)
    ]


def load_script(name: str) -> str:
    """Return the text of a Lua script of this package."""
    return resources.files("headrace").joinpath(name).read_text(encoding="utf-8")


def text(value: object) -> str:
    """Return an answer of Redis's as text."""
    return value.decode() if isinstance(value, bytes) else str(value)

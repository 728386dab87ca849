"""The connection to Redis that every store shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice, pairwise
from typing import Any, Generic, TypeVar, Union

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.connection import HiredisRespSerializer
from redis.exceptions import NoScriptError

from headrace.settings import Settings

_TIMEOUT_S = 5.0
_serializer = HiredisRespSerializer()
_Read = TypeVar("_Read")
_Row = TypeVar("_Row")
OnConnect = Callable[[AbstractConnection], Awaitable[None]]


class DiscreetPipeline(Pipeline):
    """A pipeline whose errors are Redis's own words, and may be logged and shown."""

    def annotate_exception(
        self, exception: Exception, number: int, command: Iterable[object]
    ) -> None:
        """Leave an error as it is: redis-py adds the command, whose keys hold users' ids."""


class DiscreetRedis(Redis):
    """A client whose pipelines are discreet."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline."""
        return DiscreetPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


def connect(
    settings: Settings,
    *,
    timeout_s: float = _TIMEOUT_S,
    on_connect: OnConnect | None = None,
    kind: type[DiscreetRedis] = DiscreetRedis,
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


@dataclass(frozen=True)
class ScriptReading(Generic[_Read]):
    """Something that a Lua script reads, which has an answer for each key that it is given."""

    script: str
    """Its text. Those that ask for the same are one call of it."""
    keys: Sequence[str]
    parse: Callable[[list[Any]], _Read]
    """Makes what is read of the answers, one for each key."""


AnyReading = Union[Reading[Any], ScriptReading[Any]]


async def read_together(redis: Redis, *readings: AnyReading) -> list[Any]:
    """Return what the readings read, in one round trip; scripts first, then in the order given.

    Raises `redis.exceptions.RedisError`.
    """
    keys: dict[str, list[str]] = {}
    for reading in readings:
        if isinstance(reading, ScriptReading):
            keys.setdefault(reading.script, []).extend(reading.keys)
    async with redis.pipeline(transaction=False) as pipeline:
        for script, of_script in keys.items():
            # Not by its digest, which a Redis that was started anew would not know.
            pipeline.eval(script, len(of_script), *of_script)
        ends = [len(pipeline)]
        for reading in readings:
            if isinstance(reading, Reading):
                reading.queue(pipeline)
                ends.append(len(pipeline))
        answers = await pipeline.execute()
    by_script = dict(zip(keys, map(iter, answers), strict=False))
    spans = iter(pairwise(ends))
    return [
        reading.parse(list(islice(by_script[reading.script], len(reading.keys))))
        if isinstance(reading, ScriptReading)
        else reading.parse(answers[slice(*next(spans))])
        for reading in readings
    ]


def pieces(rows: Sequence[_Row], length: int) -> Iterator[Sequence[_Row]]:
    """Yield the rows in pieces of this length, and the rest."""
    for first in range(0, len(rows), length):
        yield rows[first : first + length]


async def pipelined(
    redis: Redis, queue: Callable[[Pipeline], object], script: AsyncScript
) -> list[Any]:
    """Return the answers to the commands that `queue` puts into a pipeline, in one round trip.

    Redis may refuse one of them and take the next, as when it is short of memory for a moment. A
    call that moves a mark on which one before it needs names what that one reaches, or what was
    refused would be taken for done ever after.

    It calls the script by `call`. Those that stand before it may be done twice, when Redis does not
    know the script yet. redis-py would ask whether it does each time. Raises
    `redis.exceptions.RedisError`.
    """
    try:
        return await _executed(redis, queue)
    except NoScriptError:
        await redis.script_load(script.script)
        return await _executed(redis, queue)


async def _executed(redis: Redis, queue: Callable[[Pipeline], object]) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipeline:
        queue(pipeline)
        return await pipeline.execute()


def call(pipeline: Pipeline, script: AsyncScript, keys: Sequence[str], *args: object) -> None:
    """Put a call of a script into a pipeline."""
    pipeline.evalsha(script.sha, len(keys), *keys, *args)  # type: ignore[arg-type]


def load_script(name: str) -> str:
    """Return the text of a Lua script of this package."""
    return resources.files("headrace").joinpath(name).read_text(encoding="utf-8")


def text(value: object) -> str:
    """Return an answer of Redis's as text."""
    return value.decode() if isinstance(value, bytes) else str(value)

"""Promoting a shadow: it becomes the live state, and workers go on from where it ends.

Phases, each of which can be repeated; the record of the exchange tells the one in hand:

1. `deleting`: live keys of the state that the shadow lacks are deleted.
2. `renaming`: the shadow's keys are renamed to the live ones', one by one, so that a user who asks
   meanwhile finds the old session or the new one; then its positions, then its record goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from headrace.errors import HeadraceError
from headrace.exchange import (
    ExchangeStore,
    ReadErasures,
    check_no_other,
    erase_since,
    exchanging,
    sole_writer,
)
from headrace.identity import generation_key
from headrace.replaying.shadow import ReplayRecord, Shadow, promotion, shadow_settings
from headrace.settings import Settings
from headrace.state import delete_keys, expires, scan_state
from headrace.store import connect

Progress = Callable[[str, int], None]
"""Is told the phase, and how many more keys it has done."""
DELETING, RENAMING = "deleting", "renaming"


async def promote(
    settings: Settings,
    namespace: str,
    read_erasures: ReadErasures,
    progress: Progress = lambda *_: None,
) -> None:
    """Make the shadow in this namespace the live state. Killed, it is to be run again.

    Users whose erasure is known after the replay are erased in it. Raises `HeadraceError` when
    there is no shadow that is complete, another exchange has not ended, or Kafka cannot tell who
    was erased, and `redis.exceptions.RedisError`.
    """
    command = promotion(settings, namespace)
    redis = connect(settings)
    try:
        exchange = ExchangeStore(redis, settings)
        await check_no_other(exchange, command)
        if await exchange.read() is None:
            await _check_complete(Shadow(redis, settings, namespace), namespace)
            await _check_single(redis)
    finally:
        await redis.aclose()
    await read_erasures()  # Nobody has to give way when they cannot be told.
    async with (
        exchanging(settings, command, DELETING) as redis,
        # Whoever may still replay into the shadow gives way, too. Only now: who comes later finds
        # the record of the exchange.
        sole_writer(shadow_settings(settings, namespace)),
    ):
        shadow, exchange = Shadow(redis, settings, namespace), ExchangeStore(redis, settings)
        under_way = await exchange.read()
        if under_way is None or under_way.phase == DELETING:
            await _delete_lacking(redis, settings, shadow, read_erasures, progress)
            await exchange.store(command, RENAMING)
        async for keys in scan_state(redis, shadow.settings):
            await _rename(redis, keys, shadow.settings, settings)
            progress(RENAMING, len(keys))
        if (record := await shadow.read()) is not None:
            # A server may have erased somebody in the state that was live until now.
            await erase_since(redis, settings, await read_erasures(), record.begun_at)
        positions = shadow.settings.state_key("positions").encode()
        await _rename(redis, [positions], shadow.settings, settings)
        await shadow.delete()
        await redis.delete(generation_key(shadow.settings))


async def _delete_lacking(
    redis: Redis,
    settings: Settings,
    shadow: Shadow,
    read_erasures: ReadErasures,
    progress: Progress,
) -> None:
    """Bring the shadow level with the erasures, and delete what it lacks of the live state."""
    try:
        # Again: since it was looked at, another promotion may have ended.
        record = await _check_complete(shadow, shadow.settings.namespace)
    except HeadraceError:
        await ExchangeStore(redis, settings).delete()
        raise
    await erase_since(redis, shadow.settings, await read_erasures(), record.begun_at)
    async for keys in scan_state(redis, settings):
        await delete_keys(redis, await _lacking(redis, keys, settings, shadow.settings))
        progress(DELETING, len(keys))


async def _check_complete(shadow: Shadow, namespace: str) -> ReplayRecord:
    record = await shadow.read()
    if record is None:
        raise HeadraceError(
            f"There is no shadow in {namespace}; `headrace replay --into {namespace}` makes one."
        )
    if not record.is_complete:
        raise HeadraceError(
            f"The replay into {namespace} has not come to its end; run it again to go on."
        )
    return record


async def _check_single(redis: Redis) -> None:
    """Raise `HeadraceError` on a cluster, where a key cannot be renamed into another slot."""
    if (await redis.info("cluster")).get("cluster_enabled"):
        raise HeadraceError(
            "This Redis is part of a cluster, where keys cannot be renamed from a shadow to the "
            "live state. Replay into the live state instead."
        )


async def _lacking(
    redis: Redis, keys: Sequence[bytes], live: Settings, other: Settings
) -> list[bytes]:
    """Return which of the live keys the shadow lacks."""
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.exists(_moved(key, live, other))
        there = await pipeline.execute() if keys else []
    return [key for key, found in zip(keys, there, strict=True) if not found]


async def _rename(redis: Redis, keys: Sequence[bytes], other: Settings, live: Settings) -> None:
    """Rename keys of the shadow to the live ones', in whose place they come."""
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            # First: renamed, it has it from the first moment.
            if expires(key, other):
                pipeline.expire(key, live.sessions.ttl_s)
            pipeline.rename(key, _moved(key, other, live))
        answers = await pipeline.execute(raise_on_error=False) if keys else []
    for answer in answers:
        # A scan may name a key twice, and a promotion that goes on finds some renamed.
        if isinstance(answer, ResponseError) and "no such key" in str(answer):
            continue
        if isinstance(answer, Exception):
            raise answer


def _moved(key: bytes, old: Settings, new: Settings) -> bytes:
    return new.state_key("").encode() + key.removeprefix(old.state_key("").encode())

"""A Redis that refuses one call of a pipeline and takes the others, as one short of memory may."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from events_log import NOW, logged
from impression_tools import impression
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import OutOfMemoryError

from headrace.aggregates import AggregateStore
from headrace.evaluation import EvaluationStore
from headrace.sessions import LoggedEvent, SessionStore
from headrace.settings import Settings
from headrace.state import NOTHING, state_hash

USERS = [f"user-{number}" for number in range(3)]
ITEMS = [f"item-{number}" for number in range(400)]
REFUSAL = "return redis.error_reply(\"OOM command not allowed when used memory > 'maxmemory'.\")"

NOTHING_YET = (NOTHING, {})
Apply = Callable[[Sequence[LoggedEvent]], Awaitable[object]]


async def into_sessions(redis: Redis, settings: Settings) -> Apply:
    return SessionStore(redis, settings).apply


async def into_aggregates(redis: Redis, settings: Settings) -> Apply:
    return AggregateStore(redis, settings).apply


async def into_scores(redis: Redis, settings: Settings) -> Apply:
    store = EvaluationStore(redis, settings)
    await store.keep([impression(user, NOW - 1, ITEMS[:10]) for user in USERS])
    return store.score


async def come_to(redis: Redis, settings: Settings) -> tuple[str, object]:
    """What the events have come to in this namespace."""
    return await state_hash(redis, settings), await EvaluationStore(redis, settings).read(NOW)


@pytest.mark.parametrize("refused", [0, 1, 2])
@pytest.mark.parametrize("into", [into_sessions, into_aggregates, into_scores])
async def test_what_was_refused_is_applied_when_the_batch_comes_again(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch, into: Any, refused: int
) -> None:
    rng = random.Random(3)
    batch = [
        logged(offset, rng.choice(USERS), rng.choice(ITEMS), NOW + offset / 10)
        for offset in range(1_000)
    ]
    whole = msgspec.structs.replace(settings, namespace=f"{settings.namespace}-whole")
    await (await into(redis, whole))(batch)
    apply = await into(redis, settings)
    plain, calls = Pipeline.evalsha, 0

    def evalsha(pipeline: Pipeline, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return pipeline.eval(REFUSAL, 0) if calls == refused + 1 else plain(pipeline, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "evalsha", evalsha)
        with pytest.raises(OutOfMemoryError):
            await apply(batch)
    assert calls > refused
    await apply(batch)
    assert await come_to(redis, settings) == await come_to(redis, whole) != NOTHING_YET

"""The connection to Redis that every store shares."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from headrace.settings import Settings


@pytest.mark.parametrize("transaction", [False, True])
async def test_an_error_of_a_pipeline_is_told_without_its_command(
    redis: Redis, settings: Settings, transaction: bool
) -> None:
    key = settings.key("user", "planted")
    await redis.set(key, "a text")
    async with redis.pipeline(transaction=transaction) as pipeline:
        pipeline.lpush(key, "planted")
        with pytest.raises(ResponseError, match="WRONGTYPE") as told:
            await pipeline.execute()
    assert "planted" not in str(told.value)

"""Scripts called in a pipeline: one round trip, whether or not Redis knows them already."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript

from headrace.store import call, pipelined

PUSH = "return redis.call('RPUSH', KEYS[1], ARGV[1])"


async def push(redis: Redis, script: AsyncScript, *values: str) -> list[int]:
    def queue(pipeline: Pipeline) -> None:
        pipeline.set("told", values[-1])
        for value in values:
            call(pipeline, script, ("list",), value)

    return (await pipelined(redis, queue, script))[1:]


async def test_a_redis_that_does_not_know_the_script_is_given_it(redis: Redis) -> None:
    script = redis.register_script(f"-- Of this test alone.\n{PUSH}")
    assert await redis.script_exists(script.sha) == [False]
    assert await push(redis, script, "a", "b") == [1, 2]
    await redis.script_flush()
    assert await push(redis, script, "c") == [3]
    assert await redis.lrange("list", 0, -1) == [b"a", b"b", b"c"]
    assert await redis.get("told") == b"c"


async def test_whether_it_is_known_is_not_asked(redis: Redis) -> None:
    script = redis.register_script(PUSH)
    await push(redis, script, "a")
    before = await redis.info("commandstats")
    await push(redis, script, "b", "c")
    after = await redis.info("commandstats")
    calls = {
        name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
        for name in after
        if name.startswith("cmdstat_script") or name == "cmdstat_evalsha"
    }
    assert {name for name, count in calls.items() if count} == {"cmdstat_evalsha"}
    assert calls["cmdstat_evalsha"] == 2

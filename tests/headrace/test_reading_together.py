"""Things read in one round trip: by commands, and by scripts that are called once for many."""

from __future__ import annotations

from events_log import logged
from redis.asyncio import Redis

from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.store import Reading, ScriptReading, read_together

COUNTS = "local n = {} for i, key in ipairs(KEYS) do n[i] = redis.call('LLEN', key) end return n"


def counts(*keys: str) -> ScriptReading[list[int]]:
    return ScriptReading(COUNTS, keys, lambda answers: answers)


def value(key: str) -> Reading[bytes | None]:
    return Reading(lambda pipeline: pipeline.get(key), lambda answers: answers[0])


async def test_each_reading_gets_its_own_answers(redis: Redis) -> None:
    await redis.rpush("two", "a", "b")
    await redis.rpush("one", "a")
    await redis.set("name", "ann")
    other = ScriptReading(f"-- Another script.\n{COUNTS}", ("two",), lambda answers: answers)
    readings = (
        counts("two", "none"),
        value("name"),
        other,
        counts(),
        counts("one"),
        value("nobody"),
    )
    assert await read_together(redis, *readings) == [[2, 0], b"ann", [2], [], [1], None]
    assert await read_together(redis) == []


async def test_sessions_read_together_are_those_read_one_by_one(
    redis: Redis, settings: Settings
) -> None:
    store = SessionStore(redis, settings)
    # An event that comes late, one of equal time, and an item met again: not in Redis's own order.
    times = {"ann": (3.0, 1.0, 2.0, 2.0), "bob": (5.0, 6.0, 7.0, 8.0)}
    for user_id, of_user in times.items():
        items = ("i1", "i2", "i4", "i3")
        rows = zip(items, of_user, strict=True)
        await store.apply(
            [logged(n, user_id, item, at, kind="click") for n, (item, at) in enumerate(rows)]
        )
    await store.apply([logged(9, "bob", "i1", 9.0, kind="rating", rating=4.0)])
    await store.hide("ann", "i7", now=1.0)
    users = ("bob", "nobody", "ann")
    together = await read_together(redis, *map(store.reading, users))
    assert together == [await store.read(user_id) for user_id in users]
    bob, nobody, ann = together
    assert bob.item_ids == ("i2", "i4", "i3", "i1")
    assert bob.ratings == (None, None, None, 4.0)
    assert (nobody.item_ids, nobody.applied) == ((), 0)
    assert ann.item_ids == ("i2", "i4", "i3", "i1")
    assert (ann.hidden, ann.applied) == (("i7",), 4)

"""Reads that come together are one round trip, and a failure reaches whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from headrace.store import Reading
from serving.shared_reads import SharedReads


class Trips:
    """Round trips that answer with what was asked, once they are let."""

    def __init__(self) -> None:
        self.made: list[list[Any]] = []
        self.go = asyncio.Event()
        self.failing = False

    async def __call__(self, readings: Sequence[Reading[Any]]) -> list[Any]:
        self.made.append([each.parse([]) for each in readings])
        await self.go.wait()
        if self.failing:
            raise RedisConnectionError("away")
        return self.made[-1]


def reading(name: str) -> Reading[str]:
    return Reading(lambda _: None, lambda _: name)


async def test_what_is_asked_during_a_round_trip_goes_into_the_next_one() -> None:
    trips = Trips()
    shared = SharedReads(trips)
    first = asyncio.create_task(shared.read(reading("a")))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(shared.read(*map(reading, names))) for names in ("bc", "", "d")]
    await asyncio.sleep(0.01)
    assert trips.made == [["a"]]
    trips.go.set()
    assert [await task for task in (first, *others)] == [["a"], ["b", "c"], [], ["d"]]
    assert trips.made == [["a"], ["b", "c", "d"]]


async def test_a_failure_is_that_of_all_who_waited_and_of_none_after() -> None:
    trips = Trips()
    trips.failing = True
    trips.go.set()
    shared = SharedReads(trips)
    found = await asyncio.gather(
        *(shared.read(reading(name)) for name in "ab"), return_exceptions=True
    )
    assert [type(error) for error in found] == [RedisConnectionError] * 2
    trips.failing = False
    assert await shared.read(reading("c")) == ["c"]


async def test_one_who_gives_up_takes_no_other_along() -> None:
    trips = Trips()
    shared = SharedReads(trips)
    tasks = [asyncio.create_task(shared.read(reading(name))) for name in "ab"]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    trips.go.set()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await tasks[1] == ["b"]

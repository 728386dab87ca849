"""Reads that are made together: what requests ask of Redis at the same time is one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from headrace.store import AnyReading

_AT_ONCE = 128
"""Requests read for in one round trip: bounds how long Redis does nothing else, and the wait."""

_Waiting = tuple[Sequence[AnyReading], "asyncio.Future[list[Any]]"]


class SharedReads:
    """Collects what is asked for while a round trip is under way, and reads it in the next one.

    So a busy server pays for the client library, and Redis for waking up, once for many requests;
    one that comes alone waits for nobody. While Redis does not answer, one round trip at a time
    finds out whether it still does not, and whoever comes meanwhile hears that at once.
    """

    def __init__(self, read: Callable[[Sequence[AnyReading]], Awaitable[list[Any]]]) -> None:
        """`read` reads these in one round trip, in their order."""
        self._read = read
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._hangs = False
        """Whether the last round trip had no answer in time."""

    async def read(self, *readings: AnyReading) -> list[Any]:
        """Return what the readings read, in a round trip that begins after this call.

        Raises what the round trip raises, and `redis.exceptions.TimeoutError` for the last one's.
        """
        if self._hangs and self._task is not None:
            raise RedisTimeoutError("Redis has not answered of late")
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((readings, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                await self._round_trip(some)
        finally:
            self._task = None

    async def _round_trip(self, some: Sequence[_Waiting]) -> None:
        try:
            found = await self._read([each for readings, _ in some for each in readings])
        except BaseException as exc:
            self._hangs = isinstance(exc, RedisTimeoutError)
            if self._hangs:
                some, self._waiting = [*some, *self._waiting], []
            # Whoever waits hears of it, of being cancelled too.
            for _, future in some:
                if not future.done():
                    future.set_exception(exc)
            if not isinstance(exc, Exception):
                raise
            return
        self._hangs = False
        first = 0
        for readings, future in some:
            if not future.done():
                future.set_result(found[first : first + len(readings)])
            first += len(readings)

"""How fast workers get through a backlog, and what processor time it takes them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from headrace.errors import HeadraceError
from streams.bench.filling import filler
from streams.bench.ground import Ground
from streams.bench.workers import Workers

_WARM_UP = 2_000
"""Events after which a worker has loaded and compiled all that it needs."""

Start = Callable[[Ground], AbstractAsyncContextManager[Workers]]


@dataclass(frozen=True)
class Throughput:
    """What a run came to, from the moment on when all events had been sent."""

    events: int
    """Done within it, out of the whole backlog."""
    seconds: float
    cpu_seconds: float
    """Of the workers, all of them together."""

    @property
    def events_per_s(self) -> float:
        """By the clock."""
        return self.events / self.seconds

    @property
    def events_per_cpu_s(self) -> float:
        """By the workers' processor time."""
        return self.events / self.cpu_seconds


async def throughput(
    ground: Ground, start: Start, events: int, advance: Callable[[int], object]
) -> Throughput:
    """Have workers settle on empty topics, fill these, and see how long the backlog lasts.

    Starting, joining the group and filling are not part of it. `advance` is told how many events
    are done. Raises `HeadraceError` when there are too few to tell.
    """
    log = ground.events
    total = _WARM_UP + events
    async with start(ground) as workers, filler(ground.settings) as filling:
        await filling.fill(log.pieces(_WARM_UP))
        await workers.until(_WARM_UP)
        await filling.fill(log.pieces(events, first=_WARM_UP))
        return await _backlog(workers.progress(total), workers.cpu_s, total, advance)


async def _backlog(
    progress: AsyncIterator[int],
    cpu_s: Callable[[], float],
    total: int,
    advance: Callable[[int], object],
) -> Throughput:
    first: tuple[int, float, float] | None = None
    async for done in progress:
        now = done, time.perf_counter(), cpu_s()
        first = first or now
        advance(done)
    if first is None or first[0] >= total:
        raise HeadraceError(
            f"{total:,} events were done before all were sent; give more with --events."
        )
    return Throughput(now[0] - first[0], now[1] - first[1], now[2] - first[2])

"""How long a worker that is busy takes to end when it is told to, and what it leaves undone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient

from headrace.errors import StackError
from headrace.kafka_clients import client_options
from headrace.local.process import last_lines
from headrace.settings import Settings
from headrace.topics import Topics
from streams.bench.filling import filler
from streams.bench.ground import Ground
from streams.bench.workers import shipped_workers

_BUSY_SHARE = 0.25
"""Of the events are done when the worker is told to end, so that it is in the midst of them."""
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Stop:
    """What a run came to."""

    seconds: float
    """From SIGTERM to the end of the process."""
    applied: int
    """Events that the worker had applied by then."""
    uncommitted: int
    """Of those, how many the group's offsets in Kafka do not cover."""


async def stop(ground: Ground, events: int, advance: Callable[[int], object]) -> Stop:
    """Tell a worker to end while it goes through so many events, and look at what it has done.

    Raises `StackError` when it does not end, or not well.
    """
    async with shipped_workers(ground) as workers, filler(ground.settings) as filling:
        await filling.fill(ground.events.pieces(events))
        async for done in workers.progress(round(_BUSY_SHARE * events)):
            advance(done)
        [child], [process], [log] = workers.children, workers.processes, workers.logs
        began = time.perf_counter()
        process.terminate()
        try:
            status = await asyncio.wait_for(child.wait(), _PATIENCE_S)
        except asyncio.TimeoutError:
            raise StackError(
                f"A worker that was told to end has not in {_PATIENCE_S:.0f} s:\n{last_lines(log)}"
            ) from None
        seconds = time.perf_counter() - began
        if status:
            raise StackError(f"A worker that was told to end did not end well:\n{last_lines(log)}")
        applied = await workers.count()
    committed = await asyncio.to_thread(_committed, ground.settings)
    return Stop(seconds, applied, applied - committed)


def _committed(settings: Settings) -> int:
    """Return how many events the group's offsets cover."""
    names = set(Topics(settings).events)
    admin = KafkaAdminClient(**client_options(settings))
    try:
        [offsets] = admin.list_group_offsets(settings.worker.group).values()
        return sum(of.offset for at, of in offsets.items() if at.topic in names)
    finally:
        admin.close()

"""Asks the system how it fares: the worker's heartbeat, the trainings, the versions."""

from __future__ import annotations

import asyncio
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.errors import HeadraceError
from headrace.heartbeats import HeartbeatStore
from headrace.local.demo.client import Busy, Client, RequestFailed
from headrace.local.demo.figures import Figures
from headrace.settings import Settings

_EVERY_S = 0.5


async def watch(client: Client, redis: Redis, settings: Settings, figures: Figures) -> None:
    """Bring the figures up to date twice a second, without end."""
    heartbeats = HeartbeatStore(redis, settings)
    while True:
        await _read_heartbeats(heartbeats, figures)
        await _read_model(client, figures)
        await asyncio.sleep(_EVERY_S)


async def wait_for_version(figures: Figures, events: int, timeout_s: float) -> bool:
    """Wait until a version trained on at least so many events is live; False when time is up.

    Raises `HeadraceError` when the newest training failed: no such version will come.
    """
    deadline = time.monotonic() + timeout_s
    while (live := figures.live) is None or live.data.events < events:
        if time.monotonic() > deadline:
            return False
        if figures.tasks and figures.tasks[0].status == "FAILED":
            raise HeadraceError(
                f"The training {figures.tasks[0].id} failed: {figures.tasks[0].error}. "
                "The trainer's log says more."
            )
        await asyncio.sleep(_EVERY_S / 2)
    return True


async def _read_heartbeats(heartbeats: HeartbeatStore, figures: Figures) -> None:
    try:
        beats = await heartbeats.read("worker")
    except RedisError:
        # Shown as a part that is not ready; the next look may tell more.
        return
    if beats:
        figures.applied = int(sum(beat.figures.get("applied", 0) for beat in beats))
        figures.lag = int(sum(beat.figures.get("lag", 0) for beat in beats))


async def _read_model(client: Client, figures: Figures) -> None:
    try:
        figures.tasks = await client.tasks()
        figures.versions = await client.versions()
    except Busy:
        # The next look may tell.
        return
    except RequestFailed as exc:
        figures.failures[str(exc)] += 1
        return
    for version in figures.versions:
        if version.live:
            figures.answered_by(version.version, now=time.time())

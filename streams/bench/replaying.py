"""How fast a replay builds the state anew from the topics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from headrace.replaying.course import Listener, ReplayOptions, passed, replay
from headrace.replaying.shadow import ReplayRecord, shadow_settings
from streams.bench.filling import filler
from streams.bench.ground import Ground, forget


@dataclass(frozen=True)
class Replay:
    """What a run came to."""

    events: int
    """Applied to a shadow that began empty."""
    seconds: float
    """From the asking on, without the start of a process and the digest of the state."""

    @property
    def events_per_s(self) -> float:
        """By the clock."""
        return self.events / self.seconds


async def replay_all(ground: Ground, events: int, advance: Callable[[int], object]) -> Replay:
    """Fill the topics with so many events and replay them into a shadow, as `headrace replay` does.

    No worker runs. Raises `HeadraceError`.
    """
    async with filler(ground.settings) as filling:
        await filling.fill(ground.events.pieces(events))

    def begun(record: ReplayRecord, goes_on: bool) -> None:
        """Nothing is told of it."""

    def moved(record: ReplayRecord) -> None:
        advance(passed(record))

    shadow = f"{ground.settings.namespace}-shadow"
    try:
        options = ReplayOptions(topics=None, into=shadow)
        began = time.perf_counter()
        record = await replay(ground.settings, options, Listener(begun, moved))
        seconds = time.perf_counter() - began
    finally:
        await forget(shadow_settings(ground.settings, shadow))
    applied = sum(counts.get("new", 0) for counts in record.counts.values())
    return Replay(applied, seconds)

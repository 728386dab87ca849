"""What a window is replayed into: the live state, a shadow, or nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from redis.asyncio import Redis

from headrace.aggregates import AggregateStore
from headrace.positions import PositionStore
from headrace.replaying.shadow import ReplayRecord, Shadow
from headrace.sessions import LoggedEvent, Outcome, SessionStore
from headrace.settings import Settings
from headrace.topics import Place


class Target(Protocol):
    """Takes events, each partition's in order; what it has taken changes nothing when repeated."""

    async def apply(self, events: Sequence[LoggedEvent]) -> Sequence[str]:
        """Apply events; return what became of each. Raises `redis.exceptions.RedisError`."""

    async def store(self, record: ReplayRecord) -> None:
        """Remember how far the replay has come, all before being applied."""


class LiveTarget:
    """The live state. What workers have applied changes nothing."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._sessions = SessionStore(redis, settings)
        self._aggregates = AggregateStore(redis, settings)

    async def apply(self, events: Sequence[LoggedEvent]) -> Sequence[Outcome]:
        """Apply events as a worker does."""
        outcomes = await self._sessions.apply(events)
        counted = [
            event for event, outcome in zip(events, outcomes, strict=True) if outcome != "erased"
        ]
        if counted:
            await self._aggregates.apply(counted)
        return outcomes

    async def store(self, record: ReplayRecord) -> None:
        """Do nothing: the marks tell what was applied."""


class ShadowTarget:
    """A state that is built from nothing and does not expire."""

    def __init__(self, redis: Redis, shadow: Shadow) -> None:
        self._shadow = shadow
        self._sessions = SessionStore(redis, shadow.settings, expiring=False)
        self._aggregates = AggregateStore(redis, shadow.settings, expiring=False)
        self._positions = PositionStore(redis, shadow.settings)

    async def apply(self, events: Sequence[LoggedEvent]) -> Sequence[Outcome]:
        """Apply events to sessions and aggregates at once: nobody is erased in a shadow."""
        outcomes, _ = await asyncio.gather(
            self._sessions.apply(events), self._aggregates.apply(events)
        )
        return outcomes

    async def store(self, record: ReplayRecord) -> None:
        """Store the record and, once it is complete, where workers go on after a promotion."""
        if record.is_complete:
            await self._positions.advance(
                {Place.parse(name): offset for name, offset in record.positions.items()}
            )
        await self._shadow.store(record)


class NoTarget:
    """Counts what would be applied."""

    async def apply(self, events: Sequence[LoggedEvent]) -> Sequence[str]:
        """Apply nothing."""
        return ["read"] * len(events)

    async def store(self, record: ReplayRecord) -> None:
        """Remember nothing."""

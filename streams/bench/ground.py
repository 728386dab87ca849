"""What one measurement stands on: topics, keys in Redis and a consumer group of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import delete_topics, ensure_topics
from streams.bench.events import MadeUpEvents

_KEYS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Ground:
    """Addresses, names and a folder; nothing is there yet but empty topics."""

    settings: Settings
    environ: Mapping[str, str]
    folder: Path
    """For logs."""

    @property
    def events(self) -> MadeUpEvents:
        """The events that go into its topics, the first of them now."""
        return MadeUpEvents(self.settings.topics.partitions, time.time())

    @asynccontextmanager
    async def fresh(self, name: str) -> AsyncIterator[Ground]:
        """Another ground of this name on the same servers, cleared away when the block ends.

        Raises `HeadraceError` when Kafka cannot make the topics.
        """
        settings = msgspec.structs.replace(
            self.settings,
            namespace=f"{self.settings.namespace}-{name}",
            topics=msgspec.structs.replace(
                self.settings.topics, prefix=f"{self.settings.topics.prefix}{name}-"
            ),
            worker=msgspec.structs.replace(
                self.settings.worker, group=f"{self.settings.worker.group}-{name}"
            ),
        )
        await asyncio.to_thread(ensure_topics, settings)
        try:
            yield Ground(settings, self.environ, self.folder)
        finally:
            await asyncio.to_thread(delete_topics, settings)
            await forget(settings)


async def forget(settings: Settings) -> None:
    """Delete every key of these settings' namespace."""
    redis = connect(settings)
    try:
        keys = [key async for key in redis.scan_iter(settings.key("*"), count=_KEYS_AT_ONCE)]
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            await redis.unlink(*keys[start : start + _KEYS_AT_ONCE])
    finally:
        await redis.aclose()

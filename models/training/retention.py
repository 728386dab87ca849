"""Deletes what is to go of the versions: those deleted by somebody, and those too old to be kept.

Servers need no right to write where versions lie: they mark, the trainer deletes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from headrace.artifact_store import ArtifactStore
from headrace.errors import ChangeRefused, StoreUnavailable
from headrace.experiment import experiment_of
from headrace.settings import Settings
from headrace.version_store import VersionStore

logger = logging.getLogger(__name__)

_EVERY_S = 5.0
_MARKED_S = 600.0
"""For which a mark outlasts its version's files: whoever checked the version before puts it live
within that time, if at all, and is refused."""


class Retention:
    """Goes through all models again and again."""

    def __init__(
        self,
        settings: Settings,
        versions: VersionStore,
        store: ArtifactStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keep = settings.versions.keep
        self._arms = {arm.version for arm in experiment_of(settings.experiment).arms}
        self._versions = versions
        self._store = store
        self._clock = clock
        self._gone_since: dict[str, dict[str, float]] = {}
        """By model and version that is marked, since when its files are known to be gone."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self.sweep()
            except (RedisError, KafkaError, OSError, StoreUnavailable) as exc:
                logger.warning("old versions cannot be deleted: %r", exc)
            await asyncio.sleep(_EVERY_S)

    async def sweep(self) -> None:
        """Go through all models once. Raises what Redis, Kafka and the artifacts' place raise."""
        found = await asyncio.to_thread(self._store.models)
        for model_id in sorted({*found, *await self._versions.models()}):
            await self._sweep(model_id)
            await self._versions.tell(model_id)

    async def _sweep(self, model_id: str) -> None:
        names = await asyncio.to_thread(self._store.versions, model_id)
        state = await self._versions.state(model_id)
        if state.deleted:
            gone = {*names, *state.gone}
        else:
            # 1. Mark those too old: a mark keeps them from going live from then on.
            there = [name for name in names if name not in state.gone]
            for version in there[self._keep :]:
                if version in self._arms:
                    continue
                if await self._retire(model_id, version):
                    logger.info("version %s of model %s is not kept any more", version, model_id)
            gone = set((await self._versions.state(model_id)).gone)
        # 2. Delete the files of those marked, and long after them the mark.
        for version in gone & set(names):
            await asyncio.to_thread(self._store.delete, model_id, version)
        await self._forget(model_id, gone)

    async def _forget(self, model_id: str, gone: Iterable[str]) -> None:
        now, known = self._clock(), self._gone_since.get(model_id, {})
        since = {version: known.get(version, now) for version in gone}
        old = [version for version in gone if now - since[version] >= _MARKED_S]
        await self._versions.forget(model_id, old)
        self._gone_since[model_id] = since

    async def _retire(self, model_id: str, version: str) -> bool:
        try:
            await self._versions.delete(
                model_id, version, now=self._clock(), reason="retention", unasked=True
            )
        except ChangeRefused:
            # It is live, pinned, or what a rollback leads to.
            return False
        return True

"""The second stage that is live, if there is one: loaded aside, then swapped in."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from redis.exceptions import RedisError

from headrace.errors import ArtifactInvalid, VersionNotFound
from headrace.settings import Settings
from headrace.versions import VersionStore, version_folder
from models.retrieval.ranker import Ranker

logger = logging.getLogger(__name__)


class LiveRanking:
    """The ranker of the version that is live, or None: then retrieval's order stands."""

    def __init__(self, settings: Settings, versions: VersionStore) -> None:
        self._settings = settings
        self._versions = versions
        self._refused: int | None = None
        self.ranker: Ranker | None = None

    async def follow(self) -> None:
        """Take up new versions, until cancelled."""
        while True:
            try:
                await self._look()
            except (RedisError, OSError) as exc:
                logger.warning("what ranking is live cannot be read: %r; serving goes on", exc)
            await asyncio.sleep(self._settings.serving.follow_s)

    async def _look(self) -> None:
        model_id = self._settings.serving.ranking_model_id
        live = await self._versions.live(model_id)
        there = self.ranker.manifest.version if self.ranker else None
        if live is None or live.version == there or live.sequence == self._refused:
            return
        try:
            folder = version_folder(Path(self._settings.artifacts), model_id, live.version)
            self.ranker = await asyncio.to_thread(Ranker, folder)
        except (ArtifactInvalid, VersionNotFound) as exc:
            # Until it is activated again: it may have been mended by then.
            self._refused = live.sequence
            logger.error("ranking %s is refused, %s goes on: %s", live.version, there, exc)
            return
        logger.info("ranking %s is live here", live.version)

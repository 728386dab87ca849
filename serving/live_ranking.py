"""The second stage that is live, if there is one: loaded aside, then swapped in."""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import RedisError

from headrace.errors import ArtifactInvalid, StoreUnavailable, VersionNotFound
from headrace.settings import Settings
from headrace.version_store import VersionStore
from models.retrieval.ranker import Ranker
from serving.outage import Outage
from serving.version_loader import VersionLoader

logger = logging.getLogger(__name__)


class LiveRanking:
    """The ranker of the version that is live, or None: then retrieval's order stands."""

    def __init__(self, settings: Settings, versions: VersionStore, loader: VersionLoader) -> None:
        self._settings = settings
        self._loader = loader
        self._versions = versions
        self._refused: int | None = None
        self.ranker: Ranker | None = None

    async def follow(self) -> None:
        """Take up new versions, until cancelled."""
        away = Outage(logger, "what ranking is live cannot be read; serving goes on")
        while True:
            try:
                await self._look()
            except (RedisError, OSError) as exc:
                away.met(exc)
            else:
                away.over()
            await asyncio.sleep(self._settings.serving.follow_s)

    async def _look(self) -> None:
        model_id = self._settings.serving.ranking_model_id
        live = await self._versions.live(model_id)
        there = self.ranker.manifest.version if self.ranker else None
        if live is None:
            if there is not None and await self._versions.was_deleted(model_id):
                self.ranker = None
            return
        if live.version == there or live.sequence == self._refused:
            return
        try:
            self.ranker = await asyncio.to_thread(self._loader.load_ranker, model_id, live.version)
        except (ArtifactInvalid, VersionNotFound) as exc:
            # Until it is activated again: it may have been mended by then.
            self._refused = live.sequence
            logger.error("ranking %s is refused, %s goes on: %s", live.version, there, exc)
            return
        except StoreUnavailable as exc:
            logger.warning("ranking %s cannot be fetched yet: %s", live.version, exc)
            return
        logger.info("ranking %s is live here", live.version)

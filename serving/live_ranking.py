"""The second stage that is live, if there is one: loaded aside, then swapped in."""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import RedisError

from headrace.settings import Settings
from headrace.version_store import VersionStore
from models.retrieval.ranker import Ranker
from serving.outage import Outage
from serving.taking_up import Refusal, TakingUp
from serving.version_loader import VersionLoader

logger = logging.getLogger(__name__)


class LiveRanking:
    """The ranker of the version that is live, or None: then retrieval's order stands."""

    def __init__(self, settings: Settings, versions: VersionStore, loader: VersionLoader) -> None:
        self._follow_s = settings.serving.follow_s
        self._model_id = settings.serving.ranking_model_id
        self._loader = loader
        self._versions = versions
        self._taking_up = TakingUp(self._model_id, versions, self._prepare, self._swap_in)
        self.ranker: Ranker | None = None
        self._has_looked = False

    @property
    def version(self) -> str | None:
        """The version that this server has live."""
        return self.ranker.manifest.version if self.ranker else None

    @property
    def refusal(self) -> Refusal | None:
        """The version that is live and not served here, and why; None while all is well."""
        return self._taking_up.refusal

    @property
    def refusals(self) -> int:
        """Versions refused since this server started."""
        return self._taking_up.refusals

    @property
    def has_looked(self) -> bool:
        """Whether the version that is live was looked for, and taken up if there was one."""
        return self._has_looked

    def is_loaded(self, version: str) -> bool:
        """Return whether a version is served here; one before it takes a moment to load."""
        return version == self.version

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
            await asyncio.sleep(self._follow_s)

    async def _look(self) -> None:
        live = await self._versions.live(self._model_id)
        if live is None:
            if self.ranker is not None and await self._versions.was_deleted(self._model_id):
                self.ranker = None
        elif live.version == self.version:
            self._taking_up.served()
        elif not self._taking_up.is_settled(live):
            await self._taking_up.take_up(live, self.version)
        self._has_looked = True

    async def _prepare(self, version: str) -> Ranker:
        # Its probes warm it up, too.
        return await asyncio.to_thread(self._loader.load_ranker, self._model_id, version)

    async def _swap_in(self, ranker: Ranker) -> None:
        self.ranker = ranker

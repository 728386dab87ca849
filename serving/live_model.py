"""The live model: a new version is loaded aside, checked, warmed up, then swapped in.

What is served is level with the catalogue: before a version is swapped in, and from then on, items
added since its training are put in and deleted ones taken out. Its rules follow what users do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from redis.exceptions import RedisError

from headrace.catalog import CatalogStore, Item
from headrace.errors import ArtifactInvalid, VersionNotFound
from headrace.sessions import Session
from headrace.settings import Settings
from headrace.transitions import TransitionStore
from headrace.versions import LiveVersion, VersionStore, version_folder
from models.retrieval.artifact import load_artifact
from models.retrieval.retriever import Retriever
from serving.live_rules import RulesFollower

logger = logging.getLogger(__name__)

_ITEMS_AT_ONCE = 64
"""Requests wait while items are put in: a millisecond or two for so many."""
_WARM_UP_CALLS = 20
"""The first calls of an interpreter allocate; they must not be a user's."""


class LiveModel:
    """The retriever of the version that is live, or None before the first."""

    def __init__(
        self,
        settings: Settings,
        versions: VersionStore,
        catalog: CatalogStore,
        transitions: TransitionStore,
    ) -> None:
        self._settings = settings
        self._versions = versions
        self._catalog = catalog
        self._transitions = transitions
        self._retriever: Retriever | None = None
        self._rules: RulesFollower | None = None
        self._sequence = 0
        self._refused: int | None = None

    @property
    def retriever(self) -> Retriever | None:
        """The retriever to answer from; a request keeps the one that it began with."""
        return self._retriever

    @property
    def version(self) -> str | None:
        """The version that this server has live."""
        return self._retriever.manifest.version if self._retriever else None

    async def follow(self) -> None:
        """Take up new versions, changes of the catalogue and transitions, until cancelled."""
        while True:
            try:
                await self.refresh()
            except (RedisError, OSError) as exc:
                logger.warning("what is live cannot be read: %r; serving goes on", exc)
            await asyncio.sleep(self._settings.serving.follow_s)

    async def refresh(self) -> None:
        """Look once for a new version, and for changes of the catalogue."""
        live = await self._versions.live(self._settings.model_id)
        if live is not None and live.version != self.version and live.sequence != self._refused:
            taken = await self._take_up(live)
            if not taken and self._retriever is None:
                await self._fall_back()
        elif self._retriever is not None:
            self._sequence, changes = await self._catalog.changes_since(self._sequence)
            if changes:
                await asyncio.to_thread(_level, self._retriever, changes)
        if self._rules is not None:
            await self._rules.catch_up()

    async def _fall_back(self) -> None:
        """Take up the newest version, of those that were live before, that is whole."""
        refused = self._refused
        for earlier in (await self._versions.history(self._settings.model_id))[1:]:
            if await self._take_up(earlier):
                break
        self._refused = refused

    async def _take_up(self, live: LiveVersion) -> bool:
        """Load a version aside and swap it in; return whether it could be."""
        version = live.version
        sequence, changes = await self._catalog.changes_since(0)
        try:
            folder = version_folder(
                Path(self._settings.artifacts), self._settings.model_id, version
            )
            retriever = await asyncio.to_thread(_load, folder, changes)
        except (ArtifactInvalid, VersionNotFound) as exc:
            # Until it is activated again: it may have been mended by then.
            self._refused = live.sequence
            logger.error(
                "version %s is refused, %s goes on serving: %s", version, self.version, exc
            )
            return False
        rules = RulesFollower(self._transitions, retriever)
        await rules.catch_up()
        self._retriever, self._sequence, self._rules = retriever, sequence, rules
        logger.info("version %s is live here", version)
        return True


def _load(folder: Path, changes: Mapping[str, Item | None]) -> Retriever:
    retriever = Retriever(load_artifact(folder))
    _level(retriever, changes)
    item_ids = tuple(retriever.popular[:10])
    session = Session(
        item_ids=item_ids,
        timestamps=tuple(float(place) for place in range(len(item_ids))),
        kinds=("click",) * len(item_ids),
        ratings=(None,) * len(item_ids),
    )
    for _ in range(_WARM_UP_CALLS):
        retriever.recommend(session, 10)
    return retriever


def _level(retriever: Retriever, changes: Mapping[str, Item | None]) -> None:
    retriever.remove_items([item_id for item_id, item in changes.items() if item is None])
    added = [item for item in changes.values() if item is not None]
    for first in range(0, len(added), _ITEMS_AT_ONCE):
        retriever.add_items(added[first : first + _ITEMS_AT_ONCE])

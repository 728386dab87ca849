"""A version is loaded aside and made ready: level with the catalogue and the rules, and warm."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.catalog import CatalogStore, Item
from headrace.sessions import Session
from headrace.transitions import TransitionStore
from models.retrieval.retriever import Retriever
from models.retrieval.throttle import Rest, Throttle, no_rest
from serving.deleted import DeletedItems
from serving.live_rules import RulesFollower
from serving.version_loader import VersionLoader

_ITEMS_AT_ONCE = 64
"""Whoever is being answered from another version has its turn after so many."""
_WARM_UP_CALLS = 20
"""The first calls of an interpreter allocate; they must not be a user's."""


@dataclass(frozen=True)
class Loaded:
    """A version that is served."""

    retriever: Retriever
    rules: RulesFollower

    @property
    def version(self) -> str:
        """Its name."""
        return self.retriever.manifest.version


Prepared = tuple[Loaded, DeletedItems]
"""A version, and how far in the catalogue it is."""


class Preparer:
    """Makes versions of a model ready to be served."""

    def __init__(
        self,
        model_id: str,
        loader: VersionLoader,
        catalog: CatalogStore,
        transitions: TransitionStore,
    ) -> None:
        self._model_id = model_id
        self._loader = loader
        self._catalog = catalog
        self._transitions = transitions

    async def prepare(self, version: str, *, beside: bool) -> Prepared:
        """Load a version aside, and bring it level with the catalogue; return how far that is.

        `beside`: another one answers meanwhile, and is not to be kept from it.

        Raises `ArtifactInvalid`, `VersionNotFound`, `StoreUnavailable`, `RedisError`.
        """
        loaded = await self._load(version, _rest(beside))
        aside = await self._level_aside(loaded.retriever)
        await loaded.rules.catch_up()
        await _make_warm(loaded.retriever, _rest(beside))
        return loaded, aside

    async def prepare_alone(self, version: str) -> Loaded:
        """Load a version without Redis: it knows what it knew when it was trained.

        Raises `ArtifactInvalid`, `VersionNotFound`, `StoreUnavailable`.
        """
        loaded = await self._load(version, no_rest)
        await _make_warm(loaded.retriever, no_rest)
        return loaded

    async def _load(self, version: str, rest: Rest) -> Loaded:
        retriever = await asyncio.to_thread(self._loader.load, self._model_id, version, rest)
        return Loaded(retriever, RulesFollower(self._transitions, retriever))

    async def _level_aside(self, retriever: Retriever) -> DeletedItems:
        """Bring a version that is not served yet level with the catalogue; return how far it is."""
        aside = DeletedItems()
        while True:
            through, changes = await self._catalog.changes_since(aside.settled)
            if not changes:
                return aside
            there = aside.settle(through, changes)
            retriever.remove_items([item_id for item_id in changes if item_id in aside])
            await asyncio.to_thread(_add, retriever, there)


def _add(retriever: Retriever, items: Sequence[Item]) -> None:
    for first in range(0, len(items), _ITEMS_AT_ONCE):
        retriever.add_items(items[first : first + _ITEMS_AT_ONCE])


def _rest(beside: bool) -> Rest:
    # Work begins with it.
    return Throttle() if beside else no_rest


async def _make_warm(retriever: Retriever, rest: Rest) -> None:
    await asyncio.to_thread(_warm_up, retriever, rest)
    # The garbage collector goes through what was made since, not through the items each time.
    gc.freeze()


def _warm_up(retriever: Retriever, rest: Rest) -> None:
    retriever.settle()
    item_ids = tuple(retriever.popular[:10])
    session = Session(
        item_ids=item_ids,
        timestamps=tuple(float(place) for place in range(len(item_ids))),
        kinds=("click",) * len(item_ids),
        ratings=(None,) * len(item_ids),
    )
    for _ in range(_WARM_UP_CALLS):
        retriever.recommend(session, 10)
        rest()

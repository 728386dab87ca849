"""The live model: a new version is loaded aside, checked, warmed up, then swapped in.

What is served is level with the catalogue: before a version is swapped in, and from then on, items
added since its training are put in and deleted ones taken out. A request reads the catalogue's news
together with what else it reads, so no answer names an item whose deletion came before it. A
version's rules follow what users do.

The version that was live before stays loaded, and level with all that, until the next one is loaded
in its place: a rollback to it is one pointer swap, however large it is, and no more than two are
held at any time, as while one is swapped for another. A server that has just started loads it once
it serves the live one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from redis.exceptions import RedisError

from headrace.cancellation import side_by_side
from headrace.catalog import CatalogStore, ChangedItem, Deletions
from headrace.errors import ArtifactInvalid, StoreUnavailable, VersionNotFound
from headrace.experiment import Experiment
from headrace.settings import Settings
from headrace.store import AnyReading
from headrace.transitions import TransitionStore
from headrace.version_store import VersionStore
from headrace.versions import ROLLED_BACK, LiveVersion
from models.retrieval.items import ItemTable
from models.retrieval.retriever import Retriever
from serving.deleted import DeletedItems
from serving.last_live import LastLive
from serving.outage import Outage
from serving.preparing import Loaded, Prepared, Preparer
from serving.shared_reads import SharedReads
from serving.taking_up import Refusal, TakingUp
from serving.version_loader import VersionLoader

logger = logging.getLogger(__name__)

_ITEMS_AT_ONCE = 64
"""Requests wait while items are put in: a millisecond or two for so many."""
_CHANGES_AT_ONCE = 256
"""Read in one round trip while serving."""
_ARMS_AGAIN_S = 15.0
"""Pause before a version of the experiment is tried again that could not be taken up."""


class LiveModel:
    """The version that is live, none before the first; and beside it those of an A/B test."""

    def __init__(
        self,
        settings: Settings,
        versions: VersionStore,
        catalog: CatalogStore,
        transitions: TransitionStore,
        loader: VersionLoader,
        experiment: Experiment,
        model_id: str | None = None,
    ) -> None:
        """`model_id`: the settings' if None. Another one holds no items while it has no version."""
        self._settings = settings
        self._model_id = model_id or settings.model_id
        self._holds_shelf = model_id is None
        self._preparer = Preparer(self._model_id, loader, catalog, transitions)
        self._taking_up = TakingUp(self._model_id, versions, self._prepare, self._swap_in)
        self._versions = versions
        self._catalog = catalog
        self.experiment = experiment
        self._live: Loaded | None = None
        self._last_live = LastLive(self._model_id, loader.store.local, self._preparer)
        self._makeshift: Loaded | None = None
        """What was live last, from a start without Redis until that says what is live."""
        self._former: Loaded | None = None
        """The one that was live before, in case of a rollback."""
        self._former_of: int | None = None
        """The number of the change since which that one was looked for."""
        self._arms: dict[str, Loaded] = {}
        """By name, the versions of the experiment, the live one if it is among them."""
        self._missing = self._none_loaded()
        """By name, why a version of the experiment is not served."""
        self._shelf = ItemTable()
        self._deleted = DeletedItems()
        self._levelling = asyncio.Lock()
        self._reads = SharedReads(self._read_now)
        self._has_looked = False
        self.knows_items = False
        """Whether the catalogue was gone through: without a version, what is shelved is all."""
        self._catalogue_away = Outage(logger, "the catalogue cannot be read")
        self.failures = 0
        """Requests since then that a version failed to answer."""

    @property
    def retriever(self) -> Retriever | None:
        """The retriever of the live version; a request keeps the one that it began with."""
        return self._answering.retriever if self._answering else None

    @property
    def _answering(self) -> Loaded | None:
        return self._live or self._makeshift

    def retriever_for(self, user_id: str | None) -> Retriever | None:
        """Return the retriever to answer a user from; None: a session of nobody's.

        It is the live one where the user's arm of the experiment is not served.
        """
        if user_id is not None and self._arms:
            arm = self._arms.get(self.experiment.version_for(user_id) or "")
            if arm is not None:
                return arm.retriever
        return self.retriever

    def stand_ins(self, failing: Retriever | None) -> list[Retriever]:
        """Return which versions may answer in place of one that fails, the first to try first.

        They are the live one, where that one is an arm of the experiment, and the one before it.
        """
        others = (loaded.retriever for loaded in (self._live, self._former) if loaded is not None)
        return [other for other in others if failing is not None and other is not failing]

    @property
    def shelf(self) -> ItemTable:
        """The items of the catalogue while there is no version, empty from then on."""
        return self._shelf

    @property
    def version(self) -> str | None:
        """The version that this server has live."""
        return self._answering.version if self._answering else None

    @property
    def versions(self) -> frozenset[str]:
        """The versions that are served: the live one, and those of the experiment."""
        return frozenset(loaded.version for loaded in self._served())

    def is_loaded(self, version: str) -> bool:
        """Return whether a version is served here, or was before the live one and is at hand."""
        return any(loaded.version == version for loaded in self._held())

    @property
    def arms(self) -> Mapping[str, str]:
        """By version of the experiment, `ready`, or why its users get the live version."""
        arms = (arm.version for arm in self.experiment.arms)
        return {version: self._missing.get(version, "ready") for version in arms}

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

    @property
    def deleted(self) -> DeletedItems:
        """The items that no answer may name."""
        return self._deleted

    async def read(self, *readings: AnyReading) -> list[Any]:
        """Read from Redis and, in the same round trip, what the catalogue has deleted.

        When this returns deleted items are out, and added ones in unless there are very many; one
        round trip more serves all requests that come upon a change. Raises `RedisError`, `OSError`.
        """
        return await self._reads.read(*readings)

    async def _read_now(self, readings: Sequence[AnyReading]) -> list[Any]:
        deletions, found = await self._catalog.read_with_deletions(self._deleted.heard, *readings)
        self._hear(deletions)
        behind = deletions.sequence - self._deleted.settled
        if 0 < behind <= _ITEMS_AT_ONCE:
            try:
                await self._settle_next(deletions.sequence)
            except (RedisError, OSError) as exc:
                logger.warning("new items cannot be read: %r", exc)
        return found

    async def hear(self) -> None:
        """Hear what the catalogue has deleted; while Redis is away what was known last counts."""
        try:
            await self.read()
        except (RedisError, OSError) as exc:
            self._catalogue_away.met(exc)
        else:
            self._catalogue_away.over()

    async def follow(self) -> None:
        """Take up new versions, changes of the catalogue and transitions, until cancelled."""
        # Side by side: loading a large version takes seconds, for which changes must not wait.
        await side_by_side(
            self._repeat(self._follow_version, "what is live"),
            self._repeat(self._follow_experiment, "the experiment's versions"),
            self._repeat(self._follow_changes, "the catalogue's changes"),
            self._repeat(self._follow_rules, "what users do"),
        )

    async def _repeat(self, look: Callable[[], Awaitable[None]], what: str) -> None:
        away = Outage(logger, f"{what} cannot be read; serving goes on")
        while True:
            try:
                await look()
            except (RedisError, OSError) as exc:
                away.met(exc)
            else:
                away.over()
            await asyncio.sleep(self._settings.serving.follow_s)

    async def _follow_version(self) -> None:
        """Look once for a new version."""
        try:
            live = await self._versions.live(self._model_id)
        except (RedisError, OSError):
            if self._answering is None and not self._has_looked:
                await self._make_do()
            raise
        if live is None:
            if self._answering is not None and await self._versions.was_deleted(self._model_id):
                await self._let_go()
        elif self._live is not None and live.version == self._live.version:
            self._taking_up.served()
            await self._last_live.note(live.version)
            await self._follow_former(live)
        elif not self._taking_up.is_settled(live):
            await self._take_up(live)
        self._has_looked = True

    async def _make_do(self) -> None:
        """Serve what was live last: there is no asking what is live."""
        loaded = await self._last_live.load()
        if loaded is not None:
            async with self._levelling:
                self._join(loaded, DeletedItems(), alone=False)
                self._makeshift = loaded

    async def _follow_experiment(self) -> None:
        """Look once whether versions of the experiment can be taken up that are not served yet."""
        # Beside the live one: it is what they are compared with, and what stands in for them.
        if self._live is None or not self._missing:
            return
        for version in list(self._missing):
            try:
                await self._take_up_arm(version)
            except (ArtifactInvalid, StoreUnavailable, VersionNotFound) as exc:
                if self._missing[version] != str(exc):
                    logger.error("arm %s: its users get the live version: %s", version, exc)
                self._missing[version] = str(exc)
            else:
                del self._missing[version]
                logger.info("version %s answers its share of the users here", version)
        if self._missing:
            await asyncio.sleep(_ARMS_AGAIN_S)

    async def _take_up_arm(self, version: str) -> None:
        """Serve a version of the experiment. Raises what `Preparer.prepare` raises."""
        if self._live is not None and version == self._live.version:
            self._arms[version] = self._live
            return
        loaded, aside = await self._prepare(version)
        async with self._levelling:
            self._join(loaded, aside, alone=False)
            self._arms[version] = loaded

    def _none_loaded(self) -> dict[str, str]:
        return {arm.version: "it is not loaded yet" for arm in self.experiment.arms}

    async def _follow_changes(self) -> None:
        """Look once for changes of the catalogue, and go through them."""
        deletions, _ = await self._catalog.read_with_deletions(self._deleted.heard)
        self._hear(deletions)
        while self._deleted.settled < deletions.sequence:
            await self._settle_next(deletions.sequence)
        self.knows_items = True

    async def _follow_rules(self) -> None:
        """Fold what users did since into the rules of the versions that are held."""
        for loaded in list(self._held()):
            await loaded.rules.catch_up()

    def _served(self) -> Iterator[Loaded]:
        if self._answering is not None:
            yield self._answering
        yield from [arm for arm in self._arms.values() if arm is not self._live]

    def _held(self) -> Iterator[Loaded]:
        """Yield what is kept level: the versions that are served, and the one before."""
        yield from self._served()
        if self._former is not None and self._former not in self._served():
            yield self._former

    def _hear(self, deletions: Deletions) -> None:
        new = self._deleted.hear(deletions)
        if new:
            self._remove(new)

    async def _settle_next(self, wanted: int) -> None:
        """Bring the retriever nearer to the change `wanted`, if it is not there yet."""
        async with self._levelling:
            if self._deleted.settled >= wanted:
                return
            _, changes = await self._catalog.changes_since(self._deleted.settled, _CHANGES_AT_ONCE)
            if not changes:
                self._deleted.settled = wanted
            rows = iter(changes.items())
            while piece := dict(islice(rows, _ITEMS_AT_ONCE)):
                # Here, not in a thread: what a request hears of comes before a piece or after it.
                self._settle(piece)
                await asyncio.sleep(0)

    def _settle(self, changes: Mapping[str, ChangedItem]) -> None:
        through = max(changed.number for changed in changes.values())
        there = self._deleted.settle(through, changes)
        self._remove([at for at in changes if at in self._deleted])
        for loaded in self._held():
            loaded.retriever.add_items(there)
        if self._live is None and self._holds_shelf:
            self._shelf.take(there)

    def _remove(self, item_ids: Collection[str]) -> None:
        for loaded in self._held():
            loaded.retriever.remove_items(item_ids)
        if self._live is None:
            self._shelf.withdraw(item_ids)

    async def _take_up(self, live: LiveVersion) -> None:
        """Swap in the version that is live; where it is not at hand, once it was loaded aside."""
        at_hand = self._at_hand(live.version)
        if at_hand is None:
            # Not three at a time.
            self._former = None
            await self._taking_up.take_up(live, self._live.version if self._live else None)
            return
        self._live, self._former = at_hand, self._live
        self._taking_up.served()
        logger.info("version %s is live here again", live.version)

    async def _prepare(self, version: str) -> Prepared:
        # A server that starts has nobody to make way for, and is to be ready soon.
        is_serving = self._answering is not None or self._has_looked
        return await self._preparer.prepare(version, beside=is_serving)

    async def _swap_in(self, prepared: Prepared) -> None:
        loaded, aside = prepared
        async with self._levelling:
            self._join(loaded, aside, alone=self._live is None and not self._arms)
            self._live, self._former, self._shelf = loaded, self._live, ItemTable()
            self._makeshift = None

    async def _follow_former(self, live: LiveVersion) -> None:
        """Look once for the version before the live one, if it is not held, and load it."""
        if self._former is not None or self._former_of == live.sequence:
            return
        # One that ops have left is not asked for soon, and may do harm here.
        left = live.reason == ROLLED_BACK
        before = None if left else (await self._versions.state(self._model_id)).before
        if before is not None and self._at_hand(before) is None:
            try:
                loaded, aside = await self._prepare(before)
            except (ArtifactInvalid, StoreUnavailable, VersionNotFound) as exc:
                logger.warning("version %s is not at hand for a rollback: %s", before, exc)
            else:
                async with self._levelling:
                    self._join(loaded, aside, alone=False)
                    self._former = loaded
        self._former_of = live.sequence

    def _at_hand(self, version: str) -> Loaded | None:
        """Return a version that is loaded and not the live one, if it is."""
        if self._former is not None and self._former.version == version:
            return self._former
        return self._arms.get(version)

    def _join(self, loaded: Loaded, aside: DeletedItems, *, alone: bool) -> None:
        """Have a version that was loaded aside hear of the catalogue from now on.

        `alone`: no other one is held beside it.
        """
        if alone:
            self._deleted.replace(aside.settled, aside.numbers)
        else:
            # All go through what either has yet to go through: a change that is gone through once
            # more changes nothing.
            self._deleted.settled = min(self._deleted.settled, aside.settled)
        loaded.retriever.remove_items(self._deleted.numbers)

    async def _let_go(self) -> None:
        """Serve no version any more: the model was deleted."""
        logger.warning("model %s was deleted: no version is live here", self._model_id)
        await self._last_live.forget()
        async with self._levelling:
            self._live = self._former = self._makeshift = None
            self._arms, self._missing = {}, self._none_loaded()
            # The shelf is filled from the catalogue's beginning.
            self._shelf, self._deleted = ItemTable(), DeletedItems()
            self.knows_items = False

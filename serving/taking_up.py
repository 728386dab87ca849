"""The version that is live is taken up: prepared aside, looked for once more, then swapped in.

One that cannot be is refused until it is activated again, and what was served before goes on; a
server that has nothing to go on with takes the newest version, of those that were live, that is
whole.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from headrace.errors import ArtifactInvalid, StoreUnavailable, VersionNotFound
from headrace.version_store import VersionStore
from headrace.versions import LiveVersion
from serving.outage import Outage

logger = logging.getLogger(__name__)

_Prepared = TypeVar("_Prepared")


class Refusal(Struct, frozen=True):
    """A version that is not served, and why."""

    version: str
    reason: str


class Followed(Protocol):
    """What a server has live of a model."""

    @property
    def version(self) -> str | None:
        """The version that this server has live."""

    @property
    def refusal(self) -> Refusal | None:
        """The version that is live and not served here, and why; None while all is well."""

    @property
    def refusals(self) -> int:
        """Versions refused since this server started."""

    @property
    def has_looked(self) -> bool:
        """Whether the version that is live was looked for, and taken up if there was one."""

    def is_loaded(self, version: str) -> bool:
        """Return whether a version is served here, or was before and is at hand."""

    async def follow(self) -> None:
        """Take up new versions, until cancelled."""


class _Overtaken(Exception):
    """Another version went live, or none is any more, while this one was prepared."""


class TakingUp(Generic[_Prepared]):
    """Takes up what is live of a model, and tells what was refused."""

    def __init__(
        self,
        model_id: str,
        versions: VersionStore,
        prepare: Callable[[str], Awaitable[_Prepared]],
        swap_in: Callable[[_Prepared], Awaitable[None]],
    ) -> None:
        """`prepare` raises `ArtifactInvalid`, `VersionNotFound`, `StoreUnavailable`."""
        self._model_id = model_id
        self._versions = versions
        self._prepare = prepare
        self._swap_in = swap_in
        self._settled: int | None = None
        """The number of the change that there is nothing more to do about."""
        self._refused: int | None = None
        """The number of the change whose version is refused."""
        self._unfit: set[str] = set()
        """Versions that cannot stand in for that one either."""
        self._away = Outage(logger, "a version from before cannot be fetched")
        self.refusal: Refusal | None = None
        """The version that is live and not served here, and why; None while all is well."""
        self.refusals = 0
        """Versions refused since this server started."""

    def is_settled(self, live: LiveVersion) -> bool:
        """Return whether this version cannot be taken up, unless it is activated again."""
        return live.sequence == self._settled

    def served(self) -> None:
        """Note that the version that is live is served here."""
        self._settled = self._refused = self.refusal = None

    async def take_up(self, live: LiveVersion, instead: str | None) -> None:
        """Serve the version that is live, unless it cannot be; `instead`: what is served now."""
        if live.sequence != self._refused:
            await self._try(live, instead)
        is_refused = live.sequence == self._refused
        if is_refused and (instead is not None or await self._fall_back(live)):
            self._settled = live.sequence

    async def _try(self, live: LiveVersion, instead: str | None) -> None:
        try:
            await self._serve(live.version, live)
        except _Overtaken:
            logger.info("version %s is not live any more, and not taken up", live.version)
        except (ArtifactInvalid, VersionNotFound) as exc:
            # Until it is activated again: it may have been mended by then.
            self._refused, self.refusal = live.sequence, Refusal(live.version, str(exc))
            self._unfit.clear()
            self.refusals += 1
            logger.error(
                "version %s is refused, %s goes on serving: %s", live.version, instead, exc
            )
        except StoreUnavailable as exc:
            if self.refusal is None:
                logger.warning("version %s cannot be fetched yet: %s", live.version, exc)
            self.refusal = Refusal(live.version, str(exc))
        else:
            self.served()

    async def _fall_back(self, live: LiveVersion) -> bool:
        """Serve the newest version, of those that were live before, that is whole.

        Returns False while there is none, and one of them may be had later. Raises `RedisError`.
        """
        may_be_had = False
        history = await self._versions.history(self._model_id)
        for version in dict.fromkeys(each.version for each in history):
            if version == live.version or version in self._unfit:
                continue
            try:
                await self._serve(version, live)
            except _Overtaken:
                return True
            except (ArtifactInvalid, VersionNotFound) as exc:
                self._unfit.add(version)
                self.refusals += 1
                logger.error("version %s cannot stand in for %s: %s", version, live.version, exc)
            except StoreUnavailable as exc:
                self._away.met(exc)
                may_be_had = True
            else:
                self._away.over()
                return True
        return not may_be_had

    async def _serve(self, version: str, live: LiveVersion) -> None:
        """Swap a version in, if the live one is live still: that may have taken long."""
        prepared = await self._prepare(version)
        now = await self._versions.live(self._model_id)
        if now is None or now.version != live.version:
            raise _Overtaken
        await self._swap_in(prepared)
        logger.info("version %s of %s is live here", version, self._model_id)

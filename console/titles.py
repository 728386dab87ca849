"""What items are called, read in one call for all of a list, and kept for a while."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from headrace_client import AsyncClient, HeadraceError, Item

_KEPT_S = 60.0
_MOST = 5_000
_AT_ONCE = 100
"""As many as the API takes."""


class Titles:
    """The items that a page has met, with titles and categories."""

    def __init__(self, api: AsyncClient) -> None:
        self.known: dict[str, Item] = {}
        self._api = api
        self._read_at: dict[str, float] = {}

    def forget(self, item_id: str) -> None:
        """Read an item anew the next time: it was changed."""
        self._read_at.pop(item_id, None)
        self.known.pop(item_id, None)

    async def find(self, item_ids: Iterable[str]) -> None:
        """Read those items that are not known, or were read long ago.

        One that cannot be read stays nameless: pages show its id.
        """
        now = time.monotonic()
        wanted = list(dict.fromkeys(item_ids))
        missing = [each for each in wanted if now - self._read_at.get(each, -_KEPT_S) >= _KEPT_S]
        if not missing:
            return
        if len(self._read_at) + len(missing) > _MOST:
            self._read_at.clear()
            self.known.clear()
            missing = wanted
        with contextlib.suppress(HeadraceError):
            for first in range(0, len(missing), _AT_ONCE):
                some = missing[first : first + _AT_ONCE]
                found = await self._api.items(ids=some)
                self.known.update((item.item_id, item) for item in found.items)
                self._read_at.update(dict.fromkeys(some, now))

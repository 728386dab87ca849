"""Turns that batches take at a step."""

from __future__ import annotations

import asyncio


class Turn:
    """One batch after the other, in the order in which they came; behind one that failed, none.

    The process ends then, and what failed is delivered again. A batch behind it that got through
    meanwhile would move the marks in Redis past it, so that it would count as known.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Wait for the turn."""
        await self._lock.acquire()

    def end(self) -> None:
        """Give the turn on."""
        self._lock.release()

    async def __aenter__(self) -> None:
        await self.begin()

    async def __aexit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            self.end()

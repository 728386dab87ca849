"""Coroutines that run beside one another until the block around them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from headrace.cancellation import cancel_until_done

T = TypeVar("T")


class Background:
    """Runs coroutines; leaving the block cancels those that still run.

    asyncio.TaskGroup does the like from Python 3.11 on.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()
        self._failed: list[BaseException] = []

    async def __aenter__(self) -> Background:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine beside the others; those started earlier begin earlier."""
        task = asyncio.ensure_future(coroutine)
        self._running.add(task)
        task.add_done_callback(self._settle)
        return task

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what this one returns. Raises the first failure, be it one of the others'."""
        task = self.start(coroutine)
        while not task.done():
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self.check()
        return task.result()

    def check(self) -> None:
        """Raise the first failure of those that have ended, if there is one."""
        if self._failed:
            raise self._failed[0]

    async def finish(self) -> None:
        """Wait until all have ended. Raises the first failure as soon as it comes."""
        while self._running and not self._failed:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        self.check()

    async def stop(self) -> None:
        """Cancel those that still run and wait until they have ended."""
        await asyncio.gather(*map(cancel_until_done, self._running), return_exceptions=True)

    def _settle(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._failed.append(exc)

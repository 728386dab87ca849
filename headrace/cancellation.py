"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_AGAIN_S = 0.1
T = TypeVar("T")


async def cancel_until_done(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks until they have ended, however they end; being cancelled does not end that.

    Once is not always enough: redis-py may make an error of its own of a call that is cancelled,
    and whoever waits that error out goes on.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait(left, timeout=_AGAIN_S)


async def side_by_side(*parts: Coroutine[Any, Any, None]) -> None:
    """Run these until one fails or this is cancelled, and then end all of them.

    `asyncio.gather` is done with the first part that ends, and leaves the others alone.
    """
    running = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.gather(*running)
    finally:
        await cancel_until_done(*running)


async def to_its_end(step: Coroutine[Any, Any, T]) -> T:
    """Await a step that is done whole or not at all: cancelled meanwhile, it ends before that."""
    running = asyncio.create_task(step)
    is_cancelled = False
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        # Nobody asks for its outcome; an error that nobody looks at would be logged as lost.
        await asyncio.gather(running, return_exceptions=True)
        raise asyncio.CancelledError
    return running.result()

"""Ending a task for certain."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.1


async def cancel_until_done(task: asyncio.Future[Any]) -> None:
    """Cancel the task until it has ended, however it ends.

    Once is not always enough: redis-py may make an error of its own of a call that is cancelled,
    and whoever waits that error out goes on.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)

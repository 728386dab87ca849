"""The parts of a stack together: started by their needs, watched, ended in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from headrace.local.keeper import Keeper, RestartPolicy
from headrace.local.parts import Part, PartStatus


class Supervisor:
    """Keeps the parts running.

    `on_change` is called with each change of a part, `say` with a line for the user on each death.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        logs: Path,
        on_change: Callable[[PartStatus], None],
        say: Callable[[str], None],
        policy: RestartPolicy | None = None,
    ) -> None:
        self._keepers = {
            part.name: Keeper(
                part,
                log=logs / f"{part.name}.log",
                policy=policy or RestartPolicy(),
                on_change=on_change,
                say=say,
            )
            for part in parts
        }
        self._tasks: dict[str, asyncio.Task[NoReturn]] = {}

    @property
    def statuses(self) -> list[PartStatus]:
        """How each part fares, in the order in which they were given."""
        return [keeper.status for keeper in self._keepers.values()]

    async def start(self) -> None:
        """Start every part as soon as its needs are met, and wait until all are ready.

        Raises `StackError` when one will not start; the others run on until `stop`.
        """
        for name, keeper in self._keepers.items():
            needs = [self._keepers[need] for need in keeper.part.needs]
            follows = [self._keepers[leader] for leader in keeper.part.follows]
            self._tasks[name] = asyncio.create_task(keeper.run(needs, follows))
        ready = asyncio.create_task(self._all_ready())
        try:
            await self._until(ready)
        finally:
            ready.cancel()

    async def wait(self) -> None:
        """Wait for as long as all goes well. Raises `StackError` when a part is given up."""
        await self._until()

    async def stop(self) -> None:
        """End every part, those that need others before the others."""
        while self._tasks:
            needed = {need for name in self._tasks for need in self._keepers[name].part.needs}
            stage = [self._tasks.pop(name) for name in list(self._tasks) if name not in needed]
            for task in stage:
                task.cancel()
            await asyncio.gather(*stage, return_exceptions=True)

    async def _all_ready(self) -> None:
        for keeper in self._keepers.values():
            await keeper.ready.wait()

    async def _until(self, *awaited: asyncio.Future[Any]) -> None:
        tasks = list(self._tasks.values())
        await asyncio.wait({*awaited, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                await task

"""Several workers and what supervises them: whatever ends is started again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from types import TracebackType

from parts import Part

from headrace.settings import Settings

_LOOK_S = 0.1


class Workers(AbstractAsyncContextManager["Workers"]):
    """So many workers of one group, each a process."""

    def __init__(
        self, count: int, settings: Settings, folder: Path, *, faults: Sequence[str] = ()
    ) -> None:
        self.ends: Counter[int] = Counter()
        """Exit statuses of the workers that ended by themselves."""
        self._settings = settings
        self._folders = [folder / f"worker-{number}" for number in range(count)]
        self._faults = faults
        self._parts: list[Part] = []
        self._stack = ExitStack()

    async def __aenter__(self) -> Workers:
        for folder in self._folders:
            folder.mkdir(parents=True)
            part = Part("worker", self._settings, folder, faults=self._faults)
            self._parts.append(self._stack.enter_context(part))
        self._supervision = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._supervision.cancel()
        self._stack.__exit__(kind, exc, traceback)

    def pick(self, rng: random.Random) -> Part:
        """Return any of them that runs."""
        return rng.choice([part for part in self._parts if part.runs])

    def kill(self, rng: random.Random) -> None:
        """Kill any of them; it is started again."""
        part = self.pick(rng)
        part.end(signal.SIGKILL)
        part.start()

    async def stop(self) -> list[tuple[int, float]]:
        """Ask all to end; return the exit status of each and the seconds that it took."""
        self._supervision.cancel()
        return [await asyncio.to_thread(_stop, part) for part in self._parts]

    def log(self) -> str:
        """What they have logged, over all their starts."""
        return "".join(part.log() for part in self._parts)

    async def _supervise(self) -> None:
        while True:
            for part in self._parts:
                if part.status is not None:
                    self.ends[part.status] += 1
                    part.start()
            await asyncio.sleep(_LOOK_S)


def _stop(part: Part) -> tuple[int, float]:
    begin = time.perf_counter()
    status = part.end(signal.SIGTERM)
    return status, time.perf_counter() - begin

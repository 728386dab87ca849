"""Events gathered into calls in the background, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from headrace_client._async import AsyncClient
from headrace_client.sending import MOST_EVENTS, Event, EventOutcome

_Waiting = tuple[Event, "asyncio.Future[EventOutcome]"]


class AsyncBatcher:
    """Sends events together: so many at the most, or so long after the first of them.

    `flush` waits until each event added so far has its outcome; `close`, or leaving the block, does
    it and ends. Events are sent in the order in which they were added.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        most: int = 1_000,
        within_s: float = 0.1,
        waiting: int = 50_000,
    ) -> None:
        """`most` events a call, at most 5,000; the first waits `within_s` seconds for others.

        `waiting`: how many events may wait; `add` waits for room while the server is away.
        """
        if not 1 <= most <= MOST_EVENTS:
            raise ValueError(f"most is {most}; a call takes 1 to {MOST_EVENTS:,} events")
        self._client = client
        self._most = most
        self._within_s = within_s
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(waiting)
        self._full = asyncio.Event()
        """Set when there is nothing more to wait for."""
        self._flushing = 0
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncBatcher:
        """Return the batcher, which is closed on leaving."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send what waits, and end."""
        await self.close()

    async def add(self, event: Event) -> asyncio.Future[EventOutcome]:
        """Take an event; return what will hold its outcome.

        It raises the `HeadraceError` of a call that failed as a whole: then send the event again.
        """
        if self._closed:
            raise RuntimeError("the batcher is closed")
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="headrace batcher")
        outcome: asyncio.Future[EventOutcome] = asyncio.get_running_loop().create_future()
        # Who does not look at it is not told of a failure by asyncio, either.
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        await self._queue.put((event, outcome))
        if self._queue.qsize() >= self._most - 1:
            self._full.set()
        return outcome

    async def flush(self) -> None:
        """Wait until each event added so far has its outcome."""
        self._flushing += 1
        self._full.set()
        try:
            await self._queue.join()
        finally:
            self._flushing -= 1

    async def close(self) -> None:
        """Send what waits, and end; the client stays open.

        Cancelled, it ends at once, and cancels the outcomes that are not known.
        """
        self._closed = True
        try:
            await self.flush()
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            while not self._queue.empty():
                self._queue.get_nowait()[1].cancel()

    async def _run(self) -> None:
        while True:
            batch: list[_Waiting] = []
            try:
                await self._gather(batch)
                await self._deliver(batch)
            finally:
                # Those that have no outcome get none any more.
                for _, outcome in batch:
                    outcome.cancel()
                    self._queue.task_done()

    async def _gather(self, batch: list[_Waiting]) -> None:
        batch.append(await self._queue.get())
        if not self._flushing and self._queue.qsize() < self._most - 1:
            self._full.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._within_s)
        while len(batch) < self._most and not self._queue.empty():
            batch.append(self._queue.get_nowait())

    async def _deliver(self, batch: list[_Waiting]) -> None:
        try:
            answer = await self._client.send_events([event for event, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits for the outcome hears of it
            for _, outcome in batch:
                if not outcome.done():
                    outcome.set_exception(error)
            return
        for (_, outcome), told in zip(batch, answer.events, strict=True):
            if not outcome.done():
                outcome.set_result(told)

"""Events gathered into calls in the background, for threads."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from concurrent.futures import Future
from types import TracebackType
from typing import Literal

from headrace_client._sync import Client
from headrace_client.sending import MOST_EVENTS, Event, EventOutcome

_Waiting = tuple[Event, "Future[EventOutcome]"]
_Mark = Literal["flush", "end"]


class Batcher:
    """Sends events together: so many at the most, or so long after the first of them.

    `flush` waits until each event added so far has its outcome; `close`, leaving the block, or the
    interpreter's end does it and ends. Any thread may add.
    """

    def __init__(
        self, client: Client, *, most: int = 1_000, within_s: float = 0.1, waiting: int = 50_000
    ) -> None:
        """`most` events a call, at most 5,000; the first waits `within_s` seconds for others.

        `waiting`: how many events may wait; `add` waits for room while the server is away.
        """
        if not 1 <= most <= MOST_EVENTS:
            raise ValueError(f"most is {most}; a call takes 1 to {MOST_EVENTS:,} events")
        self._client = client
        self._most = most
        self._within_s = within_s
        self._queue: queue.Queue[_Waiting | _Mark] = queue.Queue(waiting)
        self._adding = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="headrace batcher", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __enter__(self) -> Batcher:
        """Return the batcher, which is closed on leaving."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send what waits, and end."""
        self.close()

    def add(self, event: Event) -> Future[EventOutcome]:
        """Take an event; return what will hold its outcome.

        It raises the `HeadraceError` of a call that failed as a whole: then send the event again.
        Cancelled before its call begins, the event is not sent.
        """
        outcome: Future[EventOutcome] = Future()
        # Nothing may be queued behind the end.
        with self._adding:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._queue.put((event, outcome))
        return outcome

    def flush(self) -> None:
        """Wait until each event added so far has its outcome."""
        with self._adding:
            if not self._closed:
                self._queue.put("flush")
        self._queue.join()

    def close(self) -> None:
        """Send what waits, and end; the client stays open."""
        with self._adding:
            if self._closed:
                return
            self._closed = True
            self._queue.put("end")
        self._thread.join()
        atexit.unregister(self.close)

    def _run(self) -> None:
        mark: _Mark | None = None
        while mark != "end":
            batch, mark = self._gather()
            if batch:
                self._deliver(batch)
            for _ in range(len(batch) + (mark is not None)):
                self._queue.task_done()

    def _gather(self) -> tuple[list[_Waiting], _Mark | None]:
        """Wait for the events of a call; return them, and the mark that ended the waiting."""
        batch: list[_Waiting] = []
        deadline: float | None = None
        while len(batch) < self._most:
            try:
                following = self._queue.get(
                    timeout=None if deadline is None else max(0.0, deadline - time.monotonic())
                )
            except queue.Empty:
                break
            if isinstance(following, str):
                return batch, following
            batch.append(following)
            deadline = deadline or time.monotonic() + self._within_s
        return batch, None

    def _deliver(self, batch: list[_Waiting]) -> None:
        batch = [each for each in batch if each[1].set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            answer = self._client.send_events([event for event, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits for the outcome hears of it
            for _, outcome in batch:
                outcome.set_exception(error)
            return
        for (_, outcome), told in zip(batch, answer.events, strict=True):
            outcome.set_result(told)

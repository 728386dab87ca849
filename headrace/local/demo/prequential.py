"""Test, then learn: ask for a user's recommendations, then send what the user really did next.

Open loop: an event's time is that of the schedule, however long the answers take; none is dropped.
A user's events go one after another: an event's request waits for the acknowledgement of the one
before. The next request may still come before that event is in the session: that is what freshness
measures, and HR@k is what a user would see.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import TypeVar

from msgspec import Struct

from headrace.errors import HeadraceError
from headrace.events import Rating
from headrace.local.demo.background import Background
from headrace.local.demo.client import Accepted, Answer, Client, RequestFailed, patiently
from headrace.local.demo.figures import Figures

_AT_ONCE = 64
"""Users who are served side by side; far more than 200 events a second need."""
_POLL_S = 0.005
"""Between two looks for an event's mark: the resolution of freshness."""
_UNSEEN_AFTER_S = 10.0
_FAILURES_BORNE = 200
"""After so many the server is taken to be away for good."""
_SLOWER, _SLOWEST = 1.5, 10.0
"""By which the pace falls each time the server says that it is asked too much, and at the most."""
_QUICKER = 0.995
"""By which the time between two ticks shrinks again at each of them."""


T = TypeVar("T")


class PrequentialOptions(Struct, frozen=True):
    """How the events are sent."""

    events_per_second: float = 200.0
    k: int = 10
    """Recommendations asked for."""
    sample_every: int = 10
    """Freshness is measured of every tenth event."""
    patience_s: float = 60.0
    """For so long a request is made again of a server that has too much in hand."""


class Prequential:
    """Sends events one by one, each after asking for its user's recommendations."""

    def __init__(
        self,
        client: Client,
        figures: Figures,
        options: PrequentialOptions,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._figures = figures
        self._options = options
        self._now = now
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._schedule: Schedule | None = None

    async def run(self, ratings: Sequence[Rating], first: int) -> None:
        """Send the ratings from `first` on, and wait for every answer.

        Raises `HeadraceError` when the server fails again and again.
        """
        async with Background() as steps:
            schedule = self._schedule = Schedule(self._options.events_per_second)
            for position in range(first, len(ratings)):
                due = await schedule.next()
                steps.check()
                steps.start(self._step(steps, position, ratings[position], due))
            await steps.finish()

    async def keep_asking(self, user_ids: Sequence[str], done: asyncio.Event) -> None:
        """Ask for these users' recommendations, in turn and at the same pace, until it is done."""
        async with Background() as steps:
            schedule = self._schedule = Schedule(self._options.events_per_second)
            for count in range(10**9):
                if done.is_set():
                    break
                await schedule.next()
                steps.check()
                steps.start(self._ask_in_turn(user_ids[count % len(user_ids)]))
            await steps.finish()

    async def _step(self, steps: Background, position: int, rating: Rating, due: float) -> None:
        async with self._turns[rating.user_id], self._places:
            late = asyncio.get_running_loop().time() - due
            self._figures.latest_s = max(self._figures.latest_s, late)
            answer = await self._ask(rating.user_id)
            recommended = {item.id for item in answer.recommendations} if answer else set()
            self._figures.hits.add(position, model=rating.item_id in recommended)
            accepted = await self._send(rating)
        if accepted and position % self._options.sample_every == 0:
            steps.start(self._measure_freshness(rating.user_id, accepted))

    async def _ask_in_turn(self, user_id: str) -> None:
        async with self._places:
            await self._ask(user_id)

    async def _ask(self, user_id: str) -> Answer | None:
        """Return the user's recommendations, or None when the request failed, which is counted."""
        try:
            answer = await self._patiently(partial(self._timed, user_id))
        except RequestFailed as exc:
            self._fail(exc)
            return None
        if answer.model:
            self._figures.answered_by(answer.model.version, now=self._now())
        return answer

    async def _timed(self, user_id: str) -> Answer:
        at, began = self._now(), perf_counter()
        answer = await self._client.recommend(user_id, self._options.k)
        self._figures.requests.add(at, (perf_counter() - began) * 1_000)
        return answer

    async def _send(self, rating: Rating) -> Accepted | None:
        """Send the event; None when that failed, which is counted.

        It is not sent again, unless the server says to: nobody knows whether the first one went
        through.
        """
        try:
            accepted = await self._patiently(partial(self._client.send, rating))
        except RequestFailed as exc:
            self._fail(exc)
            return None
        self._figures.acknowledge(1)
        return accepted

    async def _measure_freshness(self, user_id: str, event: Accepted) -> None:
        """Ask until an answer carries the event; its acknowledgement has just arrived."""
        at, acknowledged = self._now(), perf_counter()
        while (waited := perf_counter() - acknowledged) < _UNSEEN_AFTER_S:
            asked = perf_counter()
            answer = await self._ask(user_id)
            if answer and answer.carries(event):
                self._figures.freshness.add(at, (perf_counter() - acknowledged) * 1_000)
                return
            await asyncio.sleep(max(asked + _POLL_S - perf_counter(), 0))
        self._figures.freshness.add(at, waited * 1_000)
        self._figures.unseen += 1

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, self._slow_down, self._options.patience_s)

    def _slow_down(self, pause_s: float) -> None:
        self._figures.turned_away += 1
        if self._schedule is not None:
            self._schedule.slow_down(pause_s)

    def _fail(self, exc: RequestFailed) -> None:
        self._figures.failures[str(exc)] += 1
        if self._figures.failed_requests > _FAILURES_BORNE:
            raise HeadraceError(
                f"{self._figures.failed_requests} requests have failed, the last one so: {exc}. "
                "The server's log says why."
            ) from exc


class Schedule:
    """Ticks at an even pace; a late tick does not move those after it.

    The pace falls when it is to slow down, and by and by is again what was asked for.
    """

    def __init__(self, per_second: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked = self._interval = 1 / per_second
        self._due = self._loop.time()

    async def next(self) -> float:
        """Wait for the next tick; return its time by the loop's clock."""
        # A pause may come while this waits.
        while (late := self._due - self._loop.time()) > 0:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(late)
        due = self._due
        self._due += self._interval
        self._interval = max(self._interval * _QUICKER, self._asked)
        return due

    def slow_down(self, pause_s: float) -> None:
        """Let no tick come for so many seconds, and those after it further apart."""
        resumed = self._loop.time() + pause_s
        # Requests that were made at once are turned away at once, and count once.
        if self._due < resumed - pause_s / 2:
            self._interval = min(self._interval * _SLOWER, self._asked * _SLOWEST)
        self._due = max(self._due, resumed)

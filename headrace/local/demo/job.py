"""The main job: a stream of real events through the whole system, measured at its two ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial

from msgspec import Struct
from redis.asyncio import Redis

from headrace.errors import HeadraceError
from headrace.local.demo.baselines import baseline_hits
from headrace.local.demo.client import Client, patiently
from headrace.local.demo.feed import feed
from headrace.local.demo.figures import Figures
from headrace.local.demo.oracle import Difference, differences, fold
from headrace.local.demo.prequential import Prequential, PrequentialOptions
from headrace.local.demo.summary import Summary, summarize
from headrace.local.demo.watch import wait_for_version
from headrace.local.movielens import MovieLens
from headrace.sessions import Session, SessionStore
from headrace.settings import Settings

K = 10
"""Recommendations asked for, as in HR@10."""
_ITEMS_A_CALL = 500
_TAKEN_WITHIN_S = 60.0
"""Of a server that has too much in hand."""
_TRAINED_WITHIN_S = 600.0
_SWAPPED_WITHIN_S = 180.0
"""After the last event."""
_AFTER_SWAP_S = 2.0
"""For so long requests go on after a swap that came later than the last event."""
_APPLIED_WITHIN_S = 30.0


class Outcome(Struct, frozen=True):
    """What came of it."""

    summary: Summary
    differing: list[Difference]
    """The users whose sessions are not what the file makes them."""


class MainJob:
    """The steps from an empty system to the summary, `figures` kept up to date all the while."""

    def __init__(
        self,
        data: MovieLens,
        figures: Figures,
        client: Client,
        redis: Redis,
        settings: Settings,
        events_per_second: float,
    ) -> None:
        self._data = data
        self._figures = figures
        self._client = client
        self._sessions = SessionStore(redis, settings)
        self._settings = settings
        self._prequential = Prequential(
            client, figures, PrequentialOptions(events_per_second=events_per_second, k=K)
        )
        self._first = figures.hits.first
        self._halfway = (self._first + figures.total) // 2

    async def run(self, began: float) -> Outcome:
        """Run the steps; `began` is when the demo did, by the monotonic clock.

        Raises `HeadraceError` when one of them cannot be done.
        """
        await self._put_catalogue()
        await self._send_first()
        await self._wait_for_first_version()
        await self._send_rest()
        await self._see_swap()
        sessions = await self._read_sessions()
        return self._sum_up(sessions, time.monotonic() - began)

    async def _put_catalogue(self) -> None:
        items = self._data.items
        self._figures.phase = f"putting {len(items):,} movies into the catalogue"
        for start in range(0, len(items), _ITEMS_A_CALL):
            put = partial(self._client.put_items, items[start : start + _ITEMS_A_CALL])
            await patiently(put, lambda _: None, _TAKEN_WITHIN_S)

    async def _send_first(self) -> None:
        self._figures.phase = f"sending the first {self._first:,} ratings to Kafka"
        ratings = self._data.ratings[: self._first]
        await feed(ratings, self._settings, self._figures.acknowledge)

    async def _wait_for_first_version(self) -> None:
        self._figures.phase = f"waiting for a version trained on all {self._first:,}"
        if not await wait_for_version(self._figures, self._first, _TRAINED_WITHIN_S):
            raise HeadraceError(
                f"No version trained on {self._first:,} events was live after "
                f"{_TRAINED_WITHIN_S:.0f} s; the trainer's log says how far it came."
            )

    async def _send_rest(self) -> None:
        ratings = self._data.ratings
        self._figures.phase = "counting popularity, sequential rules and item-kNN to compare with"
        hits = await asyncio.to_thread(baseline_hits, ratings, self._first, K)
        self._figures.hits.compare(hits)
        self._figures.phase = f"the last {len(ratings) - self._first:,}, one by one: ask, then send"
        await self._prequential.run(ratings, self._first)

    async def _see_swap(self) -> None:
        """Wait for the version that was due halfway, under load as long as it takes."""
        if self._knows_halfway():
            return
        figures = self._figures
        figures.phase = f"asking on until the version trained on {self._halfway:,} is live"
        figures.notes.append(
            f"The version trained on {self._halfway:,} events was not live yet when the last event "
            "had been sent; requests went on at the same pace until it was."
        )
        users = list({rating.user_id: None for rating in self._data.ratings[self._first :]})
        done = asyncio.Event()
        asking = asyncio.ensure_future(self._prequential.keep_asking(users, done))
        try:
            if await wait_for_version(figures, self._halfway, _SWAPPED_WITHIN_S):
                await asyncio.sleep(_AFTER_SWAP_S)
            else:
                figures.notes.append(f"It was not live after {_SWAPPED_WITHIN_S:.0f} s more.")
            done.set()
            await asking
        finally:
            asking.cancel()

    def _knows_halfway(self) -> bool:
        live = self._figures.live
        return live is not None and live.data.events >= self._halfway

    async def _read_sessions(self) -> dict[str, Session]:
        """Return all users' sessions once every event is applied, or when time is up."""
        self._figures.phase = "comparing every user's session with the file"
        users = list({rating.user_id: None for rating in self._data.ratings})
        deadline = time.monotonic() + _APPLIED_WITHIN_S
        while True:
            sessions = {user_id: await self._sessions.read(user_id) for user_id in users}
            if applied(sessions.values()) >= self._figures.sent or time.monotonic() > deadline:
                return sessions

    def _sum_up(self, sessions: dict[str, Session], seconds: float) -> Outcome:
        expected = fold(self._data.ratings, self._settings.sessions.limit)
        differing = differences(expected, sessions)
        if self._figures.turned_away:
            self._figures.notes.append(
                f"The server had too much in hand and said so {self._figures.turned_away:,} times: "
                "the demo waited as long as it was told, and asked on at a slower pace."
            )
        summary = summarize(
            self._figures,
            applied=applied(sessions.values()),
            differing=differing,
            seconds=seconds,
            now=time.time(),
        )
        return Outcome(summary, differing)


def applied(sessions: Iterable[Session]) -> int:
    """Return how many events have been applied to these sessions in all."""
    return sum(session.applied for session in sessions)

"""What a worker tells of itself over time: events, lag, how fresh its work is, how lists fare."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from headrace.dead_letters import Record
from headrace.figures import Tally
from headrace.popularity import PopularityTally
from headrace.sessions import LoggedEvent, Outcome
from headrace.topics import Place
from headrace.trending import TrendingStore
from streams.failure import AWAY
from streams.progress import Progress

logger = logging.getLogger(__name__)

_time = attrgetter("timestamp")


class WorkerFigures:
    """Tells what has been done since it told last."""

    def __init__(
        self, tally: Tally, progress: Progress, lags: Callable[[], Mapping[Place, int]]
    ) -> None:
        self._tally = tally
        self._progress = progress
        self._lags = lags
        self._told: Counter[tuple[str, str]] = Counter()

    def done(self, records: Sequence[Record]) -> None:
        """Note that the effects of a batch of events stand in Redis now.

        The oldest record's own time stands for all: what is told is never too good.
        """
        self._tally.time(("fresh",), self._tally.now - min(map(_time, records)), len(records))

    async def run(self) -> None:
        """Tell again and again, until cancelled."""
        while True:
            await self._tally.wait()
            await self.tell()

    async def tell(self) -> None:
        """Tell now."""
        events, scores = Counter(self._progress.events), self._progress.take_scores()
        topics = {*self._progress.topics.kinds, *(topic for topic, _ in events)}
        # Nothing is told as nothing: of another worker's topic it would be no figure at all.
        self._tally.counts.update({("events", topic): 0 for topic in topics})
        for (topic, outcome), count in (events - self._told).items():
            if outcome == "new":
                self._tally.counts["events", topic] += count
            self._tally.counts["outcomes", topic, outcome] += count
        self._told = events
        for label, score in scores.items():
            self._tally.counts["scored", label, "events"] += score.events
            self._tally.counts["scored", label, "hits"] += score.hits
            self._tally.counts["scored", label, "gain"] += score.gain
        self._tally.peaks = {
            ("lag", place.topic, str(place.partition)): lag for place, lag in self._lags().items()
        }
        try:
            await self._tally.tell()
        except AWAY as exc:
            logger.warning("figures cannot be told: %r", exc)


class Popularity:
    """What is popular now, for lists to be compared with; and counts of what items were met."""

    def __init__(self, trending: TrendingStore, count: int, tally: PopularityTally) -> None:
        """`count`: how many popular items are wanted."""
        self._trending = trending
        self._count = count
        self._tally = tally
        self.item_ids: Sequence[str] = ()
        """The most popular first, as when they were looked up last."""

    def met(self, events: Sequence[LoggedEvent], outcomes: Sequence[Outcome]) -> None:
        """Count the items of events that were new."""
        self._tally.count(
            (logged.event.timestamp, logged.event.item_id)
            for logged, outcome in zip(events, outcomes, strict=True)
            if outcome == "new"
        )

    async def refresh(self) -> None:
        """Tell what was met, and look up what is popular; without Redis what was counts on."""
        try:
            await self._tally.tell()
            self.item_ids = [item_id for item_id, _ in await self._trending.top(self._count)]
        except AWAY as exc:
            logger.warning("popular items cannot be told or read: %r", exc)

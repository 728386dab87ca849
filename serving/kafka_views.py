"""What ops see of Kafka over HTTP: topics as they stand, and dead letters.

Both block while they read, so all of it is done in one thread, one reading after the other; those
who ask at about the same time share one. kafka-python is loaded by the first who asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.topics import Topics
from serving.problems import RETRY_AFTER_S, Problem
from serving.schemas.topics import PartitionInfo, TopicInfo, TopicList

if TYPE_CHECKING:
    from headrace.erasures import Erasures
    from headrace.letters import Found, Letter
    from headrace.topic_figures import Look, TopicFigures, TopicsObserver

_FRESH_S = 1.5
"""So old may be what is answered."""
_OVER_S = (1.0, 20.0)
"""Rates are measured over so much, at the least and at the most, in seconds."""
_KEPT = 64
"""Answers remembered, the newest ones."""
_T = TypeVar("_T")


class KafkaViews:
    """Reads topics and dead letters for whoever asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(settings)
        self._thread = ThreadPoolExecutor(1, "read Kafka")
        self._reading = asyncio.Lock()
        self._answers: dict[object, tuple[float, Any]] = {}
        """With the time of the monotonic clock that each was made at."""
        self._observer: TopicsObserver | None = None
        self._last: Look | None = None

    async def topics(self) -> TopicList:
        """Return the topics as they stand. Raises `Problem` 503 while Kafka cannot be read."""
        return await self._shared("topics", self._look)

    async def dead_letters(self, reason: str | None, topic: str | None, limit: int) -> Found:
        """Return the newest dead letters whose reason holds a text, and that are from a topic.

        Raises `Problem` 503 while Kafka cannot be read.
        """
        wanted = (reason or "").lower()
        plain = self._topics.plain

        def is_wanted(letter: Letter) -> bool:
            of_topic = topic is None or plain(letter.topic) == plain(topic)
            return of_topic and wanted in letter.reason.lower()

        return await self._shared((wanted, topic, limit), lambda: self._find(is_wanted, limit))

    async def dead_letter(self, letter_id: str) -> tuple[Letter, bool]:
        """Return a dead letter and whether it was sent again. Raises `Problem` 404, 503."""
        found = await self._read(lambda: self._find(lambda letter: letter.id == letter_id, 1))
        if not found.letters:
            raise Problem(404, f"There is no dead letter {letter_id}.")
        return found.letters[0], found.letters[0].id in found.resent

    async def erasures(self) -> Erasures:
        """Return who was erased up to now. Raises `Problem` 503."""
        return await self._read(self._erasures)

    def forget(self) -> None:
        """Read anew what is asked for next: something has been changed."""
        self._answers.clear()

    def close(self) -> None:
        """Disconnect, when what is being read has been."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    async def _shared(self, key: object, read: Callable[[], _T]) -> _T:
        async with self._reading:
            made_at, answer = self._answers.get(key, (0.0, None))
            if answer is None or time.monotonic() - made_at > _FRESH_S:
                answer = await self._read(read)
                self._answers.pop(key, None)
                self._answers[key] = time.monotonic(), answer
                while len(self._answers) > _KEPT:
                    del self._answers[next(iter(self._answers))]
            found: _T = answer
            return found

    async def _read(self, read: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, read)
        except HeadraceError as exc:
            raise Problem(503, str(exc), retry_after_s=RETRY_AFTER_S) from exc

    def _look(self) -> TopicList:
        from headrace.topic_figures import TopicsObserver

        try:
            if self._observer is None:
                self._observer, self._last = TopicsObserver(self._settings), None
            first = self._last
            if first is None or not _OVER_S[0] <= time.monotonic() - first.at <= _OVER_S[1]:
                first = self._observer.look(self._topics.all)
                time.sleep(_OVER_S[0])
            last = self._observer.look(self._topics.all)
            rows = self._observer.compare(self._topics.all, first, last)
        except HeadraceError:
            self._disconnect()
            raise
        self._last = last
        over_s = round(last.at - first.at, 3)
        return TopicList(time.time(), over_s, last.unknown, [_info(row) for row in rows])

    def _find(self, wanted: Callable[[Letter], bool], limit: int) -> Found:
        from headrace.letters import find_letters, letters

        with closing(letters(self._settings)) as read:
            return find_letters(read, wanted, limit)

    def _erasures(self) -> Erasures:
        from headrace.erasure_log import read_erasures

        return read_erasures(self._settings)

    def _disconnect(self) -> None:
        if self._observer is not None:
            self._observer.close()
            self._observer = None


def _info(of: TopicFigures) -> TopicInfo:
    return TopicInfo(
        topic=of.topic,
        name=of.name,
        id=of.id,
        records=of.records,
        newest=of.newest,
        lag=of.lag,
        rate_in=of.rate_in,
        rate_out=of.rate_out,
        partitions=[
            PartitionInfo(
                each.partition,
                each.begin,
                each.end,
                each.newest,
                each.position,
                each.lag,
                each.rate_in,
                each.rate_out,
            )
            for each in of.partitions
        ],
    )

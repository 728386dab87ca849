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
from headrace.topics import DEAD_LETTERS, ERASURES, Topics
from serving.problems import RETRY_AFTER_S, Problem
from serving.schemas.topics import PartitionInfo, TopicInfo, TopicList

if TYPE_CHECKING:
    from headrace.erasures import Erasures
    from headrace.letters import Found, Letter
    from headrace.topic_figures import Ends, Look, TopicFigures, TopicsObserver

_FRESH_S = 1.5
"""So old may be what is answered."""
_OVER_S = (1.0, 20.0)
"""Rates are measured over so much, at the least and at the most, in seconds."""
_KEPT = 64
"""Answers remembered, the newest ones."""
_LISTS_KEPT = 8
"""Of dead letters, which may be large."""
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
        self._letters: dict[object, Found] = {}
        """What was found among the letters, as long as these are what they were."""
        self._letters_end: Ends | None = None

    async def topics(self) -> TopicList:
        """Return the topics as they stand. Raises `Problem` 503 while Kafka cannot be read."""
        return await self._shared("topics", self._look)

    async def dead_letters(
        self,
        reason: str | None,
        topic: str | None,
        limit: int,
        before: tuple[float, str] | None = None,
    ) -> Found:
        """Return the newest dead letters whose reason holds a text, and that are from a topic.

        `before`: as of `find_letters`. The topic is read when it holds something else than before.
        Raises `Problem` 503 while Kafka cannot be read.
        """
        wanted = (reason or "").lower()
        plain = self._topics.plain

        def is_wanted(letter: Letter) -> bool:
            of_topic = topic is None or plain(letter.topic) == plain(topic)
            return of_topic and wanted in letter.reason.lower()

        key = wanted, topic, limit, before
        return await self._shared(key, lambda: self._known(key, is_wanted, limit, before))

    async def dead_letter(self, letter_id: str) -> tuple[Letter, bool]:
        """Return a dead letter and whether it was sent again. Raises `Problem` 404, 503."""
        found = await self._read(
            lambda: self._known(letter_id, lambda letter: letter.id == letter_id, 1)
        )
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
        try:
            observer, first = self._observing(), self._last
            if first is None or not _OVER_S[0] <= time.monotonic() - first.at <= _OVER_S[1]:
                first = observer.look(self._topics.all)
                time.sleep(_OVER_S[0])
            last = observer.look(self._topics.all)
            rows = observer.compare(self._topics.all, first, last)
        except HeadraceError:
            self._disconnect()
            raise
        self._last = last
        over_s = round(last.at - first.at, 3)
        return TopicList(time.time(), over_s, last.unknown, [_info(row) for row in rows])

    def _known(
        self,
        key: object,
        wanted: Callable[[Letter], bool],
        limit: int,
        before: tuple[float, str] | None = None,
    ) -> Found:
        """Return the letters that are wanted, read anew once any came, or somebody was erased."""
        from headrace.letters import find_letters, letters

        try:
            end = self._observing().ends((DEAD_LETTERS, ERASURES))
        except HeadraceError:
            self._disconnect()
            raise
        if end != self._letters_end:
            self._letters, self._letters_end = {}, end
        if key not in self._letters:
            with closing(letters(self._settings)) as read:
                self._letters[key] = find_letters(read, wanted, limit, before)
            while len(self._letters) > _LISTS_KEPT:
                del self._letters[next(iter(self._letters))]
        return self._letters[key]

    def _observing(self) -> TopicsObserver:
        from headrace.topic_figures import TopicsObserver

        if self._observer is None:
            self._observer, self._last = TopicsObserver(self._settings), None
        return self._observer

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

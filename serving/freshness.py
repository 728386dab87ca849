"""Waiting until a user's session has seen events, each named by its token.

An event has been seen when the user's mark has reached it, or when workers are done with all that
its partition held up to it: it may have been invalid, erased, or another user's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.positions import Applied, PositionStore
from headrace.sessions import Mark, SessionStore
from headrace.store import read_together
from headrace.tokens import Token, newest

logger = logging.getLogger(__name__)

_SHORTEST_S = 0.002
_LONGEST_S = 0.05
_SHARE = 0.25
"""Of the time that a request has waited, how long it pauses until it looks again."""


class Seen(Struct, frozen=True):
    """What a session has seen, when Redis was asked."""

    marks: Mapping[str, Mark]
    applied: Applied

    def has(self, token: Token, topic_ids: Mapping[str, str] | None = None) -> bool:
        """Return whether this event counts in the session, or never will.

        `topic_ids`: of which topics it is one; None: of those that workers read.
        """
        topic_id = (topic_ids or self.applied.topic_ids).get(token.topic)
        mark = self.marks.get(f"{token.topic}/{token.partition}")
        if mark is not None and mark.offset >= token.offset and topic_id in (None, mark.topic_id):
            return True
        return any(
            place.topic == token.topic
            and place.partition == token.partition
            and topic_id in (None, place.topic_id)
            and end > token.offset
            for place, end in self.applied.positions.items()
        )


_NOTHING = Seen({}, Applied({}, {}))


class Freshness:
    """Looks for tokens in Redis; all requests that wait look together, in one round trip."""

    def __init__(
        self,
        redis: Redis,
        sessions: SessionStore,
        positions: PositionStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._sessions = sessions
        self._positions = positions
        self._clock = clock
        self._users: set[str] = set()
        """Who is looked for in the next round trip."""
        self._next: asyncio.Task[dict[str, Seen]] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def unseen(
        self,
        user_id: str,
        tokens: Sequence[Token],
        within_s: float,
        topic_ids: Mapping[str, str] | None = None,
    ) -> list[Token]:
        """Wait until the user's session has seen these; return those that it has not by then.

        `topic_ids`: the ids of the tokens' topics; None: they are of those that workers read.
        While Redis is away nothing is known to be seen.
        """
        # Who has seen the newest of a partition has seen the others.
        last = newest(tokens)
        begin = self._clock()
        while True:
            seen = await self._look(user_id)
            waited = self._clock() - begin
            if all(seen.has(token, topic_ids) for token in last):
                return []
            if waited >= within_s:
                return [token for token in tokens if not seen.has(token, topic_ids)]
            pause = min(max(_SHORTEST_S, _SHARE * waited), _LONGEST_S)
            await asyncio.sleep(min(pause, within_s - waited))

    async def _look(self, user_id: str) -> Seen:
        self._users.add(user_id)
        if self._next is None:
            self._next = asyncio.create_task(self._read(), name="look for tokens")
        try:
            # Others wait for the same answer: who gives up must not cancel it.
            return (await asyncio.shield(self._next))[user_id]
        except (RedisError, OSError) as exc:
            logger.warning("it cannot be read what sessions have seen: %r", exc)
            return _NOTHING

    async def _read(self) -> dict[str, Seen]:
        """Read what has been seen by all who ask until the reading begins."""
        async with self._one_at_a_time:
            users, self._users, self._next = sorted(self._users), set(), None
            applied, *marks = await read_together(
                self._redis,
                self._positions.reading(),
                *(self._sessions.reading_marks(user_id) for user_id in users),
            )
        return {user: Seen(each, applied) for user, each in zip(users, marks, strict=True)}
